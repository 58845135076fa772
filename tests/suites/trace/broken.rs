//! One service, broken in every way that we could think of.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::cluster::{Endpoint, Service, service_cidr};
use testbed::rules::Edit;
use testbed::{Cluster, Family, POD_PORT, Protocol, Subject, trace};

testbed::scenarios![
    Subject:
    a_service_broken_in_twenty_ways_is_diagnosed_each_time,
    a_node_that_does_not_forward_is_diagnosed,
    a_node_without_its_proxy_is_diagnosed,
];

/// A way to break it.
struct Broken {
    /// What is the matter, in words.
    how: &'static str,
    /// Breaks it.
    breaks: fn(&mut Subject),
    /// Who asks trace, and where to.
    asks: fn(&Subject) -> (String, String),
    /// Further arguments.
    more: &'static [&'static str],
    /// What trace has to call it.
    name: &'static str,
    /// What it has to point to.
    points_to: &'static str,
}

const WAYS: &[Broken] = &[
    Broken {
        how: "its slice is empty",
        breaks: |s| edit(s, &[]),
        asks: from_pod,
        more: &[],
        name: "no-endpoints",
        points_to: "Service test/web",
    },
    Broken {
        how: "it has no slice",
        breaks: |s| {
            s.cluster.delete_slice("web");
        },
        asks: from_node,
        more: &[],
        name: "no-endpoints",
        points_to: "spec.selector",
    },
    Broken {
        how: "no pod is ready",
        breaks: |s| edit_endpoints(s, Endpoint::not_ready),
        asks: from_pod,
        more: &[],
        name: "not-ready",
        points_to: "EndpointSlice",
    },
    Broken {
        how: "all pods have terminated",
        breaks: |s| edit_endpoints(s, Endpoint::terminated),
        asks: from_pod,
        more: &[],
        name: "only-terminating",
        points_to: "EndpointSlice",
    },
    Broken {
        how: "all pods are about to end",
        breaks: |s| edit_endpoints(s, Endpoint::terminating),
        asks: from_pod,
        more: &[],
        name: "only-terminating",
        points_to: "EndpointSlice",
    },
    Broken {
        how: "its slice calls the port something else",
        breaks: |s| "web".clone_into(&mut s.cluster.slice("web").ports[0].0),
        asks: from_pod,
        more: &[],
        name: "port-name-mismatch",
        points_to: "EndpointSlice web",
    },
    Broken {
        how: "its endpoints are of the other family",
        breaks: serve_other_family,
        asks: from_pod,
        more: &[],
        name: "other-family",
        points_to: "spec.ipFamilies",
    },
    Broken {
        how: "the client has the wrong port",
        breaks: |_| {},
        asks: |s| (pod(s), trace::destination((s.family().cluster_ip(10), 81).into(), Protocol::Tcp)),
        more: &[],
        name: "wrong-port",
        points_to: "spec.ports",
    },
    Broken {
        how: "the client has the wrong protocol",
        breaks: |_| {},
        asks: |s| (pod(s), trace::destination(s.web_address(), Protocol::Udp)),
        more: &[],
        name: "wrong-protocol",
        points_to: "spec.ports",
    },
    Broken {
        how: "internalTrafficPolicy Local, and no pod here",
        breaks: |s| {
            s.cluster.service("web").internal_local = true;
            edit(s, &["remote-1"]);
        },
        asks: from_pod,
        more: &[],
        name: "internal-local",
        points_to: "spec.internalTrafficPolicy",
    },
    Broken {
        how: "externalTrafficPolicy Local, and no pod here",
        breaks: |s| {
            s.cluster.service("web").external_local = true;
            edit(s, &["remote-1"]);
        },
        asks: |s| (client(s), at_node_port(s, 30080)),
        more: &[],
        name: "external-local",
        points_to: "spec.externalTrafficPolicy",
    },
    Broken {
        how: "the client is out of the source ranges",
        breaks: |_| {},
        asks: |s| (s.family().foreign_client().to_string(), at_load_balancer(s)),
        more: &[],
        name: "source-range",
        points_to: "spec.loadBalancerSourceRanges",
    },
    Broken {
        how: "it is headless",
        breaks: |s| s.cluster.service("web").cluster_ips = vec!["None".to_owned()],
        asks: by_name,
        more: &[],
        name: "headless",
        points_to: "spec.clusterIP",
    },
    Broken {
        how: "it is an ExternalName",
        breaks: |s| "ExternalName".clone_into(&mut s.cluster.service("web").service_type),
        asks: by_name,
        more: &[],
        name: "external-name",
        points_to: "spec.externalName",
    },
    Broken {
        how: "it is another proxy's",
        breaks: |s| {
            let label = ("service.kubernetes.io/service-proxy-name".to_owned(), "other".to_owned());
            s.cluster.service("web").labels.extend([label]);
        },
        asks: by_name,
        more: &[],
        name: "not-served",
        points_to: "Service test/web",
    },
    Broken {
        how: "it has no external address",
        breaks: |s| s.cluster.service("web").load_balancer.clear(),
        asks: by_name,
        more: &["--external"],
        name: "no-such-address",
        points_to: "Service test/web",
    },
    Broken {
        how: "the client has an address that no Service has",
        breaks: |_| {},
        asks: |s| (pod(s), trace::destination((s.family().cluster_ip(11), 80).into(), Protocol::Tcp)),
        more: &[],
        name: "no-service",
        points_to: "spec.clusterIPs",
    },
    Broken {
        how: "the client has the wrong node port",
        breaks: |_| {},
        asks: |s| (client(s), at_node_port(s, 30081)),
        more: &[],
        name: "not-a-node-port",
        points_to: "nodePort",
    },
    Broken {
        how: "node ports do not answer at that address",
        breaks: |_| {},
        asks: |s| {
            let to = (s.family().second_node_address(), 30080);
            (client(s), trace::destination(to.into(), Protocol::Tcp))
        },
        more: &[],
        name: "node-port-address",
        points_to: "--nodeport-addresses",
    },
    Broken {
        how: "the client asks a pod itself",
        breaks: |_| {},
        asks: |s| {
            let to = (s.bed.pod(1).ip(s.family()), POD_PORT);
            (pod(s), trace::destination(to.into(), Protocol::Tcp))
        },
        more: &[],
        name: "address-of-pod",
        points_to: "pod",
    },
    Broken {
        how: "there is no route to its endpoint",
        breaks: |s| {
            let nowhere = Endpoint { address: nowhere(s.family()).to_owned(), ..s.endpoint("remote-1") };
            let slice = s.slice_of("web", [nowhere]);
            s.cluster.put_slice(slice);
        },
        asks: from_pod,
        more: &[],
        name: "no-route-to-endpoint",
        points_to: "ip route",
    },
];

fn pod(s: &Subject) -> String {
    s.pod(3).ip.to_string()
}

fn client(s: &Subject) -> String {
    s.client().ip.to_string()
}

fn from_pod(s: &Subject) -> (String, String) {
    (pod(s), s.web_address().to_string())
}

fn from_node(s: &Subject) -> (String, String) {
    ("node".to_owned(), s.web_address().to_string())
}

fn by_name(s: &Subject) -> (String, String) {
    (pod(s), "test/web:http".to_owned())
}

fn at_node_port(s: &Subject, port: u16) -> String {
    trace::destination((s.family().node(), port).into(), Protocol::Tcp)
}

fn at_load_balancer(s: &Subject) -> String {
    trace::destination((s.family().load_balancer_ip(6), 80).into(), Protocol::Tcp)
}

/// An address that the node is told to be unreachable.
fn nowhere(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.66.0.1",
        Family::V6 => "fd00:66::1",
    }
}

/// Has these pods serve it.
fn edit(s: &mut Subject, pods: &[&str]) {
    let slice = s.slice("web", pods);
    s.cluster.put_slice(slice);
}

fn edit_endpoints(s: &mut Subject, how: fn(Endpoint) -> Endpoint) {
    let endpoints = ["pod-1", "remote-1"].map(|pod| how(s.endpoint(pod)));
    let slice = s.slice_of("web", endpoints);
    s.cluster.put_slice(slice);
}

fn serve_other_family(s: &mut Subject) {
    let other = if s.family() == Family::V4 { Family::V6 } else { Family::V4 };
    let mut slice = s.slice_of("web", [s.endpoint_in("pod-1", other)]);
    slice.address_type = other.name();
    s.cluster.put_slice(slice);
}

/// The service as it should be.
fn mend(s: &mut Subject) {
    let family = s.family();
    s.cluster = Cluster::default();
    s.cluster.put_other("cidr", service_cidr("kubernetes", &Family::BOTH.map(Family::service_cidr)));
    let web = s.web().node_port(30080).load_balancer_ip(family.load_balancer_ip(6));
    s.cluster.put(web.source_range(family.client_range()));
    edit(s, &["pod-1", "remote-1"]);
}

fn a_service_broken_in_twenty_ways_is_diagnosed_each_time(s: &mut Subject) -> Result<()> {
    ensure!(WAYS.len() >= 20);
    s.bed.node.ip(&format!("route add unreachable {}", nowhere(s.family())))?;
    let ranges = [format!("{}/32", Family::V4.node()), format!("{}/128", Family::V6.node())];
    s.args(&["--nodeport-addresses", &ranges.join(",")]);
    mend(s);
    s.sync()?;
    is_sound(s)?;
    let mut served = s.cluster.manifest();
    for way in WAYS {
        mend(s);
        (way.breaks)(s);
        // Not every way changes the cluster.
        if s.cluster.manifest() != served {
            s.sync()?;
            served = s.cluster.manifest();
        }
        check(s, way).with_context(|| format!("broken like this: {}", way.how))?;
    }
    Ok(())
}

/// What works is found to work.
fn is_sound(s: &Subject) -> Result<()> {
    let (source, destination) = from_pod(s);
    for destination in [destination, "test/web:http".to_owned()] {
        let traces = trace::ask(&s.bed.node, &source, &destination, &[])?;
        let trace = traces.first().context("nothing was traced")?;
        let findings = trace::findings(trace);
        ensure!(findings.is_empty(), "nothing is the matter, and it says {findings:?}: {trace:#}");
        let ends: Vec<_> =
            trace["ways"].as_array().into_iter().flatten().map(|way| &way["endpoint"]).collect();
        ensure!(ends.len() == 2 && trace["service"] == "test/web:http", "{trace:#}");
    }
    Ok(())
}

fn check(s: &Subject, way: &Broken) -> Result<()> {
    let (source, destination) = (way.asks)(s);
    let traces = trace::ask(&s.bed.node, &source, &destination, way.more)?;
    let found = traces.iter().flat_map(|trace| trace["findings"].as_array().into_iter().flatten());
    let first = found.clone().next().context("nothing is found")?;
    let looks_at = first["lookAt"].as_str().unwrap_or_default();
    let said: Vec<&Value> = found.collect();
    ensure!(first["name"] == way.name && looks_at.contains(way.points_to), "it finds {said:#?}");
    let sentence = first["says"].as_str().unwrap_or_default();
    ensure!(sentence.ends_with(['.', '?']) && !sentence.contains('\n'), "{sentence:?} is no sentence");
    Ok(())
}

fn a_node_that_does_not_forward_is_diagnosed(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "remote-1"])?;
    let forwarding = match s.family() {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    };
    s.bed.node.sysctl(forwarding, "0")?;
    let (source, web) = from_pod(s);
    finds(s, &source, &web, &["forwarding-off"])?;
    s.bed.node.sysctl(forwarding, "1")
}

fn a_node_without_its_proxy_is_diagnosed(s: &mut Subject) -> Result<()> {
    let dns = Service::new("dns", s.family().cluster_ip(53)).udp("dns", 53);
    let mut slice = s.slice("dns", &["pod-1"]);
    slice.ports = vec![("dns".to_owned(), "UDP", POD_PORT)];
    s.cluster.put(dns).put_slice(slice);
    s.serve_web(&["pod-1", "remote-1"])?;
    let dns = (s.family().cluster_ip(53), 53).into();
    let flow = s.pod(3).place.flow(dns)?;
    testbed::subject::answerer(&flow.ask()?)?;
    let (source, web) = from_pod(s);
    let dns = trace::destination(dns, Protocol::Udp);
    s.proxy()?.kill()?;
    finds(s, &source, &web, &["daemon-not-running"])?;
    s.rules().edit(Edit::FlushEverything)?;
    // Without its virtual server, IPVS leads a flow that has begun no further.
    let flow = if s.mode().is("ipvs") { "no-rules" } else { "stale-flow" };
    finds(s, &source, &dns, &[flow, "daemon-not-running"])
}

fn finds(s: &Subject, source: &str, destination: &str, names: &[&str]) -> Result<()> {
    let traces = trace::ask(&s.bed.node, source, destination, &[])?;
    let trace = traces.first().context("nothing was traced")?;
    let found = trace::findings(trace);
    ensure!(names.iter().all(|name| found.contains(name)), "{names:?} are to be found: {trace:#}");
    Ok(())
}
