//! SCTP, in every mode and family. Hosts may have no SCTP sockets: this suite runs in the virtual machine.

mod associations;
mod frontends;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use testbed::cluster::{Service, Slice};
use testbed::suite::{Circumstances, modes, run_everywhere};
use testbed::{POD_PORT, Protocol, Subject};

fn main() -> ExitCode {
    let tables = [frontends::SCENARIOS, associations::SCENARIOS];
    run_everywhere(modes(), &tables, prepare, Subject::explain)
}

fn prepare(circumstances: Circumstances) -> Result<Subject> {
    let mut s = Subject::prepare(circumstances)?;
    s.bed.answer_sctp()?;
    Ok(s)
}

/// The port that Diameter has, with which SCTP mostly comes.
const PORT: u16 = 3868;

/// A Service `hss` with ClusterIP 10.
fn hss(s: &Subject) -> Service {
    Service::new("hss", s.family().cluster_ip(10)).sctp("diameter", PORT)
}

/// Where `hss` is.
fn address(s: &Subject) -> SocketAddr {
    (s.family().cluster_ip(10), PORT).into()
}

/// Serves a variant of `hss` on these pods.
fn serve(s: &mut Subject, hss: Service, pods: &[&str]) -> Result<()> {
    let slice = Slice::new("hss", s.family(), pods.iter().map(|pod| s.endpoint(pod)));
    s.cluster.put(hss).put_slice(slice.port("diameter", Protocol::Sctp, POD_PORT));
    s.sync()
}
