use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use super::*;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Waits until a socket of the poller is ready.
fn next(poller: &Poller) -> Event {
    let mut events = Events::default();
    while events.is_empty() {
        poller.wait(&mut events, None).unwrap();
    }
    events.get(0).unwrap()
}

fn pair() -> (Stream, Stream) {
    let listener = Listener::bind(ANY).unwrap();
    listener.listen().unwrap();
    let poller = Poller::new().unwrap();
    poller.add(&listener, Interest::Readable, 1).unwrap();
    let client = Stream::connect(listener.address().unwrap(), &Origin::default()).unwrap();
    assert!(next(&poller).readable);
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

fn await_bytes(stream: &Stream) -> Event {
    let poller = Poller::new().unwrap();
    poller.add(stream, Interest::Readable, 7).unwrap();
    let event = next(&poller);
    poller.remove(stream).unwrap();
    event
}

#[test]
fn what_was_peeked_at_is_received_again_unless_it_is_discarded() {
    let (client, server) = pair();
    client.send(b"abcdef").unwrap();
    assert_eq!(await_bytes(&server).token, 7);
    let mut buffer = [0; 16];
    assert_eq!(server.peek(&mut buffer).unwrap(), 6);
    assert_eq!(server.discard(&mut buffer[..4]).unwrap(), 4);
    assert_eq!(server.receive(&mut buffer).unwrap(), 2);
    assert_eq!(&buffer[..2], b"ef");
    assert_eq!(server.receive(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_pipe_carries_bytes_from_one_stream_to_another() {
    let ((client, front), (back, server)) = (pair(), pair());
    client.send(b"through").unwrap();
    await_bytes(&front);
    let mut pipe = Pipe::new().unwrap();
    assert_eq!(pipe.take_from(&front, 1 << 16).unwrap(), 7);
    assert_eq!((pipe.held(), pipe.give_to(&back).unwrap(), pipe.held()), (7, 7, 0));
    await_bytes(&server);
    let mut buffer = [0; 16];
    assert_eq!(server.receive(&mut buffer).unwrap(), 7);
    client.finish().unwrap();
    await_bytes(&front);
    assert_eq!(pipe.take_from(&front, 1 << 16).unwrap(), 0);
}

#[test]
fn a_reset_is_seen_as_a_failure() {
    let (client, server) = pair();
    client.reset();
    let poller = Poller::new().unwrap();
    poller.add(&server, Interest::Stream, 1).unwrap();
    let mut event = next(&poller);
    while !event.failed {
        event = next(&poller);
    }
    let error = server.receive(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn one() -> Datagrams {
    Datagrams::bind(ANY, NonZeroUsize::MIN).unwrap().remove(0)
}

#[test]
fn sockets_of_a_group_share_senders_and_nobody_else_joins() {
    let group = Datagrams::bind(ANY, NonZeroUsize::new(3).unwrap()).unwrap();
    let at = group[0].address().unwrap();
    assert!(group.iter().all(|socket| socket.address().unwrap() == at));
    let mut batch = Batch::new();
    let mut served = 0;
    for _ in 0..50 {
        let client = Datagrams::connect(at, &Origin::default()).unwrap();
        client.send(b"1").unwrap();
        client.send(b"2").unwrap();
        let counts: Vec<_> = group.iter().map(|socket| batch.receive(socket).unwrap_or(0)).collect();
        assert!(counts.contains(&2), "{counts:?}");
        served |= 1 << counts.iter().position(|count| *count == 2).unwrap();
    }
    assert_eq!(served, 0b111);
    assert_eq!(Datagrams::bind(at, NonZeroUsize::MIN).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn datagrams_are_received_and_passed_on_in_batches() {
    let front = one();
    let client = Datagrams::connect(front.address().unwrap(), &Origin::default()).unwrap();
    let receiver = one();
    let sent = [&b"one"[..], b"", b"three"];
    sent.iter().for_each(|datagram| client.send(datagram).unwrap());
    let mut batch = Batch::new();
    assert_eq!(batch.receive(&front).unwrap(), 3);
    let from = client.address().unwrap();
    assert!(batch.datagrams().eq(sent.map(|datagram| (datagram, Some(from)))));
    assert_eq!(batch.pass_on(&front, receiver.address().unwrap()).unwrap(), 3);
    assert_eq!(batch.receive(&receiver).unwrap(), 3);
    let from = front.address().unwrap();
    assert!(batch.datagrams().eq(sent.map(|datagram| (datagram, Some(from)))));
    assert_eq!(batch.receive(&receiver).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_datagram_that_nobody_takes_is_told_with_the_next() {
    let gone = one();
    let client = Datagrams::connect(gone.address().unwrap(), &Origin::default()).unwrap();
    drop(gone);
    client.send(b"lost").unwrap();
    assert_eq!(client.send(b"not sent").unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_waker_wakes() {
    let poller = Poller::new().unwrap();
    let waker = Waker::new(&poller, 3).unwrap();
    let other = waker.clone();
    let thread = std::thread::spawn(move || other.wake());
    assert_eq!(next(&poller).token, 3);
    thread.join().unwrap();
    waker.clear();
    let mut events = Events::default();
    poller.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap();
    assert!(events.is_empty());
}

#[test]
fn an_address_that_is_taken_is_told() {
    let listener = Listener::bind(ANY).unwrap();
    let at = listener.address().unwrap();
    let refused = std::net::TcpStream::connect(at);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    listener.listen().unwrap();
    assert_eq!(Listener::bind(at).unwrap_err().kind(), ErrorKind::AddrInUse);
    std::net::TcpStream::connect(at).unwrap();
}
