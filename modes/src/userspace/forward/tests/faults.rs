//! What goes wrong on one connection stays there.

use super::*;

#[test]
fn an_endpoint_that_resets_is_seen_as_a_reset() {
    let server = serve(|mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[server]));
    let mut stream = connect(at);
    stream.write_all(b"x").unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    await_that("the connection is over", || forwarder.figures().active_connections == 0);
}

#[test]
fn a_client_that_resets_is_seen_as_a_reset() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = serve(move |mut stream| {
        stream.write_all(b"x").unwrap();
        sender.send(stream.read(&mut [0; 1]).map_err(|error| error.kind())).unwrap();
    });
    let (_forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[server]));
    let mut stream = connect(at);
    stream.read_exact(&mut [0]).unwrap();
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn the_last_words_of_an_endpoint_that_did_not_listen_arrive() {
    let (read, done) = std::sync::mpsc::channel();
    let done = Arc::new(Mutex::new(done));
    let server = serve(move |mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        stream.write_all(b"too large").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Until the client has read it; then it goes, with much unread.
        let _ = done.lock().unwrap().recv();
    });
    let (_forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&[server]));
    let mut stream = connect(at);
    stream.write_all(&[0; 100_000]).unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"too large");
    read.send(()).unwrap();
}

#[test]
fn more_connections_than_a_target_may_have_are_turned_away() {
    let options = Options { max_connections_per_target: NonZeroUsize::new(3), ..options() };
    let (forwarder, at) = forwarding(options, Protocol::Tcp, &target(&[introduce_and_echo()]));
    let mut kept: Vec<_> = (0..3).map(|_| who_answers(at)).collect();
    let error = connect(at).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!((forwarder.figures().shed_by_bound, forwarder.status()[0].active), (1, 3));
    kept.pop();
    await_that("one is over", || forwarder.status()[0].active == 2);
    who_answers(at);
}

#[test]
fn more_connections_than_there_may_be_are_turned_away() {
    let options = Options { max_connections: NonZeroUsize::new(2), ..options() };
    let (forwarder, at) = forwarding(options, Protocol::Tcp, &target(&[introduce_and_echo()]));
    let kept: Vec<_> = (0..2).map(|_| who_answers(at)).collect();
    assert!(connect(at).read(&mut [0; 1]).is_err());
    drop(kept);
    await_that("they are over", || forwarder.figures().active_connections == 0);
    who_answers(at);
}

#[test]
fn slow_readers_hold_no_more_than_they_may_and_lose_nothing() {
    const MUCH: usize = 8 << 20;
    const READERS: usize = 60;
    let server = serve(|mut stream| {
        let _ = stream.write_all(&vec![7; MUCH]);
    });
    let bound = 4 * flow::CHUNK;
    let options = Options { max_held_bytes: bound, ..options() };
    let (forwarder, at) = forwarding(options, Protocol::Tcp, &target(&[server]));
    let readers: Vec<_> = (0..READERS).map(|_| connect(at)).collect();
    // They are stuck when nothing has moved for a while.
    let mut before = None;
    await_that("all are stuck", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = forwarder.figures().bytes_out;
        before.replace(now) == Some(now) && now > 0
    });
    // Two threads may each have added one chunk when there seemed to be room.
    let more = bound + 2 * flow::CHUNK;
    assert!(forwarder.shared.bounds.held.taken() <= more, "{:?}", forwarder.shared.bounds.held);
    // Others are not held up.
    let echo = introduce_and_echo();
    forwarder.change(&key(Protocol::Tcp), &target(&[echo]));
    assert_eq!(who_answers(at).1, echo.port());
    for mut reader in readers {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(all.len() == MUCH && all.iter().all(|byte| *byte == 7), "{} bytes", all.len());
    }
    assert_eq!(forwarder.shared.bounds.held.taken(), 0);
}

#[test]
fn thousands_of_clients_at_once_are_all_served() {
    const CLIENTS: usize = 2_000;
    let servers: Vec<_> = (0..4).map(|_| introduce_and_echo()).collect();
    let (forwarder, at) = forwarding(options(), Protocol::Tcp, &target(&servers));
    let threads: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || (0..CLIENTS / 8).map(|_| who_answers(at)).collect::<Vec<_>>()))
        .collect();
    let clients: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!((clients.len(), forwarder.status()[0].active), (CLIENTS, CLIENTS));
    drop(clients);
    await_that("all are over", || forwarder.figures().active_connections == 0);
    // So little is ever sent that there is no pipe: only the door is left.
    assert_eq!(forwarder.shared.bounds.descriptors.taken(), 1);
}
