//! The usual layout for comparison: `nft -f`, a chain for each service, its endpoints in a map of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::cluster::{cluster_ip, pod_ip};
use benches::figures::{Figures, median};
use benches::objects::ENDPOINTS;

const WHO: &str = "nft -f, a chain for each service";
const CHANGES: u32 = 11;

pub(crate) fn measure(services: u32) -> Result<Figures> {
    let mut figures = Figures::default();
    figures.add(WHO, "full load", nft(&everything(services))?);
    let replaced = (0..CHANGES).map(|number| nft(&replace(number * (services / CHANGES))));
    figures.add(WHO, "replace an endpoint, median", median(&mut replaced.collect::<Result<Vec<_>>>()?));
    let added =
        (0..CHANGES).map(|number| nft(&format!("{}{}", chain(services + number), lead(services + number))));
    figures.add(WHO, "add a service, median", median(&mut added.collect::<Result<Vec<_>>>()?));
    Ok(figures)
}

fn everything(services: u32) -> String {
    let mut text = String::from(
        "add table ip chains\n\
         add map ip chains service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }\n\
         add chain ip chains prerouting { type nat hook prerouting priority dstnat; }\n\
         add rule ip chains prerouting ip daddr . meta l4proto . th dport vmap @service-ips\n",
    );
    (0..services).for_each(|number| text.push_str(&chain(number)));
    (0..services).for_each(|number| text.push_str(&lead(number)));
    text
}

fn chain(number: u32) -> String {
    format!("add chain ip chains s{number}\n{}", rule(number, number * ENDPOINTS))
}

fn rule(number: u32, first_pod: u32) -> String {
    let mut text =
        format!("add rule ip chains s{number} meta l4proto tcp dnat to numgen random mod {ENDPOINTS} map {{");
    for slot in 0..ENDPOINTS {
        // Writing to a string cannot fail.
        let _ = write!(text, " {slot} : {} . 8080,", pod_ip(first_pod + slot));
    }
    text + " }\n"
}

fn lead(number: u32) -> String {
    let ip = cluster_ip(number);
    format!("add element ip chains service-ips {{ {ip} . tcp . 80 : goto s{number} }}\n")
}

fn replace(number: u32) -> String {
    format!("flush chain ip chains s{number}\n{}", rule(number, number * ENDPOINTS + 1))
}

fn nft(text: &str) -> Result<Duration> {
    let start = Instant::now();
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run nft: apt-get install nftables")?;
    child.stdin.take().context("no input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {}", said.lines().next().unwrap_or_default());
    Ok(start.elapsed())
}
