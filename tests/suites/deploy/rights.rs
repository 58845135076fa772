//! What Pointsman asks of the API server is what its ClusterRole allows: everything, and nothing in vain.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::api_server::Options;
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::mode::USERSPACE;
use testbed::{ApiServer, Bed, Cluster, Family, Layout, POD_PORT, Protocol, Proxy, await_that};

use crate::manifests::{one, overlay, with_component};

const PATIENCE: Duration = Duration::from_secs(10);

/// What the ClusterRole system:node-proxier allows in Kubernetes 1.36: groups, resources and verbs.
const KUBE_PROXY: &[(&str, &[&str], &[&str])] = &[
    ("", &["services"], &["list", "watch"]),
    ("", &["nodes"], &["get", "list", "watch"]),
    ("", &["events"], &["create", "patch", "update"]),
    ("events.k8s.io", &["events"], &["create", "patch", "update"]),
    ("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
    ("networking.k8s.io", &["servicecidrs"], &["list", "watch"]),
];

/// A group of the API, a resource, and what is done to it.
type Right = (String, String, String);

pub(crate) fn the_role_allows_what_is_asked_for_and_nothing_else() -> Result<()> {
    let asked = asked_for(&[], 4)?;
    let allowed = allowed(&overlay("nftables")?)?;
    ensure!(asked == allowed, "asked for: {asked:#?}\nallowed: {allowed:#?}");
    // With kube-proxy's account, there is nothing to be changed.
    for (group, resource, verb) in &asked {
        let may = KUBE_PROXY.iter().any(|(groups, resources, verbs)| {
            groups == group && resources.contains(&resource.as_str()) && verbs.contains(&verb.as_str())
        });
        ensure!(may, "kube-proxy may not {verb} {resource} of group {group:?}");
    }
    Ok(())
}

pub(crate) fn policies_take_more_rights_and_the_component_gives_them() -> Result<()> {
    let objects = with_component("nftables", "network-policy")?;
    let args = &one(&objects, "DaemonSet", "pointsman")?["spec"]["template"]["spec"]["containers"][0]["args"];
    let args: Vec<&str> = args.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(("--network-policy=on", _)) = args.split_last().map(|(last, rest)| (*last, rest)) else {
        anyhow::bail!("{args:?}");
    };
    let (asked, allowed) = (asked_for(&["--network-policy=on"], 8)?, allowed(&objects)?);
    ensure!(asked == allowed, "asked for: {asked:#?}\nallowed: {allowed:#?}");
    let without = self::allowed(&overlay("nftables")?)?;
    ensure!(without.is_subset(&allowed) && without != allowed, "{without:#?}");
    Ok(())
}

/// Nodes tell each other where they are.
pub(crate) fn the_pod_network_takes_one_more_right_and_the_component_gives_it() -> Result<()> {
    let objects = with_component("nftables", "pod-network")?;
    let folder = tempfile::tempdir()?;
    let conflist = folder.path().join("10-pointsman.conflist");
    let flags = ["--pod-network=vxlan", &format!("--pod-network-cni-config={}", conflist.display())];
    let (asked, allowed) = (asked_for(&flags, 5)?, allowed(&objects)?);
    ensure!(asked == allowed, "asked for: {asked:#?}\nallowed: {allowed:#?}");
    ensure!(conflist.exists(), "the network is not ready");
    let mut more = self::allowed(&overlay("nftables")?)?;
    more.insert((String::new(), "nodes".to_owned(), "patch".to_owned()));
    ensure!(more == allowed, "{allowed:#?}");
    Ok(())
}

/// What the ClusterRole among these objects allows.
fn allowed(objects: &[Value]) -> Result<BTreeSet<Right>> {
    let role = one(objects, "ClusterRole", "pointsman")?;
    let words = |rule: &Value, field: &str| -> Vec<String> {
        let words = rule[field].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().context("no rules")? {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                let verbs = words(rule, "verbs").into_iter();
                rights.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    Ok(rights)
}

/// What a run takes that has everything in it: lists, watches, and an event about a Service.
fn asked_for(flags: &[&str], watches: usize) -> Result<BTreeSet<Right>> {
    let bed = Bed::new(Layout::Routed, 1, 0)?;
    // Without streaming lists, a list is a request of its own.
    let options = Options { streaming_lists: false, ..Options::default() };
    let server = bed.node.run(|| ApiServer::start(options))??;
    let mut cluster = Cluster::default();
    let gives_addresses = flags.iter().any(|flag| flag.starts_with("--pod-network"));
    let ranges: &[&str] = if gives_addresses { &["10.244.7.0/24"] } else { &[] };
    cluster.put_other("node", testbed::cluster::node(None, &[Family::V4.node()], ranges));
    cluster.put(Service::new("web", Family::V4.cluster_ip(10)).tcp("http", 80));
    let slice = Slice::new("web", Family::V4, [Endpoint::of(bed.pod(1), Family::V4)]);
    cluster.put_slice(slice.port("http", Protocol::Tcp, POD_PORT));
    // It is not carried in this mode, which users are told by an event.
    cluster.put(Service::new("hss", Family::V4.cluster_ip(20)).sctp("diameter", 3868));
    server.hold(&cluster.manifest())?;
    let args = [USERSPACE.args, &["--hostname-override", "node"], flags].concat();
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let _proxy = Proxy::start_with_api(&bed.node, &server, &args)?;
    server.await_watches(watches, PATIENCE)?;
    server.await_events(1, PATIENCE)?;
    if gives_addresses {
        // The node's own, which follow from where it is.
        await_that("the Node is annotated", || {
            Ok(server.requests().iter().any(|request| request.starts_with("PATCH ")))
        })?;
    }
    server.requests().iter().map(|request| right(request)).collect()
}

/// The right that a request takes, as the API server works it out.
fn right(request: &str) -> Result<Right> {
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut parts = path.trim_start_matches('/').split('/');
    let group = match parts.next() {
        Some("api") => "",
        Some("apis") => parts.next().unwrap_or_default(),
        _ => anyhow::bail!("{request} is no request for a resource"),
    };
    let rest: Vec<&str> = parts.skip(1).collect();
    let rest = match rest.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    let verb = match (method, rest) {
        ("GET", [_]) if query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1") => "watch",
        ("GET", [_]) => "list",
        ("GET", [_, _]) => "get",
        ("POST", [_]) => "create",
        ("PATCH", [_, _]) => "patch",
        ("PUT", [_, _]) => "update",
        _ => anyhow::bail!("{request} does something unknown"),
    };
    Ok((group.to_owned(), rest[0].to_owned(), verb.to_owned()))
}
