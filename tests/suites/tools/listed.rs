//! `pointsman get` and `pointsman status`.

use anyhow::{Result, ensure};
use testbed::scenarios;

use crate::subject::{Tools, ensure_line};

scenarios![Tools:
    services_are_listed_as_kubectl_lists_them,
    endpoints_are_listed_with_the_reason_why_not,
    what_changes_is_seen_at_once,
    status_tells_of_objects_and_the_last_sync,
];

fn services_are_listed_as_kubectl_lists_them(t: &mut Tools) -> Result<()> {
    t.serve()?;
    let cluster_ip = t.subject.web_address().ip().to_string();
    let text = t.said(&["get", "services"])?;
    let web = ["test", "web", "LoadBalancer", &cluster_ip, "192.0.2.7", "80:30080/TCP", "2/4"];
    for words in [&["NAMESPACE", "CLUSTER-IP", "PORT(S)"][..], &web, &["test", "db", "headless"]] {
        ensure_line(&text, words)?;
    }
    ensure!(!text.contains('\u{1b}'), "no colour but on a terminal: {text}");
    let wide = t.said(&["get", "svc", "-n", "test", "web", "-o", "wide"])?;
    ensure_line(&wide, &["web", "Cluster", "Local"])?;
    ensure!(wide.lines().count() == 2, "only what is named:\n{wide}");
    let web = &t.json(&["get", "svc", "-A", "web"])?["services"][0];
    ensure!(web["clusterIps"][0] == *cluster_ip && web["externalTrafficPolicy"] == "Local", "{web}");
    let yaml = t.said(&["get", "svc", "-o", "yaml"])?;
    ensure!(yaml.lines().any(|line| line == "mode: nftables"), "{yaml}");
    Ok(())
}

fn endpoints_are_listed_with_the_reason_why_not(t: &mut Tools) -> Result<()> {
    t.serve()?;
    let text = t.said(&["get", "endpoints", "web"])?;
    for (pod, words) in [
        ("pod-1", &["node", "(here)", "true", "yes"][..]),
        ("remote-1", &["true", "partly", "external", "policy", "Local"]),
        ("pod-2", &["false", "no", "not", "ready"]),
        ("pod-3", &["false", "no", "terminating", "while", "others", "are", "ready"]),
    ] {
        ensure_line(&text, &[&["test/web", "http", &t.address(pod)], words].concat())?;
    }
    let endpoints = t.json(&["get", "ep", "web"])?["endpoints"].clone();
    let of = |pod| {
        let address = t.address(pod);
        endpoints.as_array().into_iter().flatten().find(|endpoint| endpoint["address"] == *address).cloned()
    };
    let not_ready = of("pod-2").unwrap_or_default();
    ensure!(not_ready["used"] == "no" && not_ready["whyNot"] == "not ready", "{endpoints}");
    let here = of("pod-1").unwrap_or_default();
    ensure!(here["used"] == "yes" && here["whyNot"].is_null() && here["local"] == true, "{endpoints}");
    ensure_line(&t.said(&["get", "ep", "db"])?, &["test/db", "headless"])
}

fn what_changes_is_seen_at_once(t: &mut Tools) -> Result<()> {
    t.serve()?;
    t.subject.cluster.slice("web").endpoints.truncate(1);
    t.subject.cluster.delete_other("db");
    t.subject.sync()?;
    let services = t.json(&["get", "svc"])?["services"].clone();
    let names: Vec<_> = services.as_array().into_iter().flatten().map(|service| &service["name"]).collect();
    ensure!(names == ["web"], "{services}");
    ensure!(services[0]["ports"][0]["endpoints"].as_array().is_some_and(|all| all.len() == 1), "{services}");
    Ok(())
}

fn status_tells_of_objects_and_the_last_sync(t: &mut Tools) -> Result<()> {
    t.serve()?;
    let text = t.said(&["status"])?;
    ensure_line(&text, &["objects", "1", "Services,", "EndpointSlices,", "4", "endpoints"])?;
    ensure_line(&text, &["last", "sync", "of", "everything", "operations"])?;
    let status = t.json(&["status"])?;
    ensure!(status["lastSync"]["full"] == true && status["lastSync"]["changes"] == 1, "{status}");
    ensure!(status["lastSync"]["operations"].as_u64().is_some_and(|count| count > 0), "{status}");
    ensure!(status["objects"]["endpointSlices"] == 1 && status["watches"].is_null(), "{status}");
    Ok(())
}
