//! What each of the kernel's schedulers makes of connections, in IPVS mode (`--ipvs-scheduler`). This suite runs in the
//! virtual machine, whose kernel has them all.
//!
//! Every address and port that a service has is a service of its own to IPVS. So those that go by destination (dh, lblc,
//! lblcr) lead each frontend to one endpoint.

mod by_address;
mod by_connections;
mod in_turn;
mod unknown;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use testbed::subject::{Who, answerer};
use testbed::suite::run_everywhere;
use testbed::{Protocol, Subject, mode};

fn main() -> ExitCode {
    let tables = [in_turn::SCENARIOS, by_address::SCENARIOS, by_connections::SCENARIOS, unknown::SCENARIOS];
    run_everywhere(&[mode::IPVS], &tables, Subject::prepare, Subject::explain)
}

const PODS: [&str; 3] = ["pod-1", "pod-2", "remote-1"];

/// Connections that show that somebody stays.
const AGAIN: usize = 6;

/// Serves `web` on all pods by a scheduler, with so many external IPs from the first on.
fn serve(s: &mut Subject, scheduler: &str, external_ips: u8) -> Result<()> {
    s.args(&["--ipvs-scheduler", scheduler]);
    let web = (1..=external_ips).fold(s.web(), |web, number| web.external_ip(s.family().external_ip(number)));
    s.serve(web, &PODS)
}

/// The one pod that answers a client again and again.
fn sole_answerer(who: Who<'_>, to: impl Into<SocketAddr>) -> Result<String> {
    let to = to.into();
    let counts = who.place.connect_times(Protocol::Tcp, to, AGAIN)?;
    ensure!(counts.len() == 1, "{} does not stay: {counts:?}", who.ip);
    let outcome = counts.keys().next().context("nobody answered")?;
    Ok(answerer(outcome)?.to_owned())
}
