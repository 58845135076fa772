//! What the proxy asks the server for, and what it makes of the answer.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::api_server::Options;
use testbed::cluster;

use crate::subject::Subject;

pub(crate) fn changes_are_in_force_at_once(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_leads_to(10, 1)?;
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)?;
    subject.put("shop", 11, &[1]);
    subject.publish()?;
    subject.await_leads_to(11, 1)?;
    subject.remove("web");
    subject.publish()?;
    subject.await_gone(10)?;
    subject.await_leads_to(11, 1)
}

pub(crate) fn another_proxys_and_headless_services_are_not_asked_for(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_watches()?;
    let requests = subject.server.requests();
    for (path, selectors) in [
        (
            "/api/v1/services?",
            &[
                "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name",
                "fieldSelector=spec.clusterIP%21%3DNone",
            ][..],
        ),
        ("/endpointslices?", &["labelSelector=%21service.kubernetes.io%2Fheadless"]),
        ("/api/v1/nodes?", &["fieldSelector=metadata.name%3Dnode"]),
        ("/servicecidrs?", &["watch=true"]),
    ] {
        let mut asked = requests.iter().filter(|request| request.contains(path)).peekable();
        ensure!(asked.peek().is_some(), "nothing asked of {path}");
        for request in asked {
            let missing = selectors.iter().find(|selector| !request.contains(**selector));
            ensure!(missing.is_none(), "{missing:?} is not in {request}");
        }
    }
    Ok(())
}

pub(crate) fn a_service_given_to_another_proxy_is_not_served_any_longer(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_leads_to(10, 1)?;
    let labels = &mut subject.cluster.service("web").labels;
    labels.insert("service.kubernetes.io/service-proxy-name".to_owned(), "other".to_owned());
    subject.publish()?;
    subject.await_gone(10)?;
    subject.cluster.service("web").labels.clear();
    subject.publish()?;
    subject.await_leads_to(10, 1)
}

pub(crate) fn a_server_without_streaming_lists_is_read_page_by_page(subject: &mut Subject) -> Result<()> {
    subject.use_server(Options { streaming_lists: false, ..Options::default() })?;
    subject.put("web", 10, &[1]);
    for number in 0..1_200 {
        // Without a ClusterIP they cost the kernel nothing.
        let service = cluster::Service { name: format!("s{number:04}"), ..Default::default() };
        subject.cluster.put(service);
    }
    subject.publish()?;
    subject.start()?;
    subject.await_leads_to(10, 1)?;
    let requests = subject.server.requests();
    let pages =
        requests.iter().filter(|request| request.contains("/services?") && request.contains("limit=500"));
    ensure!(pages.count() == 3, "1,201 Services are three pages");
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)
}

pub(crate) fn a_server_without_service_cidrs_is_followed(subject: &mut Subject) -> Result<()> {
    subject.use_server(Options { service_cidrs: false, ..Options::default() })?;
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_leads_to(10, 1)?;
    subject.proxy()?.await_line_with("does not know ServiceCIDRs")?;
    Ok(())
}

pub(crate) fn the_own_node_is_followed_and_no_other(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.cluster.service("web").ports[0].node_port = 30080;
    subject.args.extend(["--nodeport-addresses", "primary"].map(str::to_owned));
    let node = subject.family.node();
    subject.cluster.put_other("node", cluster::node(None, &[node], &[]));
    let mut other = cluster::node(None, &["192.0.2.1".parse()?], &[]);
    other["metadata"]["name"] = json!("elsewhere");
    subject.cluster.put_other("elsewhere", other);
    subject.publish()?;
    subject.start()?;
    subject.await_quiet()?;
    let rules = subject.rules().listing()?;
    ensure!(rules.contains(&node.to_string()), "the node's address {node} is not in the rules:\n{rules}");
    ensure!(!rules.contains("192.0.2.1"), "another node's address is in the rules:\n{rules}");
    Ok(())
}

pub(crate) fn the_pods_service_account_is_used_without_a_kubeconfig(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    let account = "/run/secrets/kubernetes.io/serviceaccount";
    fs::create_dir_all(account)?;
    let server = &subject.server;
    for (file, text) in
        [("token", &*server.token()), ("ca.crt", &*server.ca_certificate()), ("namespace", "kube-system")]
    {
        fs::write(format!("{account}/{file}"), text)?;
    }
    subject.launch_in_pod()?;
    subject.proxy()?.await_line_with("synced")?;
    subject.await_leads_to(10, 1)
}

pub(crate) fn another_address_than_the_kubeconfigs_is_taken(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    let address = subject.server.address();
    subject.args.extend(["--master".to_owned(), format!("https://{address}")]);
    subject.launch()?;
    // Nobody listens where this leads.
    let nowhere = subject.server.kubeconfig().replace(&address.to_string(), "127.0.0.1:1");
    subject.proxy()?.kill()?;
    subject.proxy()?.write("kubeconfig", &nowhere)?;
    subject.start_again()?;
    subject.await_leads_to(10, 1)
}

pub(crate) fn a_bad_object_costs_only_itself(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    let bad = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "bad", "namespace": "default" },
        "spec": { "clusterIP": "10.0.0.1", "ports": "eighty" },
    });
    subject.cluster.put_other("bad", bad);
    subject.publish()?;
    subject.start()?;
    subject.await_leads_to(10, 1)?;
    subject.proxy()?.await_line_with("Service default/bad cannot be decoded and is left out")?;
    let counted = subject.metric(r#"pointsman_api_bad_objects_total{kind="Service"}"#)?;
    ensure!(counted == 1.0, "{counted} bad objects were counted");
    // Also when it comes later.
    subject.cluster.put_other(
        "bad",
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "bad", "namespace": "default" },
            "spec": { "clusterIP": "10.0.0.1", "ports": 80 },
        }),
    );
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)
}

pub(crate) fn bookmarks_alone_program_nothing(subject: &mut Subject) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_quiet()?;
    let last = subject.proxy()?.last_line_with("synced");
    // The server sends a bookmark a second.
    let heard = || subject.metric(r#"pointsman_api_last_heard_timestamp_seconds{kind="Service"}"#);
    let first = heard()?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while heard()? <= first {
        ensure!(std::time::Instant::now() < deadline, "no bookmark was heard");
        std::thread::yield_now();
    }
    let now = subject.proxy()?.last_line_with("synced");
    ensure!(last == now, "a bookmark led to a sync: {now:?}");
    Ok(())
}

pub(crate) fn an_sctp_port_is_told_of_by_an_event(subject: &mut Subject) -> Result<()> {
    let address = subject.family.cluster_ip(20);
    subject.cluster.put(cluster::Service::new("hss", address).sctp("diameter", 3868));
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.check_leads_to(10, 1)?;
    let line = subject.proxy()?.await_line_with("SCTP port 3868 (diameter) is not forwarded")?;
    ensure!(line.contains("WARN") && line.contains("test/hss"), "{line}");
    let event = subject.server.await_event("SCTPNotForwarded", std::time::Duration::from_secs(10))?;
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let said = ["/type", "/reason", "/regarding/kind", "/regarding/name"].map(text);
    ensure!(said == ["Warning", "SCTPNotForwarded", "Service", "hss"], "{event}");
    ensure!(!text("/regarding/uid").is_empty(), "{event}");
    Ok(())
}
