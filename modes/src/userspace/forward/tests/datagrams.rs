//! UDP.

use std::net::UdpSocket;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A server that answers each datagram with its own port and what it was told.
fn introduce_and_echo_datagrams() -> SocketAddr {
    let at = UdpSocket::bind(ANY).unwrap();
    let address = at.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut room = vec![0; 65_536];
        while let Ok((length, from)) = at.recv_from(&mut room) {
            let answer = [&address.port().to_be_bytes()[..], &room[..length]].concat();
            at.send_to(&answer, from).unwrap();
        }
    });
    address
}

fn client(of: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(ANY).unwrap();
    socket.connect(of).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a datagram, and returns which server answered what.
fn ask(client: &UdpSocket, what: &[u8]) -> (u16, Vec<u8>) {
    client.send(what).unwrap();
    let mut room = vec![0; 65_536];
    let length = client.recv(&mut room).unwrap();
    (u16::from_be_bytes([room[0], room[1]]), room[2..length].to_vec())
}

#[test]
fn datagrams_of_a_client_go_to_one_endpoint_and_answers_come_back() {
    let servers: Vec<_> = (0..3).map(|_| introduce_and_echo_datagrams()).collect();
    let (forwarder, at) = forwarding(options(), Protocol::Udp, &target(&servers));
    let clients: Vec<_> = (0..6).map(|_| client(at)).collect();
    for size in [1, 0, 1400, 60_000] {
        let what = vec![9; size];
        for (index, client) in clients.iter().enumerate() {
            assert_eq!(ask(client, &what), (servers[index % 3].port(), what.clone()));
        }
    }
    assert_eq!((forwarder.figures().sessions, forwarder.figures().active_sessions), (6, 6));
}

#[test]
fn whoever_is_not_there_is_set_aside_and_the_client_sent_elsewhere() {
    let nobody = UdpSocket::bind(ANY).unwrap().local_addr().unwrap();
    let server = introduce_and_echo_datagrams();
    let (forwarder, at) = forwarding(options(), Protocol::Udp, &target(&[nobody, server]));
    let client = client(at);
    client.send(b"lost").unwrap();
    await_that("it is set aside", || forwarder.status()[0].endpoints[0].set_aside.is_some());
    assert_eq!(ask(&client, b"again"), (server.port(), b"again".to_vec()));
}

#[test]
fn sessions_end_with_their_endpoint_and_with_the_target() {
    let servers = [introduce_and_echo_datagrams(), introduce_and_echo_datagrams()];
    let (forwarder, at) = forwarding(options(), Protocol::Udp, &target(&servers[..1]));
    let client = client(at);
    assert_eq!(ask(&client, b"1").0, servers[0].port());
    forwarder.change(&key(Protocol::Udp), &target(&servers[1..]));
    await_that("it has ended", || forwarder.figures().active_sessions == 0);
    assert_eq!(ask(&client, b"2").0, servers[1].port());
    assert!(forwarder.close(&key(Protocol::Udp)));
    assert_eq!(forwarder.figures().active_sessions, 0);
    // The address is free at once.
    forwarder.open(key(Protocol::Udp), at, &target(&servers)).unwrap();
    ask(&client, b"3");
}

#[test]
fn idle_sessions_end() {
    let server = introduce_and_echo_datagrams();
    let options = Options { udp_idle: Duration::from_millis(200), ..options() };
    let (forwarder, at) = forwarding(options, Protocol::Udp, &target(&[server]));
    ask(&client(at), b"x");
    await_that("it has ended", || forwarder.figures().active_sessions == 0);
    assert_eq!(forwarder.figures().sessions_evicted, 0);
}

#[test]
fn the_number_of_sessions_is_bounded_and_the_longest_idle_makes_room() {
    let server = introduce_and_echo_datagrams();
    let options = Options { max_sessions: NonZeroUsize::new(8), ..options() };
    let (forwarder, at) = forwarding(options, Protocol::Udp, &target(&[server]));
    let clients: Vec<_> = (0..30).map(|_| client(at)).collect();
    for client in clients.iter().chain(&clients) {
        assert_eq!(ask(client, b"x").1, b"x");
    }
    let figures = forwarder.figures();
    assert!((4..=8).contains(&figures.active_sessions), "{figures:?}");
    assert_eq!(figures.sessions_evicted, figures.sessions - figures.active_sessions);
}

#[test]
fn sessions_that_cannot_be_had_cost_nothing() {
    let (forwarder, at) = forwarding(options(), Protocol::Udp, &target(&[]));
    client(at).send(b"x").unwrap();
    await_that("it is dropped", || forwarder.figures().datagrams_dropped == 1);
    assert_eq!((forwarder.figures().sessions, forwarder.shared.bounds.descriptors.taken()), (0, 2));
}

/// What a client, an endpoint or the cluster may do.
#[derive(Clone, Debug)]
enum Deed {
    /// A client sends a datagram.
    Send { client: usize, datagram: Vec<u8> },
    /// Other endpoints serve the target: those of the bits that are set.
    Change { servers: u8 },
    /// The target goes and comes back.
    Reopen,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let datagram = prop_oneof![vec(any::<u8>(), 0..40), (0..60_000_usize).prop_map(|length| vec![3; length])];
    let deed = prop_oneof![
        8 => (0..6_usize, datagram).prop_map(|(client, datagram)| Deed::Send { client, datagram }),
        2 => any::<u8>().prop_map(|servers| Deed::Change { servers }),
        1 => Just(Deed::Reopen),
    ];
    vec(deed, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, every answer is to what its client asked, by an endpoint there is, and nothing is left over.
    #[test]
    fn answers_are_to_what_was_asked(deeds in deeds()) {
        let servers = [introduce_and_echo_datagrams(), introduce_and_echo_datagrams()];
        let absent = UdpSocket::bind(ANY).unwrap().local_addr().unwrap();
        let all = [servers[0], servers[1], absent];
        let chosen = |bits: u8| {
            let chosen = all.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
            target(&chosen.map(|(_, server)| *server).collect::<Vec<_>>())
        };
        let options = Options { max_sessions: NonZeroUsize::new(4), ..options() };
        let mut present = 0b011;
        let (forwarder, at) = forwarding(options, Protocol::Udp, &chosen(present));
        let clients: Vec<_> = (0..6).map(|_| client(at)).collect();
        for deed in deeds {
            match deed {
                Deed::Send { client, datagram } if present & 0b011 != 0 && present & 0b100 == 0 => {
                    let (port, answer) = ask(&clients[client], &datagram);
                    let server = servers.iter().position(|server| server.port() == port);
                    prop_assert!(server.is_some_and(|server| present >> server & 1 == 1));
                    prop_assert!(answer == datagram);
                }
                // It may be lost; then no answer may come later, to another question. Nobody waits for it, so it is kept
                // small: the next must find room in the socket's buffer.
                Deed::Send { datagram, .. } => {
                    client(at).send(&datagram[..datagram.len().min(100)]).unwrap();
                }
                Deed::Change { servers } => {
                    present = servers & 0b111;
                    prop_assert!(forwarder.change(&key(Protocol::Udp), &chosen(present)));
                }
                Deed::Reopen => {
                    prop_assert!(forwarder.close(&key(Protocol::Udp)));
                    forwarder.open(key(Protocol::Udp), at, &chosen(present)).unwrap();
                }
            }
        }
        forwarder.close(&key(Protocol::Udp));
        prop_assert_eq!(forwarder.figures().active_sessions, 0);
        prop_assert_eq!(forwarder.shared.bounds.descriptors.taken(), 0);
    }
}
