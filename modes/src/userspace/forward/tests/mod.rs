//! The forwarder at work on loopback.

mod datagrams;
mod endpoints;
mod faults;
mod streams;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint_cache::{Endpoint, Family, Protocol, ServicePortName, TrafficPolicy};

use super::*;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options { workers: NonZeroUsize::new(2).unwrap(), ..Options::default() }
}

fn key(protocol: Protocol) -> TargetKey {
    let name = ServicePortName { namespace: "ns".into(), name: "web".into(), port: "".into(), protocol };
    TargetKey { name: Arc::new(name), family: Family::V4, policy: TrafficPolicy::Cluster }
}

fn target(addresses: &[SocketAddr]) -> Target {
    let endpoint =
        |address: &SocketAddr| Endpoint { address: address.ip(), port: address.port(), local: false };
    Target {
        endpoints: addresses.iter().map(endpoint).collect(),
        serving: [].into(),
        affinity: None,
        proxy_protocol: false,
        source: SourceAddress::Node,
    }
}

/// A forwarder with a single target, and where that listens.
fn forwarding(options: Options, protocol: Protocol, target: &Target) -> (Forwarder, SocketAddr) {
    let forwarder = Forwarder::start(options).unwrap();
    forwarder.open(key(protocol), ANY, target).unwrap();
    let listens = forwarder.status()[0].listens;
    (forwarder, listens)
}

/// A server that does something with each connection, in a thread for each.
fn serve(what: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let what = what.clone();
            std::thread::spawn(move || what(stream));
        }
    });
    address
}

/// A server that says its port, to each connection, and then what it is told.
fn introduce_and_echo() -> SocketAddr {
    serve(|mut stream| {
        let port = stream.local_addr().unwrap().port();
        let _ = stream.write_all(&port.to_be_bytes());
        let mut from = stream.try_clone().unwrap();
        let _ = io::copy(&mut from, &mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    })
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind(ANY).unwrap().local_addr().unwrap()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Connects, and returns which server answers.
fn who_answers(at: SocketAddr) -> (TcpStream, u16) {
    let mut stream = connect(at);
    let mut port = [0; 2];
    stream.read_exact(&mut port).unwrap();
    (stream, u16::from_be_bytes(port))
}

/// Waits until something holds. There is nothing else to wait for in what another thread counts.
fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come to hold");
        std::thread::yield_now();
    }
}
