//! A server that says who it is, and then answers each line with one: what [`super`] can measure anywhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{env, io};

use anyhow::Context;
use nix::unistd::gethostname;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cli::RespondFlags;

/// Descriptors that are not for connections.
const RESERVED: u64 = 64;
/// Connections at once at most, however many descriptors there may be.
const MOST: u64 = 100_000;
/// How long a client may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// After how long to try again when there is no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);
/// The most that is read at once.
const PORTION: usize = 1024;

/// Serves until it is ended.
///
/// # Errors
/// When an address cannot be listened on.
pub(crate) fn serve(flags: &RespondFlags) -> anyhow::Result<()> {
    let name = flags.name.clone().or_else(|| env::var("POD_NAME").ok()).or_else(|| {
        let host = gethostname().ok()?;
        Some(host.to_string_lossy().into_owned())
    });
    let name: Arc<str> = word(&name.unwrap_or_else(|| "unknown".to_owned())).into();
    let limit = kernel::socket::raise_descriptor_limit()?;
    let most = limit.saturating_sub(RESERVED).clamp(1, MOST);
    let room = Arc::new(Semaphore::new(usize::try_from(most)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start a reactor")?.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for address in &flags.listen {
            let context = || format!("cannot listen on {address}: give another one with --listen");
            let (listener, datagrams) = bind(*address).await.with_context(context)?;
            tasks.spawn(accept(listener, Arc::clone(&name), Arc::clone(&room)));
            tasks.spawn(answer_datagrams(datagrams, Arc::clone(&name)));
        }
        // None of them ends.
        tasks.join_all().await;
        Ok(())
    })
}

async fn bind(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let listener = TcpListener::bind(address).await?;
    // The same port, also if the kernel chose it.
    let datagrams = UdpSocket::bind(SocketAddr::new(address.ip(), listener.local_addr()?.port())).await?;
    Ok((listener, datagrams))
}

/// As one word, which a line begins with.
fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || c.is_control() { '-' } else { c }).collect()
}

fn line(address: SocketAddr, name: &str) -> String {
    format!("{} {name}\n", SocketAddr::new(address.ip().to_canonical(), address.port()))
}

async fn accept(listener: TcpListener, name: Arc<str>, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let name = Arc::clone(&name);
                tokio::spawn(async move {
                    // A client that goes away is none of our business.
                    let _ = converse(&stream, &name).await;
                    drop(permit);
                });
            }
            Err(error) if kernel::socket::is_exhaustion(&error) => tokio::time::sleep(PAUSE).await,
            // The client went away before it was looked at.
            Err(_) => {}
        }
    }
}

async fn converse(stream: &TcpStream, name: &str) -> io::Result<()> {
    let greeting = line(stream.local_addr()?, name);
    stream.set_nodelay(true)?;
    say(stream, greeting.as_bytes()).await?;
    let mut buffer = [0; PORTION];
    loop {
        let heard = match timeout(PATIENCE, hear(stream, &mut buffer)).await? {
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => &buffer[..length],
        };
        let lines = heard.iter().filter(|byte| **byte == b'\n').count();
        say(stream, greeting.repeat(lines).as_bytes()).await?;
    }
}

async fn hear(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Whoever does not listen is given up.
async fn say(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        timeout(PATIENCE, stream.writable()).await??;
        match stream.try_write(bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn answer_datagrams(socket: UdpSocket, name: Arc<str>) {
    let mut buffer = [0; PORTION];
    loop {
        // An answer that did not arrive is told as an error of the next read: it is none of that one's.
        let Ok((_, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(own) = socket.local_addr() else { continue };
        let address = if own.ip().is_unspecified() { towards(from, own.port()) } else { Some(own) };
        let text = line(address.unwrap_or(own), name.as_ref());
        // Whoever asked may be gone.
        let _ = socket.send_to(text.as_bytes(), from).await;
    }
}

/// The address that this host has towards another.
fn towards(peer: SocketAddr, port: u16) -> Option<SocketAddr> {
    let any = SocketAddr::new(if peer.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() }, 0);
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    Some(SocketAddr::new(socket.local_addr().ok()?.ip(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_address_and_a_word() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:8080".parse().unwrap();
        assert_eq!(line(mapped, &word("my pod\n")), "10.0.0.1:8080 my-pod-\n");
    }
}
