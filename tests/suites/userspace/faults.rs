//! Too many clients, too few descriptors, pods that are cut off.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use testbed::cluster::{Service, Slice};
use testbed::subject::Seen::AsItself;
use testbed::{Conversation, Namespace, Protocol, Subject, await_that};

testbed::scenarios![
    Subject:
    connections_one_after_the_other_are_spread_evenly,
    ten_thousand_clients_at_once_are_served,
    it_sheds_load_when_descriptors_run_out_and_recovers,
    new_connections_avoid_a_pod_that_is_cut_off,
];

fn connections_one_after_the_other_are_spread_evenly(s: &mut Subject) -> Result<()> {
    let pods = ["pod-1", "pod-2", "remote-1"];
    s.serve_web(&pods)?;
    let shares = s.pod(3).place.connect_times(Protocol::Tcp, s.web_address(), 31)?;
    let counts: Vec<usize> = shares.values().copied().collect();
    ensure!(counts.len() == 3 && counts.iter().all(|count| (10..=11).contains(count)), "{shares:?}");
    Ok(())
}

/// Port of the server that the crowd goes to.
const CROWDED: u16 = 7777;
/// How many it is, if there may be so many descriptors: the proxy needs two for each, and so does this process.
const CROWD: usize = 10_000;
/// Descriptors for all else.
const SPARE: usize = 512;

fn ten_thousand_clients_at_once_are_served(s: &mut Subject) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let count = CROWD.min((usize::try_from(hard)? - SPARE) / 2);
    let pod = s.bed.pod(1).ip(s.family());
    let server = s.bed.pod_namespace(1).run(|| TcpListener::bind((pod, CROWDED)))??;
    let at = SocketAddr::new(s.family().cluster_ip(77), 80);
    let slice = Slice::new("crowd", s.family(), [s.endpoint("pod-1")]).port("http", Protocol::Tcp, CROWDED);
    s.cluster.put(Service::new("crowd", at.ip()).tcp("http", 80)).put_slice(slice);
    s.sync()?;
    let served = std::thread::spawn(move || greet_all(&server, count));
    let half = |number| join_crowd(s.bed.pod_namespace(number), at, count / 2);
    let clients = std::thread::scope(|scope| {
        let (one, other) = (scope.spawn(|| half(2)), scope.spawn(|| half(3)));
        [one, other].map(|half| half.join().map_err(|_| anyhow::anyhow!("a client panicked")))
    });
    let mut crowd = Vec::new();
    for half in clients {
        crowd.extend(half??);
    }
    ensure!(crowd.len() == count / 2 * 2, "{} of {count} were served", crowd.len());
    let descriptors = s.proxy()?.resources()?.descriptors;
    ensure!(descriptors >= 2 * crowd.len(), "they are not there at once: {descriptors} descriptors");
    drop(crowd);
    drop(served);
    let proxy = s.proxy()?;
    await_that("the descriptors are given back", || Ok(proxy.resources()?.descriptors < SPARE))
}

/// Says something to each of so many clients, and keeps their connections until the last has come.
fn greet_all(server: &TcpListener, count: usize) -> Result<Vec<TcpStream>> {
    let mut kept = Vec::with_capacity(count);
    while kept.len() < count / 2 * 2 {
        let (mut stream, _) = server.accept()?;
        stream.write_all(b"x")?;
        kept.push(stream);
    }
    Ok(kept)
}

/// Connects so often, and keeps what was answered.
fn join_crowd(from: &Namespace, at: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    from.run(|| {
        let connect = |_| -> Result<TcpStream> {
            let mut stream = TcpStream::connect(at)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.read_exact(&mut [0]).context("no answer")?;
            Ok(stream)
        };
        (0..count).map(connect).collect()
    })?
}

fn it_sheds_load_when_descriptors_run_out_and_recovers(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "remote-1"])?;
    let used = s.proxy()?.resources()?.descriptors;
    s.proxy()?.bound_descriptors(used + 40)?;
    let mut kept = Vec::new();
    while let Ok(conversation) = s.pod(3).place.open(s.web_address()) {
        kept.push(conversation);
        ensure!(kept.len() < 40, "the bound is not felt");
    }
    ensure!(kept.len() >= 10, "only {} connections were served", kept.len());
    s.proxy()?.await_line_with("raise the limit of open files")?;
    kept.iter_mut().try_for_each(Conversation::echo)?;
    kept.into_iter().try_for_each(Conversation::close)?;
    await_that("it recovers", || Ok(s.pod(3).place.open(s.web_address()).is_ok()))?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], AsItself)?;
    Ok(())
}

fn new_connections_avoid_a_pod_that_is_cut_off(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "remote-1"])?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "remote-1"], AsItself)?;
    // It is there, and hears nothing.
    s.bed.pod_namespace(1).output("nft", &["add table inet cut"])?;
    let chain = "add chain inet cut in { type filter hook prerouting priority 0; policy drop; }";
    s.bed.pod_namespace(1).output("nft", &[chain])?;
    for _ in 0..10 {
        s.reaches(s.pod(3), s.web_address(), &["remote-1"], AsItself)?;
    }
    s.proxy()?.await_line_with("set aside")?;
    s.bed.pod_namespace(1).output("nft", &["delete table inet cut"])?;
    await_that("it is used again", || {
        let shares = s.pod(3).place.connect_times(Protocol::Tcp, s.web_address(), 2)?;
        Ok(shares.len() == 2)
    })
}
