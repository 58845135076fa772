//! What the binary uses, with an API server.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use benches::contender::{Cluster, Contender as Proxy, await_pod};
use testbed::binary;

use crate::Measured;
use crate::contender::Contender;
use crate::report as row;

/// It looks after the kernel every second, so it never comes to rest.
const SETTLING: Duration = Duration::from_secs(5);

pub(crate) fn measure(of: Contender, services: u32) -> Result<Measured> {
    let cluster = Cluster::new(services)?;
    let args = [&cluster.source()[..], of.flags().args].concat();
    let proxy = Proxy::start(&cluster.bed, Command::new(binary()?), &args)?;
    await_pod(&cluster.bed, 1)?;
    thread::sleep(SETTLING);
    let mut measured = Measured::default();
    measured.figures.add_bytes(of.name(), row::RESIDENT, proxy.process.resident()?);
    measured.figures.add_bytes(of.name(), row::PEAK, proxy.process.peak()?);
    Ok(measured)
}
