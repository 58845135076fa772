//! Names of chains are kube-proxy's, so that people find what they grep for.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::{Family, Protocol, Subject};

use crate::{own_chains, tables};

testbed::scenarios![Subject: known_names, names_are_hashes_of_service_port_and_endpoint];

/// The end of a chain's name, worked out by programs that everybody has: the first 16 characters of a SHA-256 in base 32.
pub(crate) fn suffix(of: &str) -> Result<String> {
    const PIPE: &str =
        "printf %s \"$1\" | sha256sum | cut -c 1-64 | tr a-f A-F | basenc --base16 --decode | base32";
    let output = Command::new("sh").args(["-c", PIPE, "sh", of]).output().context("cannot run sh")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.get(..16).map(str::to_owned).with_context(|| format!("no hash: {output:?}"))
}

fn in_namespace(mut object: Value, namespace: &str) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

fn check_chains(s: &Subject, names: &[String]) -> Result<()> {
    let chains = tables(s)?.chains("nat")?;
    for name in names {
        ensure!(chains.contains(name), "there is no chain {name}: {chains:#?}");
    }
    Ok(())
}

fn known_names(s: &mut Subject) -> Result<()> {
    let ip = s.family().cluster_ip(10);
    let service = Service::new("svc1", ip).tcp("p80", 80);
    // Nobody listens there, and nobody need to.
    let pod = s.bed.pod(1).ip(s.family());
    let slice = Slice::new("svc1", s.family(), [s.endpoint("pod-1")]).port("p80", Protocol::Tcp, 80);
    s.cluster.put_other("service", in_namespace(service.to_json(), "ns1"));
    s.cluster.put_other("slice", in_namespace(slice.to_json(), "ns1"));
    s.sync()?;
    // Both pairs are in kube-proxy's own tests.
    let endpoint = match s.family() {
        Family::V4 => "SXIVWICOYRO3J4NJ".to_owned(),
        Family::V6 => suffix(&format!("ns1/svc1:p80tcp{}", SocketAddr::new(pod, 80)))?,
    };
    ensure!(suffix("ns1/svc1:p80tcp")? == "XPGD46QRK7WJZT7O", "the test itself hashes wrongly");
    check_chains(s, &["KUBE-SVC-XPGD46QRK7WJZT7O".to_owned(), format!("KUBE-SEP-{endpoint}")])
}

fn names_are_hashes_of_service_port_and_endpoint(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let web = s.web().node_port(30080).external_local();
    let web = web.load_balancer_ip(family.load_balancer_ip(6)).source_range(family.client_range());
    let slice = s.slice("web", &["pod-1", "remote-1"]);
    // A port without a name.
    let dns = Service::new("dns", family.cluster_ip(53)).udp("", 53);
    let resolver = Endpoint::of(s.bed.pod(2), family);
    let dns_slice = Slice::new("dns", family, [resolver]).port("", Protocol::Udp, 5353);
    s.cluster.put(web).put_slice(slice).put(dns).put_slice(dns_slice);
    s.sync()?;

    let (web, dns) = ("test/web:httptcp", "test/dnsudp");
    let mut names = Vec::new();
    for kind in ["SVC", "SVL", "EXT", "FW"] {
        names.push(format!("KUBE-{kind}-{}", suffix(web)?));
    }
    names.push(format!("KUBE-SVC-{}", suffix(dns)?));
    for (of, pod, port) in [
        (web, s.bed.pod(1), testbed::POD_PORT),
        (web, s.bed.remote_pod(1), testbed::POD_PORT),
        (dns, s.bed.pod(2), 5353),
    ] {
        let endpoint = SocketAddr::new(pod.ip(family), port);
        names.push(format!("KUBE-SEP-{}", suffix(&format!("{of}{endpoint}"))?));
    }
    check_chains(s, &names)?;
    let chains = own_chains(s)?;
    let others: Vec<_> = chains.iter().filter(|chain| !names.contains(*chain)).collect();
    ensure!(others.is_empty(), "there are also {others:?}");
    Ok(())
}
