//! Questions about a small cluster: `web` and `db` in `default`, `web` in `other`, on the node `here`, and `far` elsewhere.

use std::collections::BTreeSet;
use std::net::IpAddr;

use endpoint_cache::Protocol;
use policy::{Compiler, Connection, Snapshot, Update};
use serde_json::{Value, json};

use super::judge::{Because, Cluster, Judgement};
use super::pairs::{Change, Effect};
use super::policies::{self, Fate};
use super::{ends, table};
use crate::output::Look;
use crate::policy::PolicyView;

const NODE: [u8; 4] = [10, 0, 9, 9];

fn pod(namespace: &str, name: &str, last: u8, node: &str) -> Update {
    let written = json!({
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": name } },
        "spec": { "nodeName": node, "containers": [{ "ports": [
            { "name": "http", "containerPort": 8080 },
            { "name": "dns", "containerPort": 53, "protocol": "UDP" },
        ] }] },
        "status": { "phase": "Running", "podIP": format!("10.0.0.{last}") },
    });
    Update::Pod(serde_json::from_value(written).unwrap())
}

fn policy(name: &str, spec: &Value) -> Update {
    let written = json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec });
    Update::NetworkPolicy(serde_json::from_value(written).unwrap())
}

/// Only `web` of its own namespace gets to `db`, by its second rule.
fn guard() -> Update {
    let web = json!({ "podSelector": { "matchLabels": { "app": "web" } } });
    let ingress = json!([{ "from": [{ "ipBlock": { "cidr": "192.0.2.0/24" } }] },
        { "from": [web], "ports": [{ "port": "http" }] }]);
    policy("guard", &json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": ingress }))
}

fn view(policies: impl IntoIterator<Item = Update>) -> PolicyView {
    let mut compiler = Compiler::new("here");
    let node = json!({ "metadata": { "name": "here" }, "spec": { "podCIDR": "10.0.0.0/24" } });
    compiler.apply(Update::Node(serde_json::from_value(node).unwrap()));
    compiler.apply(pod("default", "web", 1, "here"));
    compiler.apply(pod("default", "db", 2, "here"));
    compiler.apply(pod("other", "web", 3, "here"));
    compiler.apply(pod("other", "far", 4, "elsewhere"));
    policies.into_iter().for_each(|policy| compiler.apply(policy));
    compiler.take_delta();
    let (node, snapshot) = (Some("here".to_owned()), compiler.snapshot());
    PolicyView { node, audit: false, denies_unknown: true, snapshot }
}

fn cluster(policies: impl IntoIterator<Item = Update>) -> Cluster {
    Cluster::new(&view(policies), |address| address == IpAddr::from(NODE))
}

fn connection(source: [u8; 4], destination: [u8; 4], port: u16) -> Connection {
    Connection { source: source.into(), destination: destination.into(), protocol: Protocol::Tcp, port }
}

fn reasons(judgement: &Judgement) -> (bool, [Because; 2]) {
    let [egress, ingress] = &judgement.sides;
    (judgement.allowed, [egress.because, ingress.because])
}

#[test]
fn each_side_is_judged_with_its_reason() {
    use Because::{Itself, NoPod, NoRule, NotIsolated, OwnNode, Rule, UnknownPod};
    let cluster = cluster([guard()]);
    let (web, db, other) = ([10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]);
    for (source, port, expected) in [
        (web, 8080, (true, [NotIsolated, Rule])),
        (web, 8081, (false, [NotIsolated, NoRule])),
        (other, 8080, (false, [NotIsolated, NoRule])),
        ([192, 0, 2, 1], 1, (true, [NoPod, Rule])),
        ([192, 0, 3, 1], 1, (false, [NoPod, NoRule])),
        ([10, 0, 0, 200], 8080, (false, [UnknownPod, NoRule])),
        (NODE, 1, (true, [NoPod, OwnNode])),
        (db, 1, (true, [Itself, Itself])),
    ] {
        let judgement = cluster.judge(&connection(source, db, port));
        assert_eq!(reasons(&judgement), expected, "{source:?} {port}");
        assert_eq!(cluster.allows(&connection(source, db, port)), expected.0);
    }
}

#[test]
fn the_rule_is_named_and_so_are_those_that_do_not_allow() {
    let deny = policy("all", &json!({ "podSelector": {} }));
    let cluster = cluster([guard(), deny]);
    let allowed = cluster.judge(&connection([10, 0, 0, 1], [10, 0, 0, 2], 8080));
    let side = &allowed.sides[1];
    assert_eq!(
        (side.policy.as_deref(), side.rule.as_deref()),
        (Some("default/guard"), Some("spec.ingress[1]"))
    );
    let denied = cluster.judge(&connection([10, 0, 0, 3], [10, 0, 0, 2], 8080));
    assert_eq!(denied.denied_by().unwrap().isolated_by, ["default/all", "default/guard"]);
    assert!(denied.is_denied_here() && denied.notes.is_empty(), "{denied:?}");
    let text = table::check(
        &super::check::Check { allowed: false, connections: vec![denied] },
        Look { wide: false, colour: false },
    );
    let expected = "\
from     other/web (10.0.0.3)
to       default/db (10.0.0.2), port 8080/tcp
verdict  denied

side     verdict  because
egress   allowed  no policy isolates other/web for egress
ingress  denied   none of the policies that isolate it allows it: default/all, default/guard
";
    assert_eq!(text, expected);
}

#[test]
fn what_another_node_enforces_is_said() {
    let cluster = cluster([]);
    let judgement = cluster.judge(&connection([10, 0, 0, 1], [10, 0, 0, 4], 1));
    assert_eq!(judgement.notes, ["ingress of other/far is for its own node to enforce, not for here"]);
    // Not even the own node is exempt there.
    let judgement = cluster.judge(&connection(NODE, [10, 0, 0, 4], 1));
    assert_eq!(reasons(&judgement), (true, [Because::NoPod, Because::NotIsolated]));
}

#[test]
fn ends_are_names_or_addresses_and_ports_may_have_names() {
    let PolicyView { snapshot, .. } = view([]);
    let read = |text: &str, protocol| {
        ends::destination(text, protocol, &snapshot)
            .map(|(end, ports)| (end.addresses[0].to_string(), ports))
            .map_err(|error| error.to_string())
    };
    for (text, protocol, address, port) in [
        ("web:http", Protocol::Tcp, "10.0.0.1", 8080),
        ("other/web:80", Protocol::Tcp, "10.0.0.3", 80),
        ("10.0.0.2:dns", Protocol::Udp, "10.0.0.2", 53),
        ("192.0.2.1:80", Protocol::Tcp, "192.0.2.1", 80),
        ("[fd00::1]:80", Protocol::Tcp, "fd00::1", 80),
    ] {
        assert_eq!(read(text, protocol), Ok((address.to_owned(), vec![port])), "{text}");
    }
    for (text, part) in [
        ("web", "names no port"),
        ("far:80", "is it other/far?"),
        ("web:dns", "it names dns (53/udp), http (8080/tcp)"),
        ("web:0", "from 1 to 65535"),
        ("web:70000", "from 1 to 65535"),
        ("192.0.2.1:http", "no known pod"),
    ] {
        let error = read(text, Protocol::Tcp).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

fn effects(before: &[Update], updates: &[Update], deleted: &[&str]) -> (Vec<Effect>, Vec<Fate>) {
    let view = view(before.to_vec());
    let deleted: Vec<String> = deleted.iter().map(|name| (*name).to_owned()).collect();
    let others = policies::others(&view.snapshot, updates.to_vec(), &deleted).unwrap();
    let cluster = || Cluster::new(&view, |_| false);
    let after = cluster().with(&others.snapshot);
    let changed: BTreeSet<_> = others.fates.keys().cloned().collect();
    let change = Change { before: &cluster(), after: &after, changed: &changed };
    let (effects, complete) = change.pairs(&others.snapshot);
    assert!(complete);
    (effects, others.fates.into_values().collect())
}

#[test]
fn pairs_that_change_are_told_with_ports_and_policies() {
    let (effects, fates) = effects(&[], &[guard()], &[]);
    assert_eq!(fates, [Fate::Added]);
    let told: Vec<_> = effects
        .iter()
        .map(|effect| (effect.allowed, effect.from.pod.as_deref().unwrap(), effect.ports.len()))
        .collect();
    assert_eq!(told, [(false, "default/web", 2), (false, "other/far", 3), (false, "other/web", 3)]);
    assert!(effects.iter().all(|effect| effect.policies == ["default/guard"]), "{effects:?}");
    let (back, fates) = self::effects(&[guard()], &[], &["guard"]);
    assert_eq!(fates, [Fate::Deleted]);
    assert!(back.iter().all(|effect| effect.allowed) && back.len() == 3, "{back:?}");
    let (same, fates) = self::effects(&[guard()], &[guard()], &[]);
    assert_eq!((same, fates), (Vec::new(), vec![Fate::Same]));
}

#[test]
fn mistakes_are_told_with_field_and_reason() {
    let bad = json!({ "podSelector": {}, "ingress": [{ "ports": [{ "port": 90, "endPort": 80 }] }] });
    let others = policies::others(&Snapshot::default(), vec![policy("bad", &bad)], &[]).unwrap();
    let [problem] = &others.problems[..] else { panic!("{others:?}") };
    assert!(
        problem.contains("default/bad") && problem.contains("spec.ingress[0].ports[0].endPort"),
        "{problem}"
    );
    let error = policies::others(&Snapshot::default(), Vec::new(), &["gone".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("default/gone"), "{error}");
}
