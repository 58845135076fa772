//! A proxy's binary on a node, with an API server or a folder, measured from outside: by connections and `/proc`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use benches::contender::{Cluster, Contender, PATIENCE, await_pod};
use benches::figures::{Figures, median, p99};
use benches::objects;
use benches::process::kernel_memory;
use serde_json::{Value, json};
use testbed::{Bed, Layout, Outcome, Place, Protocol, binary};

/// Changes of the probed Service's endpoint.
const FLIPS: u32 = 200;
/// Objects in each manifest.
const MANIFEST: usize = 2_000;

/// Pointsman, with an API server.
pub(crate) fn pointsman(services: u32) -> Result<Figures> {
    let cluster = Cluster::new(services)?;
    let (mut contender, mut figures) = start_and_change(&cluster, &binary()?, "pointsman")?;
    figures.add("pointsman", "foreign edit to repaired", repair(&cluster)?);
    contender.process.await_rest()?;
    repair_elsewhere(&cluster)?;
    contender.process.await_rest()?;
    contender.kill()?;
    cluster.server.put(objects::probed_slice(&cluster.bed, 2))?;
    let started = Instant::now();
    let again = start(&cluster.bed, &binary()?, &cluster.source())?;
    await_pod(&cluster.bed, 2)?;
    figures.add("pointsman", "restart to the first change in force", started.elapsed());
    again.process.await_rest()?;
    figures.add_bytes("pointsman", "resident after a restart, peak", again.process.peak()?);
    Ok(figures)
}

/// A kube-proxy, with an API server.
pub(crate) fn kube_proxy(binary: &Path, services: u32) -> Result<Figures> {
    Ok(start_and_change(&Cluster::new(services)?, binary, "kube-proxy")?.1)
}

fn start_and_change(cluster: &Cluster, binary: &Path, who: &str) -> Result<(Contender, Figures)> {
    let bed = &cluster.bed;
    let before = kernel_memory()?;
    let started = Instant::now();
    let contender = start(bed, binary, &cluster.source())?;
    await_pod(bed, 1)?;
    let start = started.elapsed();
    contender.process.await_rest()?;
    let mut figures = Figures::default();
    figures.add(who, "start with the API server to first answer", start);
    figures.add_bytes(who, "resident, settled", contender.process.resident()?);
    figures.add_bytes(who, "resident, peak", contender.process.peak()?);
    figures.add_bytes(who, "kernel memory", kernel_memory()? - before);

    let cpu = contender.process.cpu()?;
    let mut times = Vec::new();
    for flip in 0..FLIPS {
        let pod = if flip % 2 == 0 { 2 } else { 1 };
        times.push(cluster.lead_to(pod)?);
    }
    let cpu = (contender.process.cpu()? - cpu) / FLIPS;
    figures.add(who, "API event to packet, median", median(&mut times));
    figures.add(who, "API event to packet, p99", p99(&mut times));
    figures.add(who, "CPU time of a change", cpu);
    figures.add_bytes(who, "resident, after changes", contender.process.resident()?);
    Ok((contender, figures))
}

/// Somebody takes the probed Service out of the rules: how long until it is back?
fn repair(cluster: &Cluster) -> Result<Duration> {
    let ip = objects::probed_address().ip();
    let edit = format!("delete element ip pointsman service-ips {{ {ip} . tcp . 80 }}");
    cluster.bed.node.output("nft", &[&edit])?;
    let edited = Instant::now();
    await_pod(&cluster.bed, 1)?;
    Ok(edited.elapsed())
}

/// Somebody takes another element out: while it is put back, no connection to the probed Service may fail.
fn repair_elsewhere(cluster: &Cluster) -> Result<()> {
    let element = format!("{{ {} }}", benches::cluster::cluster_ip(0));
    let nft = |verb: &str| {
        let command = format!("{verb} element ip pointsman cluster-ips {element}");
        cluster.bed.node.output("nft", &[&command])
    };
    nft("delete")?;
    let from = Place::of(cluster.bed.pod_namespace(3));
    let deadline = Instant::now() + PATIENCE;
    while nft("get").is_err() {
        ensure!(Instant::now() < deadline, "the element is not put back");
        for _ in 0..200 {
            let outcome = from.connect(Protocol::Tcp, objects::probed_address())?;
            ensure!(matches!(outcome, Outcome::Answered { .. }), "during a repair: {outcome}");
        }
    }
    Ok(())
}

/// Pointsman, with a folder of manifests.
pub(crate) fn pointsman_with_folder(services: u32) -> Result<Figures> {
    let bed = Bed::new(Layout::Routed, 3, 0)?;
    let folder = std::env::temp_dir().join("manifests");
    fs::create_dir(&folder)?;
    let mut objects = objects::objects(services)?;
    objects.extend([objects::probed_service(), objects::probed_slice(&bed, 1)]);
    for (number, items) in objects.chunks(MANIFEST).enumerate() {
        write_list(&folder.join(format!("{number}.json")), items)?;
    }
    drop(objects);
    let started = Instant::now();
    let contender = start(&bed, &binary()?, &["--manifests", &folder.to_string_lossy()])?;
    await_pod(&bed, 1)?;
    let mut figures = Figures::default();
    figures.add("pointsman", "start with a folder to first answer", started.elapsed());
    contender.process.await_rest()?;
    figures.add_bytes("pointsman", "resident with a folder, peak", contender.process.peak()?);
    Ok(figures)
}

fn write_list(path: &Path, items: &[Value]) -> Result<()> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    Ok(fs::write(path, list.to_string())?)
}

fn start(bed: &Bed, binary: &Path, source: &[&str]) -> Result<Contender> {
    Contender::start(bed, Command::new(binary), &[source, &["--proxy-mode", "nftables"]].concat())
}
