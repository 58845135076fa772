//! Token buckets against the kernel: they are what `tc` shows, and packets wait in them.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel::link::{LinkChange, Links};
use kernel::netns::Netns;
use kernel::qdisc::{Bucket, QdiscKind, Qdiscs};
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("a_bucket_is_attached_replaced_and_removed", bucket),
        Test::new("rates_that_need_more_than_32_bits_are_told_whole", wide),
        Test::new("what_comes_in_is_led_to_another_device_and_back", redirected),
        Test::new("packets_wait_and_too_many_are_dropped", waits),
        Test::new("what_is_not_there_can_be_removed", absent),
        Test::new("refusals_name_the_device", refused),
    ])
}

fn output(program: &str, command: &str) -> Result<String> {
    let output = Command::new(program).args(command.split(' ')).output();
    let output = output.context("apt-get install iproute2")?;
    ensure!(output.status.success(), "{program} {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A pair, one end of which is in a namespace of its own; both up.
fn pair() -> Result<u32> {
    for command in [
        "netns add pod",
        "link add veth-a type veth peer name eth0 netns pod",
        "address add 10.0.0.1/24 dev veth-a",
        "-n pod address add 10.0.0.2/24 dev eth0",
        "link set veth-a up",
        "-n pod link set eth0 up",
    ] {
        output("ip", command)?;
    }
    let mut links = Links::open()?;
    let index = links.find("veth-a")?.context("no veth-a")?.index;
    testbed::await_that("the pair carries packets", || {
        Ok(links.get(index)?.is_some_and(|link| link.operating))
    })?;
    Ok(index)
}

fn of(rate: u64, burst: u32) -> Bucket {
    Bucket { rate, burst, latency: Duration::from_millis(25) }
}

fn kinds(qdiscs: &mut Qdiscs, link: u32) -> Result<Vec<QdiscKind>> {
    Ok(qdiscs.list(link)?.into_iter().map(|qdisc| qdisc.kind).collect())
}

fn is_near(found: &[QdiscKind], rate: u64, burst: u64) -> bool {
    match found {
        [QdiscKind::Bucket { rate: found, burst: at_once }] => {
            *found == rate && at_once.abs_diff(burst) <= burst / 100
        }
        _ => false,
    }
}

fn bucket() -> Result<()> {
    let (link, mut qdiscs) = (pair()?, Qdiscs::open()?);
    qdiscs.limit(link, &of(1_250_000, 20_000))?;
    let shown = output("tc", "qdisc show dev veth-a")?;
    for part in ["tbf", "root", "rate 10Mbit", "lat 25ms"] {
        ensure!(shown.contains(part), "{part} is not in {shown}");
    }
    let found = kinds(&mut qdiscs, link)?;
    ensure!(is_near(&found, 1_250_000, 20_000), "{found:?}");
    ensure!(qdiscs.list(link)?.iter().all(|qdisc| qdisc.is_root && qdisc.link == link));
    qdiscs.limit(link, &of(2_500_000, 40_000))?;
    let found = kinds(&mut qdiscs, link)?;
    ensure!(is_near(&found, 2_500_000, 40_000), "{found:?}");
    qdiscs.unlimit(link)?;
    let shown = output("tc", "qdisc show dev veth-a")?;
    ensure!(!shown.contains("tbf"), "{shown}");
    Ok(())
}

fn wide() -> Result<()> {
    let (link, mut qdiscs) = (pair()?, Qdiscs::open()?);
    let rate = 12_500_000_000;
    qdiscs.limit(link, &of(rate, 10_000_000))?;
    ensure!(output("tc", "qdisc show dev veth-a")?.contains("rate 100Gbit"));
    let found = kinds(&mut qdiscs, link)?;
    ensure!(matches!(&found[..], [QdiscKind::Bucket { rate: found, .. }] if *found == rate), "{found:?}");
    Ok(())
}

/// A packet comes from the other namespace.
fn arrives() -> Result<()> {
    let netns = Netns::open(Path::new("/run/netns/pod"))?;
    let receiver = UdpSocket::bind("10.0.0.1:9")?;
    receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
    netns.run(|| UdpSocket::bind("10.0.0.2:0")?.send_to(b"?", "10.0.0.1:9"))??;
    receiver.recv(&mut [0; 8])?;
    Ok(())
}

fn redirected() -> Result<()> {
    let (link, mut qdiscs, mut links) = (pair()?, Qdiscs::open()?, Links::open()?);
    links.make_ifb("ifb-a")?;
    let ifb = links.find("ifb-a")?.context("no ifb-a")?.index;
    links.change(ifb, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    ensure!(qdiscs.redirected_to(link)?.is_none(), "it is redirected before it is");
    qdiscs.redirect(link, ifb)?;
    ensure!(qdiscs.redirected_to(link)? == Some(ifb), "it is not listed");
    ensure!(kinds(&mut qdiscs, link)?.contains(&QdiscKind::Ingress), "{:?}", qdiscs.list(link)?);
    arrives().context("what was led away did not come back")?;
    let counted = output("ip", "-s link show ifb-a")?;
    let sent: u64 = counted
        .lines()
        .last()
        .and_then(|line| line.split_whitespace().nth(1))
        .context("no counters")?
        .parse()?;
    ensure!(sent > 0, "nothing went by way of the other device: {counted}");
    qdiscs.end_redirection(link)?;
    ensure!(qdiscs.redirected_to(link)?.is_none(), "it is still redirected");
    arrives().context("nothing comes any longer")?;
    // All of it goes with the device.
    qdiscs.redirect(link, ifb)?;
    links.remove(link)?;
    ensure!(qdiscs.list(link)?.is_empty());
    Ok(())
}

fn waits() -> Result<()> {
    let (link, mut qdiscs) = (pair()?, Qdiscs::open()?);
    let netns = Netns::open(Path::new("/run/netns/pod"))?;
    let receiver = netns.run(|| UdpSocket::bind("10.0.0.2:9"))??;
    receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
    let sender = UdpSocket::bind("10.0.0.1:0")?;
    sender.connect("10.0.0.2:9")?;
    // Hardware addresses are found out before anything is measured.
    sender.send(b"?")?;
    receiver.recv(&mut [0; 8])?;
    // A packet of 1042 bytes at 100,000 bytes a second takes 10 ms; three pass at once, and two may wait.
    qdiscs.limit(link, &of(100_000, 3_200))?;
    let since = Instant::now();
    for _ in 0..30 {
        sender.send(&[0; 1000])?;
    }
    // What passes on a busy machine while it is still being sent.
    let meanwhile = since.elapsed().as_millis() / 10;
    let mut received = 0;
    receiver.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut last = since.elapsed();
    while receiver.recv(&mut [0; 2000]).is_ok() {
        received += 1;
        last = since.elapsed();
    }
    let most = 9 + meanwhile;
    ensure!((3..=most).contains(&received), "{received} packets passed, not from 3 to {most}");
    ensure!(last >= Duration::from_millis(10), "none waited: the last came after {last:?}");
    Ok(())
}

fn absent() -> Result<()> {
    let (link, mut qdiscs) = (pair()?, Qdiscs::open()?);
    for link in [link, 9999] {
        qdiscs.unlimit(link)?;
        qdiscs.end_redirection(link)?;
        ensure!(qdiscs.redirected_to(link)?.is_none());
    }
    Ok(())
}

fn refused() -> Result<()> {
    let mut qdiscs = Qdiscs::open()?;
    let Err(error) = qdiscs.limit(9999, &of(1, 1)) else { bail!("what is not there was limited") };
    ensure!(error.to_string().contains("limit what device 9999 sends"), "{error}");
    let Err(error) = qdiscs.redirect(9999, 1) else { bail!("what is not there was redirected") };
    ensure!(error.to_string().contains("device 9999"), "{error}");
    Ok(())
}
