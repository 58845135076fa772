//! What is diagnosed, case by case. That it is what packets meet, the suites `trace` and `packets` tell.

use endpoint_cache::Protocol;
use serde_json::json;

use super::*;
use crate::policy::tools::Judgement;
use crate::trace::model::Origin;
use crate::view::frontend;
use crate::view::{EndpointView, PortView};

fn endpoint(last: u8, local: bool) -> EndpointView {
    EndpointView {
        address: ([10, 0, 0, last], 8080).into(),
        node: None,
        local,
        ready: true,
        serving: true,
        terminating: false,
        slice: "web-1".to_owned(),
        used_by_cluster: true,
        used_by_local: local,
        why_not: None,
    }
}

fn service(endpoints: Vec<EndpointView>) -> ServiceView {
    let port = PortView {
        name: "http".to_owned(),
        protocol: "TCP".to_owned(),
        port: 80,
        node_port: Some(30080),
        endpoints,
    };
    ServiceView {
        namespace: "demo".to_owned(),
        name: "web".to_owned(),
        kind: "NodePort".to_owned(),
        cluster_ips: vec![[10, 96, 0, 1].into()],
        internal_traffic_policy: "Cluster".to_owned(),
        external_traffic_policy: "Cluster".to_owned(),
        ports: vec![port],
        ..ServiceView::default()
    }
}

fn to(last: u8) -> End {
    End::Endpoint { to: ([10, 0, 0, last], 8080).into(), masquerade: false }
}

/// What is found when a pod connects to the ClusterIP, and rules lead to these ends.
fn found(service: ServiceView, ends: &[End], existing: &[Existing]) -> Vec<Finding> {
    found_with(service, ends, existing, &Said::default())
}

/// The same where policies are enforced, and say this.
fn found_with(service: ServiceView, ends: &[End], existing: &[Existing], policies: &Said) -> Vec<Finding> {
    let view = View { services: vec![service], ..View::default() };
    let packet = Packet {
        source: [10, 0, 0, 9].into(),
        destination: ([10, 96, 0, 1], 80).into(),
        protocol: Protocol::Udp,
        origin: Origin::Interface { name: "veth9".to_owned(), index: 9 },
    };
    let way = |end: &End| Way { share: 1.0, steps: Vec::new(), end: end.clone() };
    let ways: Vec<_> = ends.iter().map(way).collect();
    let case = Case {
        packet: &packet,
        rules: Some("nftables"),
        ways: &ways,
        frontend: frontend::find(&view, packet.destination, Protocol::Tcp, false),
        meant: None,
        view: Ok(&view),
        status: None,
        existing,
        facts: Facts { forwards: Some(true), ..Facts::default() },
        policies,
    };
    findings(&case)
}

fn names(findings: &[Finding]) -> Vec<Matter> {
    findings.iter().map(|finding| finding.name).collect()
}

#[test]
fn nothing_is_the_matter() {
    let web = || service(vec![endpoint(1, true), endpoint(2, false)]);
    assert_eq!(found(web(), &[to(1), to(2)], &[]), []);
}

#[test]
fn endpoints_of_the_kernel_that_are_others_are_drift() {
    let web = || service(vec![endpoint(1, true), endpoint(2, false)]);
    for (ends, says) in [
        (&[to(1)][..], "The kernel does not lead to 10.0.0.2:8080, which pointsman wants."),
        (&[to(1), to(2), to(3)], "The kernel leads to 10.0.0.3:8080 too, which pointsman does not want."),
        (&[to(1), to(3)], "The kernel leads to 10.0.0.3:8080 instead of 10.0.0.2:8080."),
    ] {
        let findings = found(web(), ends, &[]);
        assert_eq!(names(&findings), [Matter::Drift], "{findings:?}");
        assert_eq!(findings[0].says, says);
    }
}

#[test]
fn rules_that_are_missing_are_drift() {
    let web = || service(vec![endpoint(1, true), endpoint(2, false)]);
    for (end, says) in [
        (End::Untranslated { masquerade: false }, "have nothing of it"),
        (End::Rejected, "refuse it"),
        (End::Dropped, "drop it"),
    ] {
        let findings = found(web(), &[end], &[]);
        assert_eq!(names(&findings), [Matter::Drift]);
        assert!(findings[0].stops && findings[0].says.contains(says), "{findings:?}");
    }
}

#[test]
fn what_the_kernel_refuses_is_told_with_its_reason() {
    let mut web = service(vec![endpoint(1, true)]);
    web.problems = vec!["refused by the kernel: no memory".to_owned()];
    let findings = found(web, &[End::Untranslated { masquerade: false }], &[]);
    assert_eq!(names(&findings), [Matter::LeftOut]);
    assert!(findings[0].says.contains("no memory"));
}

#[test]
fn a_client_that_stays_is_no_drift() {
    let mut web = service(vec![endpoint(1, true), endpoint(2, false)]);
    web.affinity_seconds = Some(600);
    assert_eq!(names(&found(web, &[to(2)], &[])), [Matter::Affinity]);
}

#[test]
fn policy_local_is_blamed_only_if_there_are_endpoints_elsewhere() {
    let mut web = service(vec![endpoint(2, false)]);
    web.internal_traffic_policy = "Local".to_owned();
    assert_eq!(names(&found(web.clone(), &[End::Dropped], &[])), [Matter::InternalLocal]);
    web.ports[0].endpoints.clear();
    assert_eq!(names(&found(web, &[End::Rejected], &[])), [Matter::NoEndpoints]);
}

#[test]
fn datagrams_that_go_elsewhere_are_found() {
    let old = |last| Existing { source_port: 5353, endpoint: ([10, 0, 0, last], 8080).into() };
    let web = || service(vec![endpoint(1, true)]);
    assert_eq!(found(web(), &[to(1)], &[old(1)]), []);
    let findings = found(web(), &[to(1)], &[old(7), old(8)]);
    assert_eq!(names(&findings), [Matter::StaleFlow]);
    let says = &findings[0].says;
    assert!(says.contains("from port 5353 still goes to 10.0.0.7:8080") && says.contains("1 more"), "{says}");
}

#[test]
fn names_are_written_with_dashes() {
    assert_eq!(serde_json::to_value(Matter::NotANodePort).unwrap(), "not-a-node-port");
    assert_eq!(serde_json::to_value(Matter::NoRouteToEndpoint).unwrap(), "no-route-to-endpoint");
}

/// What policies say of a pod's connection to one of this node's.
fn judged(last: u8, allowed: bool) -> Judgement {
    let side = |direction: &str, allowed: bool| {
        json!({ "direction": direction, "allowed": allowed, "because": if allowed { "rule" } else { "noRule" },
            "isolatedBy": ["demo/guard"], "enforcedHere": true, "says": "demo/guard says so" })
    };
    let judgement = json!({ "from": { "address": "10.0.0.9" }, "to": { "address": format!("10.0.0.{last}") },
        "port": 8080, "protocol": "tcp", "allowed": allowed,
        "sides": [side("egress", true), side("ingress", allowed)] });
    serde_json::from_value(judgement).unwrap()
}

#[test]
fn what_policies_deny_is_told_and_whether_rules_do_the_same() {
    let web = || service(vec![endpoint(1, true), endpoint(2, true)]);
    let of = |ends: &[End], judged: Vec<Judgement>, stopped: usize, comparable: bool| {
        found_with(web(), ends, &[], &Said { judged, stopped, comparable })
    };
    let allowed = || vec![judged(1, true), judged(2, true)];
    assert_eq!(of(&[to(1), to(2)], allowed(), 0, true), []);
    let some = of(&[to(1), End::Rejected], vec![judged(1, true), judged(2, false)], 1, true);
    assert_eq!(names(&some), [Matter::Drift, Matter::PolicyDenied]);
    let denied = || vec![judged(1, false), judged(2, false)];
    let all = of(&[End::Rejected], denied(), 2, true);
    assert_eq!(names(&all), [Matter::PolicyDenied], "{all:?}");
    assert!(all[0].stops && all[0].look_at.contains("demo/guard"), "{all:?}");
    // The rules let pass what is denied, or the other way round.
    assert_eq!(names(&of(&[to(1), to(2)], denied(), 0, true)), [Matter::PolicyDenied, Matter::PolicyDrift]);
    assert_eq!(names(&of(&[to(1), to(2)], denied(), 0, false)), [Matter::PolicyDenied]);
    assert_eq!(names(&of(&[End::Rejected], allowed(), 2, true)), [Matter::PolicyDrift]);
}
