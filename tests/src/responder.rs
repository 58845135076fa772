//! Servers in pods that say who they are and whom they see.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bed::{Family, OTHER_POD_PORT, POD_PORT, Pod};
use crate::namespace::Namespace;
use crate::sctp;

/// A server for one address and port, over TCP and UDP, or over SCTP. It greets with `name source-address`; over TCP and
/// SCTP it then echoes lines until the client closes.
#[derive(Debug)]
pub struct Responder {
    listener: TcpListener,
    stopped: Arc<AtomicBool>,
}

impl Responder {
    /// Servers for both ports of a pod in both families.
    pub(crate) fn all_ports(namespace: &Namespace, pod: &Pod) -> Result<Vec<Self>> {
        addresses(pod).map(|address| Self::new(namespace, address, &pod.name)).collect()
    }

    /// The same over SCTP.
    pub(crate) fn all_sctp_ports(namespace: &Namespace, pod: &Pod) -> Result<Vec<Self>> {
        addresses(pod).map(|address| Self::sctp(namespace, address, &pod.name)).collect()
    }

    /// Starts a server that answers with a name.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn new(namespace: &Namespace, address: SocketAddr, name: &str) -> Result<Self> {
        let bind = || Ok::<_, std::io::Error>((TcpListener::bind(address)?, UdpSocket::bind(address)?));
        let bound = namespace.run(bind)?.with_context(|| format!("cannot serve on {address}"))?;
        let (listener, datagrams) = bound;
        let who = name.to_owned();
        thread::spawn(move || answer_datagrams(&datagrams, &who));
        Self::on(listener, name)
    }

    /// Starts a server that answers with a name over SCTP.
    ///
    /// # Errors
    /// When the address cannot be bound, or the kernel has no SCTP.
    pub fn sctp(namespace: &Namespace, address: SocketAddr, name: &str) -> Result<Self> {
        let bound = namespace.run(|| sctp::listener(address))?;
        Self::on(bound.with_context(|| format!("cannot serve on {address} over SCTP"))?, name)
    }

    fn on(listener: TcpListener, name: &str) -> Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (accepting, flag, who) = (listener.try_clone()?, Arc::clone(&stopped), name.to_owned());
        thread::spawn(move || accept(&accepting, &flag, &who));
        Ok(Self { listener, stopped })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("cannot tell the address of a listener")
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Where a pod answers.
fn addresses(pod: &Pod) -> impl Iterator<Item = SocketAddr> {
    let ports = [POD_PORT, OTHER_POD_PORT];
    Family::BOTH.iter().flat_map(move |family| ports.map(|port| (pod.ip(*family), port).into()))
}

fn accept(listener: &TcpListener, stopped: &AtomicBool, name: &str) {
    for stream in listener.incoming() {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let name = name.to_owned();
        thread::spawn(move || greet_and_echo(&stream, &name));
    }
}

fn greet_and_echo(stream: &TcpStream, name: &str) -> Option<()> {
    let peer = stream.peer_addr().ok()?.ip().to_canonical();
    // A client that vanishes must not keep the thread for ever.
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut writer = stream;
    writer.write_all(format!("{name} {peer}\n").as_bytes()).ok()?;
    for line in BufReader::new(stream).lines() {
        writer.write_all(format!("{}\n", line.ok()?).as_bytes()).ok()?;
    }
    stream.shutdown(Shutdown::Both).ok()
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 64];
    while let Ok((_, from)) = socket.recv_from(&mut buffer) {
        // Whoever asked may be gone; the next one counts.
        let _ = socket.send_to(format!("{name} {}", from.ip().to_canonical()).as_bytes(), from);
    }
}
