//! From a Node as the API server sends it to routes in the kernel, with five thousand of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::figures::{Figures, median};
use cni::network::{Applier, Backend, Nodes, Settings, Update};
use endpoint_cache::Family;
use serde_json::json;
use testbed::Namespace;

use crate::report::{ALL_NODES, HOST_GW, ONE_NODE, ONE_NODE_WORST, VXLAN};

const NODES: u16 = 5_000;
const CHANGES: u16 = 200;

/// A node's object, as it comes.
fn object(number: u16, mac: u8) -> String {
    let [high, low] = number.to_be_bytes();
    let data = format!("{{\"VNI\":1,\"VtepMAC\":\"02:00:00:{mac:02x}:{high:02x}:{low:02x}\"}}");
    json!({
        "metadata": {
            "name": format!("node-{number}"),
            "annotations": {
                "flannel.alpha.coreos.com/backend-type": "vxlan", "flannel.alpha.coreos.com/backend-data": data,
            },
        },
        "spec": { "podCIDRs": [format!("10.{}.{low}.0/24", 10 + high)] },
        "status": { "addresses": [{ "type": "InternalIP", "address": format!("192.0.{}.{low}", 2 + high + mac) }] },
    })
    .to_string()
}

pub(crate) fn measure() -> Result<Figures> {
    let mut figures = Figures::default();
    for (name, backend) in [(HOST_GW, Backend::HostGw), (VXLAN, Backend::Vxlan)] {
        let node = Namespace::new(&format!("node-{backend}"))?;
        node.ip("link add eth0 type veth peer name other\nlink set other up\nlink set eth0 up\naddr add 192.0.2.1/18 dev eth0")?;
        node.run(|| measure_on(name, backend, &mut figures))??;
    }
    Ok(figures)
}

fn measure_on(name: &str, backend: Backend, figures: &mut Figures) -> Result<()> {
    let settings = Settings {
        backend,
        families: vec![Family::V4],
        cluster_cidrs: vec!["10.0.0.0/8".parse()?],
        masquerade: None,
        ..Settings::default()
    };
    let mut nodes = Nodes::new("this", settings.clone());
    let own = json!({
        "metadata": { "name": "this" }, "spec": { "podCIDRs": ["10.9.0.0/24"] },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
    });
    let mut applier = Applier::open(settings)?;
    hear(&mut nodes, &own.to_string())?;
    let uplinks = applier.uplinks(&nodes.own_addresses())?;
    nodes.apply(Update::Uplinks(uplinks));
    nodes.take_delta();
    applier.resync(nodes.desired())?;
    let objects: Vec<String> = (256..256 + NODES).map(|number| object(number, 0)).collect();
    let start = Instant::now();
    for object in &objects {
        hear(&mut nodes, object)?;
    }
    apply(&mut nodes, &mut applier, NODES.into())?;
    figures.add(name, ALL_NODES, start.elapsed());
    let mut times = Vec::new();
    for number in 1000..1000 + CHANGES {
        // It comes back with another address and another hardware address.
        let object = object(number, 1);
        let start = Instant::now();
        hear(&mut nodes, &object)?;
        apply(&mut nodes, &mut applier, 1)?;
        times.push(start.elapsed());
    }
    figures.add(name, ONE_NODE, median(&mut times));
    figures.add(name, ONE_NODE_WORST, times.last().copied().unwrap_or(Duration::ZERO));
    Ok(())
}

fn hear(nodes: &mut Nodes, object: &str) -> Result<()> {
    let node = serde_json::from_str(object).context("no Node")?;
    let problems = nodes.apply(Update::Node(Box::new(node)));
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(())
}

fn apply(nodes: &mut Nodes, applier: &mut Applier, changes: usize) -> Result<()> {
    let delta = nodes.take_delta();
    ensure!(delta.ways.len() == changes, "{} changes", delta.ways.len());
    let report = applier.apply(&delta, nodes.desired())?;
    ensure!(report.refused.is_empty(), "{:?}", report.refused);
    Ok(())
}
