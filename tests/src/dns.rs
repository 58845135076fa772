//! Names of a cluster: as much of DNS as it takes to ask for an address and to be told one (RFC 1035), over UDP and TCP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bed::Family;
use crate::namespace::Namespace;
use crate::place::Protocol;

const A: u16 = 1;
const AAAA: u16 = 28;
const IN: u16 = 1;
/// Bytes of a header.
const HEADER: usize = 12;
/// An answer, to which more was not asked to be known.
const RESPONSE: u16 = 0x8400;
const RECURSION_DESIRED: u16 = 0x0100;
const FORMAT_ERROR: u16 = 1;
const NO_SUCH_NAME: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;
/// The name in an answer is the one in the question.
const SAME_NAME: u16 = 0xc000 | 12;
/// Seconds that an answer may be remembered.
const LIFE: u32 = 5;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Names and their addresses.
type Names = Arc<RwLock<BTreeMap<String, Vec<IpAddr>>>>;

/// A server that knows some names, and no others.
#[derive(Debug)]
pub struct Server {
    names: Names,
}

impl Server {
    /// Starts answering at addresses.
    ///
    /// # Errors
    /// When one cannot be bound.
    pub fn start(namespace: &Namespace, addresses: &[SocketAddr]) -> Result<Self> {
        let names = Names::default();
        for address in addresses {
            let bind = || Ok::<_, std::io::Error>((UdpSocket::bind(address)?, TcpListener::bind(address)?));
            let bound = namespace.run(bind)?.with_context(|| format!("cannot serve on {address}"))?;
            let (socket, listener) = bound;
            let (known, also) = (Arc::clone(&names), Arc::clone(&names));
            thread::spawn(move || answer_datagrams(&socket, &known));
            thread::spawn(move || answer_connections(&listener, &also));
        }
        Ok(Self { names })
    }

    /// Has a name lead to these addresses.
    pub fn put(&self, name: &str, addresses: &[IpAddr]) {
        let mut names = self.names.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        names.insert(name.to_lowercase(), addresses.to_vec());
    }
}

fn answer_datagrams(socket: &UdpSocket, names: &Names) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = answer(&buffer[..length], names) {
            // Whoever asked may be gone; the next one counts.
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn answer_connections(listener: &TcpListener, names: &Names) {
    for stream in listener.incoming().flatten() {
        let names = Arc::clone(names);
        thread::spawn(move || converse(stream, &names));
    }
}

fn converse(mut stream: TcpStream, names: &Names) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    loop {
        let question = read_framed(&mut stream)?;
        let Some(answer) = answer(&question, names) else { return Ok(()) };
        stream.write_all(&framed(&answer)?)?;
    }
}

/// Over TCP, messages are preceded by their lengths.
fn framed(message: &[u8]) -> Result<Vec<u8>> {
    let mut framed = u16::try_from(message.len())?.to_be_bytes().to_vec();
    framed.extend(message);
    Ok(framed)
}

fn read_framed(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// The name at a place, in lower case, and where it ends.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some((labels.join("."), at + 1)),
            length @ 1..=63 => {
                let label = message.get(at + 1..at + 1 + length)?;
                labels.push(String::from_utf8_lossy(label).to_lowercase());
                at += 1 + length;
            }
            // Names in questions refer to nothing before them.
            _ => return None,
        }
    }
}

/// What a message is answered with; nothing if it is no question.
fn answer(message: &[u8], names: &Names) -> Option<Vec<u8>> {
    let flags = number(message, 2)?;
    let is_question = flags & 0x8000 == 0;
    let header = |code: u16, questions: u16, answers: u16| {
        let flags = RESPONSE | (flags & RECURSION_DESIRED) | code;
        [number(message, 0).unwrap_or_default(), flags, questions, answers, 0, 0]
            .map(u16::to_be_bytes)
            .concat()
    };
    if !is_question {
        return None;
    }
    if flags & 0x7800 != 0 {
        return Some(header(NOT_IMPLEMENTED, 0, 0));
    }
    let question = name(message, HEADER).filter(|_| number(message, 4) == Some(1));
    let read = question.and_then(|(name, end)| Some((name, number(message, end)?, end + 4)));
    let Some((name, kind, end)) = read.filter(|(_, _, end)| *end <= message.len()) else {
        return Some(header(FORMAT_ERROR, 0, 0));
    };
    let known = names.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&name).cloned();
    let code = if known.is_none() { NO_SUCH_NAME } else { 0 };
    let records: Vec<Vec<u8>> = known.unwrap_or_default().iter().filter_map(|ip| record(kind, *ip)).collect();
    let mut answer = header(code, 1, u16::try_from(records.len()).ok()?);
    answer.extend(&message[HEADER..end]);
    answer.extend(records.concat());
    Some(answer)
}

fn record(kind: u16, address: IpAddr) -> Option<Vec<u8>> {
    let data = match (kind, address) {
        (A, IpAddr::V4(ip)) => ip.octets().to_vec(),
        (AAAA, IpAddr::V6(ip)) => ip.octets().to_vec(),
        _ => return None,
    };
    let length = u16::try_from(data.len()).ok()?;
    let mut record = [SAME_NAME, kind, IN].map(u16::to_be_bytes).concat();
    record.extend(LIFE.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend(data);
    Some(record)
}

/// Asks a server for a name's addresses of a family, from a namespace.
///
/// # Errors
/// When it does not answer, or knows no such name.
pub fn resolve(
    namespace: &Namespace,
    server: SocketAddr,
    protocol: Protocol,
    wanted: &str,
    family: Family,
) -> Result<Vec<IpAddr>> {
    let kind = if family == Family::V4 { A } else { AAAA };
    let mut question = [0x4242, RECURSION_DESIRED, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
    for label in wanted.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.as_bytes());
    }
    question.push(0);
    question.extend([kind, IN].map(u16::to_be_bytes).concat());
    let answer = namespace.run(|| exchange(server, protocol, &question))?;
    let answer = answer.with_context(|| format!("{server} does not answer over {}", protocol.name()))?;
    ensure!(number(&answer, 0) == Some(0x4242), "an answer to something else");
    let code = number(&answer, 2).unwrap_or_default() & 0xf;
    ensure!(code == 0, "{server} does not know {wanted}: code {code}");
    let records = answer.get(question.len()..).context("a short answer")?;
    read_addresses(records, number(&answer, 6).unwrap_or_default())
}

fn exchange(server: SocketAddr, protocol: Protocol, question: &[u8]) -> Result<Vec<u8>> {
    match protocol {
        Protocol::Udp => {
            let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(server)?;
            socket.send(question)?;
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer)?;
            Ok(buffer[..length].to_vec())
        }
        Protocol::Tcp => {
            let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&framed(question)?)?;
            read_framed(&mut stream)
        }
        Protocol::Sctp => bail!("nobody is asked over SCTP"),
    }
}

/// Reads records that all have the question's name.
fn read_addresses(mut records: &[u8], count: u16) -> Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for _ in 0..count {
        let length = usize::from(number(records, 10).context("a short record")?);
        let data = records.get(12..12 + length).context("a short record")?;
        match length {
            4 => addresses.push(<[u8; 4]>::try_from(data)?.into()),
            16 => addresses.push(<[u8; 16]>::try_from(data)?.into()),
            _ => bail!("a record of {length} bytes"),
        }
        records = &records[12 + length..];
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let names = Names::default();
        let addresses = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        names.write().unwrap().insert("web.test".to_owned(), addresses);
        names
    }

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut question = [7, RECURSION_DESIRED, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.as_bytes());
        }
        question.push(0);
        question.extend([kind, IN].map(u16::to_be_bytes).concat());
        question
    }

    #[test]
    fn a_name_has_the_addresses_of_the_family_that_was_asked_for() {
        for (kind, expected) in [(A, "10.0.0.1"), (AAAA, "fd00::1")] {
            let question = question("WEB.test", kind);
            let answer = answer(&question, &names()).unwrap();
            let addresses = read_addresses(&answer[question.len()..], number(&answer, 6).unwrap()).unwrap();
            assert_eq!(addresses, [expected.parse::<IpAddr>().unwrap()]);
            assert_eq!(number(&answer, 2), Some(RESPONSE | RECURSION_DESIRED));
        }
    }

    #[test]
    fn a_name_that_is_not_known_does_not_exist() {
        let answer = answer(&question("nobody.test", A), &names()).unwrap();
        assert_eq!(number(&answer, 2).unwrap() & 0xf, NO_SUCH_NAME);
        assert_eq!(number(&answer, 6), Some(0));
    }

    #[test]
    fn half_a_question_is_refused_and_an_answer_is_let_alone() {
        let whole = question("web.test", A);
        for length in 0..whole.len() {
            let answer = answer(&whole[..length], &names());
            let code = answer.and_then(|answer| number(&answer, 2)).map(|flags| flags & 0xf);
            assert!(code.is_none() || code == Some(FORMAT_ERROR), "{length}");
        }
        let mut of_others = whole;
        of_others[2] |= 0x80;
        assert_eq!(answer(&of_others, &names()), None);
    }
}
