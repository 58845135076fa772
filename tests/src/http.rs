//! Asking a page, as a probe would.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Namespace;

/// How long anything that is asked for may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    head: String,
    /// What follows the head.
    pub body: String,
}

impl Answer {
    /// The value of a header, whose name is written in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.to_lowercase() == name).map(|(_, value)| value)
    }
}

/// Asks for a page from within a namespace; returns the status and the body.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub fn get(from: &Namespace, to: SocketAddr, path: &str) -> Result<(u16, String)> {
    let Answer { status, body, .. } = ask(from, to, path)?;
    Ok((status, body))
}

/// Asks for a page from within a namespace.
///
/// # Errors
/// As [`get`].
pub fn ask(from: &Namespace, to: SocketAddr, path: &str) -> Result<Answer> {
    ask_for(from, to, path, "*/*")
}

/// Connects, in the end: rules are not kept waiting for whoever asks about them, so pages may be answered a moment later.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(&to, PATIENCE) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline => {}
            connected => return connected,
        }
    }
}

/// Asks for a page in a format, as a header `Accept` names it.
///
/// # Errors
/// As [`get`].
pub fn ask_for(from: &Namespace, to: SocketAddr, path: &str, accept: &str) -> Result<Answer> {
    let exchange = || -> Result<String> {
        let mut stream = connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\naccept: {accept}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = from.run(exchange)?.with_context(|| format!("no answer from http://{to}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?;
    let status = status.parse().context("a status that is no number")?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The value of a metric, written with its labels, from a page of metrics; 0 if it is not there.
///
/// # Errors
/// As [`get`], and when the value is no number.
pub fn metric(from: &Namespace, to: SocketAddr, name: &str) -> Result<f64> {
    let (_, text) = get(from, to, "/metrics")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map(str::parse).transpose()?.unwrap_or_default())
}
