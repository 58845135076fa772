use anyhow::Result;
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::{Cluster, Family, Proxy};

use super::Running;
use crate::frontend;
use crate::place::Place;

/// Userspace mode with ports of its own on the node's address.
pub(crate) fn bound(place: &Place) -> Result<Running> {
    let address = place.node().to_string();
    // Ports above 1024 are the same there, with nothing to be kept in a file.
    let args = ["--userspace-entry=bound", "--userspace-bound-address", &address, "--userspace-ports-file="];
    let proxy = start(place, "userspace", &args)?;
    Running::pointsman(proxy, place.node())
}

/// Userspace mode behind ClusterIPs.
pub(crate) fn captured(place: &Place) -> Result<Running> {
    behind_cluster_ips(place, "userspace", &["--userspace-entry=captured"])
}

/// The mode that leaves it all to the kernel.
pub(crate) fn nftables(place: &Place) -> Result<Running> {
    behind_cluster_ips(place, "nftables", &[])
}

fn behind_cluster_ips(place: &Place, mode: &str, args: &[&str]) -> Result<Running> {
    let proxy = start(place, mode, &[&["--cluster-cidr", Family::V4.cluster_cidr()], args].concat())?;
    Running::pointsman(proxy, Family::V4.cluster_ip(10))
}

fn start(place: &Place, mode: &str, args: &[&str]) -> Result<Proxy> {
    let mut all = vec!["--proxy-mode", mode, "--hostname-override", "node"];
    all.extend(args);
    let args: Vec<String> = all.into_iter().map(str::to_owned).collect();
    Proxy::start(&place.bed.node, &cluster(), &args)
}

/// A Service with a port for each frontend, and a slice for each number of endpoints.
fn cluster() -> Cluster {
    let (mut cluster, mut service) = (Cluster::default(), Service::new("bench", Family::V4.cluster_ip(10)));
    for frontend in frontend::all() {
        let protocol = frontend.protocol;
        service = service.port(frontend.name, protocol.name(), frontend.port);
        let endpoints = frontend.targets().map(|target| Endpoint {
            address: target.ip().to_string(),
            node: Some("node".to_owned()),
            ..Endpoint::default()
        });
        let slice = Slice::new("bench", Family::V4, endpoints).named(&format!("bench-{}", frontend.name));
        cluster.put_slice(slice.port(frontend.name, protocol, frontend.port));
    }
    cluster.put(service);
    cluster.put_other("node", testbed::cluster::node(None, &[Family::V4.node()], &["10.128.0.0/16"]));
    cluster
}
