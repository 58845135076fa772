//! Five thousand nodes. How long they take is measured by the bench `cni`.

use anyhow::{Result, ensure};
use cni::network::{Backend, Update};
use endpoint_cache::object::{Node as Object, NodeAddress};
use testbed::suite::Test;

use crate::cluster::Cluster;
use crate::settings;

/// What another hardware address takes: a neighbour, and a forwarding entry that comes and one that goes.
const FOR_ONE: usize = 3;

pub(crate) fn tests() -> Vec<Test> {
    [Backend::Vxlan, Backend::HostGw]
        .into_iter()
        .map(|backend| Test::new(format!("five_thousand_nodes_{backend}"), move || many(backend)))
        .collect()
}

fn object(number: u16, mac: u8) -> Object {
    let [high, low] = number.to_be_bytes();
    let mut object = Object::default();
    object.metadata.name = format!("node-{number}");
    object.spec.pod_cidrs = vec![format!("10.{}.{low}.0/24", 10 + high)];
    let address = format!("192.0.{}.{low}", 2 + high);
    object.status.addresses.push(NodeAddress { address_type: "InternalIP".into(), address });
    let data = format!("{{\"VNI\":1,\"VtepMAC\":\"02:00:00:{mac:02x}:{high:02x}:{low:02x}\"}}");
    for (name, value) in [("backend-type", "vxlan"), ("backend-data", &data)] {
        object.metadata.annotations.insert(format!("flannel.alpha.coreos.com/{name}"), value.into());
    }
    object
}

fn many(backend: Backend) -> Result<()> {
    let settings = cni::network::Settings { cluster_cidrs: vec!["10.0.0.0/8".parse()?], ..settings(backend) };
    let mut cluster = Cluster::new(1, 0, &settings)?;
    let node = &mut cluster.nodes[0];
    node.host.ip("addr add 192.0.2.1/19 dev eth0")?;
    node.look_for_uplinks()?;
    node.apply()?;
    for number in 256..5256 {
        let problems = node.model.apply(Update::Node(Box::new(object(number, 0))));
        ensure!(problems.is_empty(), "{problems:?}");
    }
    node.apply()?;
    let routes = node.entries()?["route"];
    ensure!(routes == 5000, "{routes} routes");
    for number in 300..310 {
        node.model.apply(Update::Node(Box::new(object(number, 1))));
        let (_, operations) = node.apply_counted()?;
        ensure!(operations <= FOR_ONE, "{operations} operations for one node");
    }
    let report = node.resync()?;
    ensure!(report.operations == 0 && report.refused.is_empty(), "{report:?}");
    Ok(())
}
