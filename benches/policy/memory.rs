//! What the compiler, the kernel and the binary hold.

use std::fs;

use anyhow::Result;
use benches::contender::Contender as Running;
use benches::figures::Figures;
use benches::process::{self, Process};
use testbed::api_server::Options;
use testbed::{ApiServer, Bed, Layout, binary};

use crate::contender::Contender;
use crate::report as row;
use crate::world;

/// In this process, which has done nothing else. Objects are let go as soon as they are taken in.
pub(crate) fn measure(of: Contender) -> Result<Figures> {
    let mut figures = Figures::default();
    let own = Process::new(std::process::id());
    let before = own.resident()?;
    let compiler = world::compiled()?;
    figures.add_bytes(of.name(), row::COMPILER_RESIDENT, own.resident()? - before);
    let mut enforcer = of.open()?;
    let before = process::kernel_memory()?;
    enforcer.resync(compiler.program())?;
    figures.add_bytes(of.name(), row::KERNEL, process::kernel_memory()? - before);
    Ok(figures)
}

/// The daemon, with an API server that has all objects.
pub(crate) fn measure_binary(of: Contender) -> Result<Figures> {
    let bed = Bed::new(Layout::Routed, 1, 0)?;
    let server = bed.node.run(|| ApiServer::start(Options::default()))??;
    server.load(world::objects().collect())?;
    server.load(vec![testbed::cluster::service_cidr("kubernetes", &["10.96.0.0/12"])])?;
    let kubeconfig = std::env::temp_dir().join("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig())?;
    let kubeconfig = kubeconfig.to_string_lossy();
    let args = [&["--kubeconfig", &*kubeconfig, "--network-policy=on"][..], of.flags()].concat();
    let running = Running::start(&bed, std::process::Command::new(binary()?), &args)?;
    running.process.await_rest()?;
    let mut figures = Figures::default();
    figures.add_bytes(of.name(), row::RESIDENT, running.process.resident()?);
    figures.add_bytes(of.name(), row::PEAK, running.process.peak()?);
    Ok(figures)
}
