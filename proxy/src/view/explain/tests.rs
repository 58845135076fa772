//! Explanations of Services that are made up.

use serde_json::json;

use super::*;

/// A Service of type LoadBalancer with three endpoints, one of them here and one not ready, overlaid.
fn view(mode: &str, extra: &serde_json::Value) -> View {
    let endpoint = |last: u8, local: bool, ready: bool, why_not: Option<&str>| {
        json!({
            "address": format!("10.1.0.{last}:8080"), "local": local, "ready": ready, "serving": ready,
            "terminating": false, "slice": "web-1", "usedByCluster": ready, "usedByLocal": ready && local,
            "whyNot": why_not,
        })
    };
    let mut service = json!({
        "namespace": "shop", "name": "web", "type": "LoadBalancer", "clusterIps": ["10.96.0.1"],
        "loadBalancerIps": ["192.0.2.1"],
        "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
        "ports": [{
            "name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080,
            "endpoints": [
                endpoint(1, true, true, None), endpoint(2, false, true, None),
                endpoint(3, false, false, Some("not ready")),
            ],
        }],
    });
    for (field, value) in extra.as_object().unwrap() {
        service[field] = value.clone();
    }
    serde_json::from_value(json!({"node": "node-1", "mode": mode, "services": [service]})).unwrap()
}

/// The value and meaning of a field, which must be there.
fn meaning(view: &View, field: &str) -> (String, String) {
    let facts = explanation(view, &view.services[0]).facts;
    let fact =
        facts.iter().find(|fact| fact.field == field).unwrap_or_else(|| panic!("no {field}: {facts:?}"));
    (fact.value.clone(), fact.meaning.clone())
}

#[test]
fn policies_are_told_with_the_endpoints_that_they_leave() {
    let local = |mode| view(mode, &json!({"externalTrafficPolicy": "Local"}));
    assert_eq!(
        meaning(&local("nftables"), "spec.externalTrafficPolicy"),
        (
            "Local".to_owned(),
            "traffic from outside goes to endpoints on this node only (1 endpoint), which see the client's address; pods \
             and this node itself may use all 2 endpoints"
                .to_owned()
        )
    );
    let (_, of_ipvs) = meaning(&local("ipvs"), "spec.externalTrafficPolicy");
    assert!(of_ipvs.ends_with("; so does that of pods and of this node itself"), "{of_ipvs}");
    let (_, internal) = meaning(&local("nftables"), "spec.internalTrafficPolicy");
    assert_eq!(internal, "traffic to the ClusterIP may go to endpoints on any node: 2 endpoints now");
}

#[test]
fn without_endpoints_traffic_is_rejected_and_without_local_ones_dropped() {
    let mut none = view("nftables", &json!({"internalTrafficPolicy": "Local"}));
    none.services[0].ports[0].endpoints.remove(0);
    let (_, dropped) = meaning(&none, "spec.internalTrafficPolicy");
    assert!(dropped.contains("is dropped, though there are 1 endpoint elsewhere"), "{dropped}");
    none.services[0].ports[0].endpoints.clear();
    for field in ["spec.internalTrafficPolicy", "spec.externalTrafficPolicy"] {
        let (_, rejected) = meaning(&none, field);
        assert!(rejected.contains("rejected: no endpoint can be used"), "{rejected}");
    }
}

#[test]
fn each_mode_has_its_words() {
    for (mode, words) in [
        ("nftables", "primary address"),
        ("iptables", "but not on 127.0.0.1"),
        ("ipvs", "not on loopback"),
        ("userspace", "the proxy's process"),
    ] {
        let (value, node_port) = meaning(&view(mode, &json!({})), "spec.ports[http].nodePort");
        assert!(value == "30080/TCP" && node_port.contains(words), "{mode}: {node_port}");
    }
    let (_, chosen) = meaning(&view("ipvs", &json!({})), "spec.clusterIPs");
    assert!(chosen.contains("scheduler rr"), "{chosen}");
}

#[test]
fn endpoints_that_are_not_used_are_told_with_the_reason() {
    let view = view("nftables", &json!({}));
    let (value, reasons) = meaning(&view, "endpoints of port http (80/TCP)");
    assert_eq!((value.as_str(), reasons.as_str()), ("2 of 3", "1 not ready"));
}

#[test]
fn what_is_not_served_has_a_reason_and_nothing_else() {
    let problem = "not served: headless";
    let view = view("nftables", &json!({"clusterIps": [], "ports": [], "problems": [problem]}));
    let text = render(&explanation(&view, &view.services[0]), Look { wide: false, colour: false });
    assert_eq!(text, format!("Service shop/web on node node-1, in nftables mode\n\n{problem}\n"));
}

#[test]
fn source_ranges_and_hints_are_told_where_there_are_any() {
    let plain = view("nftables", &json!({}));
    let fields: Vec<_> =
        explanation(&plain, &plain.services[0]).facts.into_iter().map(|fact| fact.field).collect();
    assert!(
        !fields.iter().any(|field| field.contains("Ranges") || field.contains("Distribution")),
        "{fields:?}"
    );
    let mut full = view(
        "nftables",
        &json!({"sourceRanges": ["10.0.0.0/8"], "trafficDistribution": "PreferSameZone", "healthCheckNodePort": 30999}),
    );
    full.zone = Some("b".to_owned());
    full.services[0].ports[0].endpoints[2].why_not = Some("hinted at zone a".to_owned());
    let (ranges, _) = meaning(&full, "spec.loadBalancerSourceRanges");
    assert_eq!(ranges, "10.0.0.0/8");
    let (_, hints) = meaning(&full, "spec.trafficDistribution");
    assert_eq!(hints, "hints are followed: 1 endpoint is for others than this node, which is in zone b");
    let (_, health) = meaning(&full, "spec.healthCheckNodePort");
    assert!(health.contains("answered 200") && health.ends_with(": 1"), "{health}");
}
