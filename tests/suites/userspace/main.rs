//! What is special when the process carries connections itself: under whose address, and what there is for that in the
//! kernel besides frontends. What packets do in this mode, the suite `packets` tells.

mod addresses;
mod faults;
mod leaving;
mod others;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result};
use testbed::cluster::{Service, Slice};
use testbed::mode::{Mode, USERSPACE, USERSPACE_IPTABLES, USERSPACE_IPTABLES_NFT};
use testbed::suite::run_everywhere;
use testbed::{Family, POD_PORT, Protocol, Subject};

/// Led to by all that can lead here.
const MODES: &[Mode] = &[USERSPACE, USERSPACE_IPTABLES_NFT, USERSPACE_IPTABLES];

fn main() -> ExitCode {
    let tables = [addresses::SCENARIOS, others::SCENARIOS, leaving::SCENARIOS, faults::SCENARIOS];
    run_everywhere(MODES, &tables, Subject::prepare, Subject::explain)
}

/// The address that traffic is led to.
fn capture_address(family: Family) -> Result<IpAddr> {
    Ok(match family {
        Family::V4 => "169.254.112.77".parse()?,
        Family::V6 => "fd70:6f69:6e74::1".parse()?,
    })
}

/// Where the process listens for the only service port, which is of TCP.
fn listens(s: &Subject) -> Result<SocketAddr> {
    let address = capture_address(s.family())?;
    let listed = s.bed.node.output("ss", &["-Hltn"])?;
    let local = listed.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse::<SocketAddr>().ok());
    let mut ours = local.filter(|local| local.ip() == address);
    ours.next().with_context(|| format!("nobody listens at {address}: {listed}"))
}

/// Everything that routing depends on, and the addresses of `lo`; but for what comes and goes by itself with IPv6's
/// link-local addresses.
fn routing(s: &Subject) -> Result<String> {
    let commands =
        ["-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all", "-o addr show dev lo"];
    let listed = commands.map(|command| s.bed.node.output("ip", &command.split(' ').collect::<Vec<_>>()));
    let listed: String = listed.into_iter().collect::<Result<_>>()?;
    let comes_and_goes = |line: &&str| ["fe80:", "ff00::", "anycast"].iter().any(|word| line.contains(word));
    Ok(listed.lines().filter(|line| !comes_and_goes(line)).map(|line| format!("{line}\n")).collect())
}

/// A Service of UDP on these pods.
fn put_dns(s: &mut Subject, dns: Service, pods: &[&str]) {
    let slice = Slice::new("dns", s.family(), pods.iter().map(|pod| s.endpoint(pod)));
    s.cluster.put(dns).put_slice(slice.port("dns", Protocol::Udp, POD_PORT));
}

fn dns(s: &Subject) -> Service {
    Service::new("dns", s.family().cluster_ip(53)).udp("dns", 53)
}
