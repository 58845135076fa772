//! Bytes arrive whole, in order, and their end with them.

use super::*;

#[test]
fn what_is_said_is_passed_on_both_ways_and_so_is_the_end() {
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[introduce_and_echo()]));
    let (mut stream, _) = who_answers(at);
    stream.write_all(b"hello").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    await_that("the connection is over", || forwarder.figures().active_connections == 0);
    let figures = forwarder.figures();
    assert_eq!((figures.connections, figures.bytes_in, figures.bytes_out), (1, 5, 7));
}

#[test]
fn an_endpoint_may_stop_talking_and_go_on_listening() {
    let server = serve(|mut stream| {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "still here");
    });
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[server]));
    let mut stream = connect(at);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    stream.write_all(b"still here").unwrap();
    drop(stream);
    await_that("the connection is over", || forwarder.figures().active_connections == 0);
    assert_eq!(forwarder.figures().bytes_in, 10);
}

/// Bytes that differ at every place, so that none can be missing, doubled or moved unnoticed.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn echo_much(options: Options) {
    let (forwarder, at) = forwarding(options, Protocol::Tcp, &target(&[introduce_and_echo()]));
    let sent = pattern(24 << 20);
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (mut stream, _) = who_answers(at);
            let mut writer = stream.try_clone().unwrap();
            let (to_send, sent) = (sent.clone(), sent.clone());
            let sending = std::thread::spawn(move || {
                writer.write_all(&to_send).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            std::thread::spawn(move || {
                let mut received = Vec::new();
                stream.read_to_end(&mut received).unwrap();
                sending.join().unwrap();
                assert!(received == sent, "{} bytes of {} came back", received.len(), sent.len());
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let figures = forwarder.figures();
    assert_eq!((figures.bytes_in, figures.bytes_out), (3 * (24 << 20), 3 * ((24 << 20) + 2)));
    await_that("nothing is held", || {
        forwarder.shared.bounds.held.has(forwarder.shared.options.max_held_bytes)
    });
}

#[test]
fn large_amounts_arrive_as_they_were_sent() {
    echo_much(options());
}

#[test]
fn they_do_when_nothing_may_be_held() {
    echo_much(Options { max_held_bytes: 0, ..options() });
}

#[test]
fn the_header_tells_who_the_client_is() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = serve(move |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        sender.send(all).unwrap();
    });
    let target = Target { proxy_protocol: true, ..target(&[server]) };
    let (_forwarder, at) = forwarding(options(), Protocol::Tcp, &target);
    let mut stream = connect(at);
    let client = stream.local_addr().unwrap();
    stream.write_all(b"GET").unwrap();
    drop(stream);
    let all = receiver.recv_timeout(PATIENCE).unwrap();
    let (header, rest) = all.split_at(28);
    let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
    expected.extend(client.port().to_be_bytes());
    expected.extend(at.port().to_be_bytes());
    assert_eq!((header, rest), (&expected[..], &b"GET"[..]));
}

#[test]
fn a_header_comes_before_what_the_endpoint_says_first() {
    let server = serve(|mut stream| {
        let mut header = [0; 28];
        stream.read_exact(&mut header).unwrap();
        stream.write_all(b"welcome").unwrap();
    });
    let target = Target { proxy_protocol: true, ..target(&[server]) };
    let (_forwarder, at) = forwarding(options(), Protocol::Tcp, &target);
    let mut said = String::new();
    connect(at).read_to_string(&mut said).unwrap();
    assert_eq!(said, "welcome");
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let options = Options { tcp_idle: Duration::from_millis(400), ..options() };
    let (forwarder, at) = forwarding(options, Protocol::Tcp, &target(&[introduce_and_echo()]));
    let ((mut busy, _), (mut idle, _)) = (who_answers(at), who_answers(at));
    let mut byte = [0];
    idle.set_nonblocking(true).unwrap();
    while idle.read(&mut byte).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        busy.write_all(b"x").unwrap();
        busy.read_exact(&mut byte).unwrap();
    }
    await_that("only the busy one is left", || forwarder.figures().active_connections == 1);
    busy.write_all(b"x").unwrap();
    busy.read_exact(&mut byte).unwrap();
}
