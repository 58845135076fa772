//! What the page is about here, and asking for it as a browser would.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::cluster::Service;
use testbed::{Conversation, Family, Subject, await_that};

/// Where metrics are, and the page.
pub(crate) const AT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

const PATIENCE: Duration = Duration::from_secs(20);

/// Serves `web` on two pods, `shaky` on one that is ready and one that is not, `down` on one that is not, and `lonely`,
/// which has no endpoints; `ghost` is headless.
pub(crate) fn serve(s: &mut Subject) -> Result<()> {
    let service = |name, number| Service::new(name, Family::V4.cluster_ip(number)).tcp("http", 80);
    let web = s.web().node_port(30080);
    let mut ghost = Service::new("ghost", Family::V4.cluster_ip(1)).tcp("http", 80);
    ghost.cluster_ips = vec!["None".to_owned()];
    for service in [web, service("shaky", 11), service("down", 12), service("lonely", 13), ghost] {
        s.cluster.put(service);
    }
    let [one, two] = ["pod-1", "pod-2"].map(|pod| s.endpoint(pod));
    let slices = [
        s.slice("web", &["pod-1", "remote-1"]),
        s.slice_of("shaky", [one.clone(), two.not_ready()]),
        s.slice_of("down", [one.not_ready()]),
    ];
    for slice in slices {
        s.cluster.put_slice(slice);
    }
    s.args(&["--status-page"]);
    s.sync()?;
    // Rules are not kept waiting for whoever asks about them.
    await_that("the page is answered", || Ok(s.bed.node.run(|| TcpStream::connect(AT))?.is_ok()))
}

/// Holds so many connections to `web`.
pub(crate) fn connect(s: &Subject, count: usize) -> Result<Vec<Conversation>> {
    (0..count).map(|_| s.pod(3).place.open(s.web_address())).collect()
}

/// An answer, with its head in lower case.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks on the node.
pub(crate) fn ask(s: &Subject, method: &str, path: &str, host: &str) -> Result<Answer> {
    let exchange = || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&AT, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = s.bed.node.run(exchange)?.with_context(|| format!("no answer to {method} {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
    Ok(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// What is told as JSON, which must be there.
pub(crate) fn told(s: &Subject, path: &str) -> Result<Value> {
    let answer = ask(s, "GET", &format!("/status-page/{path}"), "localhost")?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
    ensure!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    Ok(serde_json::from_str(&answer.body)?)
}

/// What is told once it is so: it is gathered while one asks, and not at once.
pub(crate) fn await_told(s: &Subject, path: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    await_that(path, || {
        last = told(s, path)?;
        Ok(is_so(&last))
    })
    .with_context(|| format!("it tells {last:#}"))?;
    Ok(last)
}
