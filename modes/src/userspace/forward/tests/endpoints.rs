//! Who gets a connection.

use std::collections::HashMap;

use super::*;

fn shares(at: SocketAddr, connections: usize) -> HashMap<u16, usize> {
    let mut shares = HashMap::new();
    for _ in 0..connections {
        *shares.entry(who_answers(at).1).or_default() += 1;
    }
    shares
}

#[test]
fn connections_one_after_the_other_are_spread_evenly() {
    let servers: Vec<_> = (0..200).map(|_| introduce_and_echo()).collect();
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[]));
    for count in [2, 3, 7, 50, 200] {
        forwarder.change(&key(Protocol::Tcp), &target(&servers[..count]));
        let shares = shares(at, 3 * count + 1);
        let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
        assert!(shares.len() == count && most - least <= 1, "{count}: {shares:?}");
    }
}

#[test]
fn the_least_busy_is_taken_if_asked_for() {
    let servers = [introduce_and_echo(), introduce_and_echo()];
    let options = Options { balancing: Balancing::LeastConnections, ..options() };
    let (forwarder, at) = forwarding(options, Protocol::Tcp, &target(&servers));
    let kept: Vec<_> = (0..6).map(|_| who_answers(at)).collect();
    let (gone, stays): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(_, port)| *port == servers[0].port());
    assert_eq!((gone.len(), stays.len()), (3, 3));
    drop(gone);
    await_that("three are over", || forwarder.figures().active_connections == 3);
    let next: Vec<_> = (0..3).map(|_| who_answers(at)).collect();
    assert!(next.iter().all(|(_, port)| *port == servers[0].port()));
}

#[test]
fn a_client_stays_with_its_endpoint_if_asked_for() {
    let servers: Vec<_> = (0..3).map(|_| introduce_and_echo()).collect();
    let target = Target { affinity: Some(Duration::from_secs(600)), ..target(&servers) };
    let (_forwarder, at) = forwarding(options(), Protocol::Tcp, &target);
    assert_eq!(shares(at, 20).len(), 1);
}

#[test]
fn whoever_refuses_is_set_aside_and_nobody_notices() {
    let (refusing, server) = (nobody(), introduce_and_echo());
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[refusing, server]));
    assert_eq!(shares(at, 20), HashMap::from([(server.port(), 20)]));
    let status = &forwarder.status()[0].endpoints[0];
    assert_eq!(status.endpoint.port, refusing.port());
    assert!(status.failures >= 1 && status.failures <= 5 && status.set_aside.is_some(), "{status:?}");
    assert_eq!(forwarder.figures().connect_failures, status.failures);
}

#[test]
fn whoever_does_not_answer_is_set_aside_too() {
    let (silent, server) = (full_listener(), introduce_and_echo());
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[silent.0, server]));
    assert_eq!(shares(at, 4), HashMap::from([(server.port(), 4)]));
    assert!(forwarder.status()[0].endpoints[0].set_aside.is_some());
}

/// Somebody whose queue of connections is full: further ones get no answer at all.
fn full_listener() -> (SocketAddr, socket2::Socket, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&ANY.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let connected = |client: &Socket| client.connect_timeout(&address, Duration::from_millis(200)).is_ok();
    let client = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let waiting = std::iter::repeat_with(client).take_while(connected).collect();
    (address.as_socket().unwrap(), listener, waiting)
}

#[test]
fn if_nobody_takes_it_the_client_is_told() {
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[nobody(), nobody()]));
    let error = connect(at).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    await_that("the connection is over", || forwarder.figures().active_connections == 0);
    assert_eq!(forwarder.figures().unserved, 1);
}

#[test]
fn connections_stay_when_their_endpoint_goes_and_when_the_target_does() {
    let servers = [introduce_and_echo(), introduce_and_echo()];
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&servers[..1]));
    let (mut stream, first) = who_answers(at);
    assert!(forwarder.change(&key(Protocol::Tcp), &target(&servers[1..])));
    assert_eq!((first, who_answers(at).1), (servers[0].port(), servers[1].port()));
    let mut check = || {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    };
    check();
    assert!(forwarder.close(&key(Protocol::Tcp)));
    assert!(!forwarder.close(&key(Protocol::Tcp)) && !forwarder.change(&key(Protocol::Tcp), &target(&[])));
    assert!(TcpStream::connect(at).is_err());
    check();
    // The address is free at once.
    forwarder.open(key(Protocol::Tcp), at, &target(&servers)).unwrap();
    who_answers(at);
    check();
}

#[test]
fn nobody_is_served_while_it_is_held_back() {
    let server = introduce_and_echo();
    let forwarder = Forwarder::start(options()).unwrap();
    forwarder.hold_back();
    forwarder.open(key(Protocol::Tcp), ANY, &target(&[server])).unwrap();
    let at = forwarder.status()[0].listens;
    assert_eq!(TcpStream::connect(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    forwarder.open(key(Protocol::Udp), at, &target(&[server])).unwrap();
    let client = std::net::UdpSocket::bind(ANY).unwrap();
    client.send_to(b"for somebody else", at).unwrap();
    forwarder.serve_all();
    who_answers(at);
    client.send_to(b"for this one", at).unwrap();
    await_that("it is passed on", || forwarder.figures().bytes_in == 12);
    forwarder.close(&key(Protocol::Tcp));
    forwarder.open(key(Protocol::Tcp), at, &target(&[server])).unwrap();
    who_answers(at);
}

#[test]
fn an_address_of_another_program_is_told_from_other_trouble() {
    let other = TcpListener::bind(ANY).unwrap();
    let forwarder = Forwarder::start(options()).unwrap();
    let error = forwarder.open(key(Protocol::Tcp), other.local_addr().unwrap(), &target(&[])).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    let foreign = "192.0.2.1:80".parse().unwrap();
    let error = forwarder.open(key(Protocol::Udp), foreign, &target(&[])).unwrap_err();
    assert!(error.to_string().contains("192.0.2.1:80") && matches!(error, OpenError::Io { .. }), "{error}");
    assert!(forwarder.status().is_empty());
}
