//! Somewhere that connections come from, and what becomes of them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::namespace::Namespace;
use crate::sctp;
use crate::vm;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// After how long without an answer a packet counts as dropped.
const SILENCE: Duration = Duration::from_millis(400);
/// How long to wait for an answer when there will be another attempt.
const GLANCE: Duration = Duration::from_millis(25);

/// What transports a connection, or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP, which not every kernel has.
    Sctp,
}

impl Protocol {
    /// Those that every kernel has.
    pub const BOTH: [Self; 2] = [Self::Tcp, Self::Udp];

    /// As Kubernetes writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// A pod answered.
    Answered {
        /// Its name.
        by: String,
        /// The address that it saw.
        seen_as: IpAddr,
    },
    /// Refused: reset, or an ICMP port unreachable, or not let out by the host itself.
    Refused,
    /// No route, or an ICMP host or net unreachable.
    Unreachable,
    /// Nothing came back.
    Silence,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { by, seen_as } => write!(f, "{by} (sees {seen_as})"),
            Self::Refused => f.write_str("refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Silence => f.write_str("silence"),
        }
    }
}

/// A namespace to connect from, with the source address to use if it has several.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Where.
    pub namespace: &'a Namespace,
    /// From which address and port; the kernel chooses if `None`, and the port if that is 0.
    pub source: Option<SocketAddr>,
}

impl<'a> Place<'a> {
    /// A namespace with whatever source address the kernel chooses.
    #[must_use]
    pub fn of(namespace: &'a Namespace) -> Self {
        Self { namespace, source: None }
    }

    /// The same with a source address.
    #[must_use]
    pub fn from_address(self, source: IpAddr) -> Self {
        Self { source: Some((source, 0).into()), ..self }
    }

    /// The same with a source address and port.
    #[must_use]
    pub fn from_socket_address(self, source: SocketAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Makes one connection, or sends one datagram.
    ///
    /// # Errors
    /// When something else than an [`Outcome`] comes of it.
    pub fn connect(&self, protocol: Protocol, to: SocketAddr) -> Result<Outcome> {
        self.namespace.run(|| attempt(protocol, self.source, to, ANSWER))?
    }

    /// As [`Place::connect`], for when silence is expected.
    ///
    /// # Errors
    /// As [`Place::connect`].
    pub fn connect_briefly(&self, protocol: Protocol, to: SocketAddr) -> Result<Outcome> {
        self.namespace.run(|| attempt(protocol, self.source, to, SILENCE))?
    }

    /// Makes connections one after the other; counts what became of them.
    ///
    /// # Errors
    /// As [`Place::connect`].
    pub fn connect_times(
        &self,
        protocol: Protocol,
        to: SocketAddr,
        times: usize,
    ) -> Result<BTreeMap<Outcome, usize>> {
        self.namespace.run(|| {
            let mut outcomes = BTreeMap::new();
            for _ in 0..times {
                *outcomes.entry(attempt(protocol, self.source, to, ANSWER)?).or_default() += 1;
            }
            Ok(outcomes)
        })?
    }

    /// Connects over and over until the outcome is a wanted one; returns how long that took. In the virtual machine the
    /// patience is longer.
    ///
    /// # Errors
    /// When it does not come about in time, and as [`Place::connect`].
    pub fn connect_until(
        &self,
        protocol: Protocol,
        to: SocketAddr,
        patience: Duration,
        wanted: impl Fn(&Outcome) -> bool + Sync,
    ) -> Result<Duration> {
        let patience = vm::patience(patience);
        self.namespace.run(|| {
            let start = Instant::now();
            loop {
                let outcome = attempt(protocol, self.source, to, GLANCE)?;
                if wanted(&outcome) {
                    return Ok(start.elapsed());
                }
                if start.elapsed() > patience {
                    bail!("after {patience:?}, {to} still leads to {outcome}");
                }
            }
        })?
    }

    /// Opens a TCP connection that stays.
    ///
    /// # Errors
    /// When it is not answered.
    pub fn open(&self, to: SocketAddr) -> Result<Conversation> {
        self.open_over(Protocol::Tcp, to)
    }

    /// Opens a connection that stays, over TCP or SCTP.
    ///
    /// # Errors
    /// When it is not answered, and over UDP.
    pub fn open_over(&self, protocol: Protocol, to: SocketAddr) -> Result<Conversation> {
        self.namespace.run(|| Conversation::open(protocol, self.source, to))?
    }

    /// A UDP socket that keeps its source port, so that all its datagrams are one flow.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn flow(&self, to: SocketAddr) -> Result<Flow> {
        let socket = self.namespace.run(|| socket(Protocol::Udp, self.source, to))??;
        Ok(Flow { socket, to })
    }
}

/// A TCP connection or SCTP association with a pod that stays open.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
    /// Who is at the other end.
    pub with: String,
}

impl Conversation {
    fn open(protocol: Protocol, source: Option<SocketAddr>, to: SocketAddr) -> Result<Self> {
        ensure!(protocol != Protocol::Udp, "UDP knows no connections");
        let stream = stream(protocol, source, to, ANSWER)?;
        let with = match greeting(&stream, to)? {
            Outcome::Answered { by, .. } => by,
            other => bail!("a connection to {to}: {other}"),
        };
        Ok(Self { stream, with })
    }

    /// Says something and waits to hear it back.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn echo(&mut self) -> Result<()> {
        let context = || format!("the connection with {} broke", self.with);
        (&self.stream).write_all(b"still there?\n").with_context(context)?;
        let mut line = String::new();
        BufReader::new(&self.stream).read_line(&mut line).with_context(context)?;
        ensure!(line == "still there?\n", "{} answered {line:?}", self.with);
        Ok(())
    }

    /// Closes it, and waits until the pod has done so too.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn close(self) -> Result<()> {
        let context = || format!("the connection with {} broke", self.with);
        self.stream.shutdown(Shutdown::Write).with_context(context)?;
        let mut rest = Vec::new();
        (&self.stream).read_to_end(&mut rest).with_context(context)?;
        ensure!(rest.is_empty(), "{} said more than it was asked", self.with);
        Ok(())
    }

    /// Breaks it off with a reset.
    ///
    /// # Errors
    /// When the socket does not take that.
    pub fn reset(self) -> Result<()> {
        let socket = Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).context("cannot have a connection reset")
    }
}

/// A UDP flow.
#[derive(Debug)]
pub struct Flow {
    socket: Socket,
    to: SocketAddr,
}

impl Flow {
    /// Sends a datagram and waits for the answer.
    ///
    /// # Errors
    /// When something else than an [`Outcome`] comes of it.
    pub fn ask(&self) -> Result<Outcome> {
        ask(&self.socket, self.to, ANSWER)
    }

    /// Sends a datagram and does not wait. That earlier ones were refused is no matter.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn tell(&self) -> Result<()> {
        match self.socket.send_to(b"hear!", &SockAddr::from(self.to)) {
            Err(error) => outcome_of(error, self.to).map(drop),
            Ok(_) => Ok(()),
        }
    }

    /// As [`Flow::ask`], for when silence is expected.
    ///
    /// # Errors
    /// As [`Flow::ask`].
    pub fn ask_briefly(&self) -> Result<Outcome> {
        ask(&self.socket, self.to, SILENCE)
    }
}

fn attempt(
    protocol: Protocol,
    source: Option<SocketAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Result<Outcome> {
    match protocol {
        Protocol::Tcp | Protocol::Sctp => match stream(protocol, source, to, patience) {
            Ok(stream) => greeting(&stream, to),
            Err(error) => outcome_of(error, to),
        },
        Protocol::Udp => ask(&socket(protocol, source, to)?, to, patience),
    }
}

fn socket(protocol: Protocol, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<Socket> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Sctp => return sctp::socket(source.map(|source| source.ip()), to),
    };
    let socket = Socket::new(Domain::for_address(to), kind, None)?;
    if let Some(source) = source {
        // A port that is asked for may have been used a moment ago.
        socket.set_reuse_address(source.port() != 0)?;
        socket.bind(&SockAddr::from(source))?;
    }
    Ok(socket)
}

fn stream(
    protocol: Protocol,
    source: Option<SocketAddr>,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    let socket = socket(protocol, source, to)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::from(to)) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        other => other?,
    }
    // Between namespaces the answer comes back before connect() returns. An ICMP error then is only noted (tcp_v4_err,
    // "soft" error) and would take effect a second later, with the next SYN; asking fetches it at once.
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], timeout)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(ANSWER))?;
    Ok(socket.into())
}

fn greeting(stream: &TcpStream, to: SocketAddr) -> Result<Outcome> {
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line) {
        Ok(_) => read_answer(&line),
        Err(error) => outcome_of(error, to),
    }
}

fn ask(socket: &Socket, to: SocketAddr, patience: Duration) -> Result<Outcome> {
    let exchange = || -> io::Result<String> {
        socket.connect(&SockAddr::from(to))?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(b"who?")?;
        let mut buffer = [0; 256];
        let length = Read::read(&mut &*socket, &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    match exchange() {
        Ok(answer) => read_answer(&answer),
        Err(error) => outcome_of(error, to),
    }
}

fn read_answer(line: &str) -> Result<Outcome> {
    let (by, seen_as) = line.trim().split_once(' ').with_context(|| format!("odd answer {line:?}"))?;
    Ok(Outcome::Answered { by: by.to_owned(), seen_as: seen_as.parse()? })
}

fn outcome_of(error: io::Error, to: SocketAddr) -> Result<Outcome> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::PermissionDenied => Ok(Outcome::Refused),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Ok(Outcome::Unreachable),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Ok(Outcome::Silence),
        _ => Err(error).with_context(|| format!("cannot connect to {to}")),
    }
}
