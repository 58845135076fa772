//! Where packets come from and how they are led.

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use endpoint_cache::object::Kind;
use policy::{Enforcer, Settings, UnknownPods};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use testbed::{Layout, Outcome, POD_PORT, Protocol};

use crate::Scenario;
use crate::field::{Field, SetUp};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("addresses_that_no_known_pod_has_are_closed", SetUp::default, unknown),
    ("they_are_open_if_that_is_asked_for", opening, unknown_open),
    ("services_lead_to_pods_that_are_judged", SetUp::default, services),
    ("what_the_node_sends_for_others_is_judged", SetUp::default, sent_for_others),
    ("bridged_pods_are_isolated", bridged, bridges),
];

fn opening() -> SetUp {
    SetUp {
        settings: Settings { unknown_pods: UnknownPods::Allow, ..Settings::default() },
        ..SetUp::default()
    }
}

fn bridged() -> SetUp {
    SetUp { layout: Layout::Bridged, ..SetUp::default() }
}

fn unknown(field: &mut Field) -> Result<()> {
    let mut conversation = field.from("pod-2").open(field.at("pod-3"))?;
    field.delete(Kind::Pod, "other", "pod-3");
    ensure!(field.sync()?.judged_anew);
    for (from, to) in [("pod-3", "pod-1"), ("pod-1", "pod-3"), ("client", "pod-3")] {
        let outcome = field.from(from).connect_briefly(Protocol::Udp, field.at(to))?;
        ensure!(outcome == Outcome::Silence, "{from} to {to}: {outcome}");
    }
    ensure!(field.counts()?.unknown >= 3, "{:?}", field.counts()?);
    field.check(&["node > pod-3", "pod-1 > pod-2"])?;
    field.pod("pod-3", "other", "web")?;
    field.sync()?;
    field.check(&["pod-3 > pod-1", "pod-1 > pod-3"])?;
    conversation.echo()
}

fn unknown_open(field: &mut Field) -> Result<()> {
    field.delete(Kind::Pod, "other", "pod-3");
    field.sync()?;
    field.check(&["pod-3 > pod-1", "pod-1 > pod-3", "client > pod-3"])
}

/// As a proxy would, with masquerading for a pod that reaches itself.
fn services(field: &mut Field) -> Result<()> {
    let (service, pod) = (field.family.cluster_ip(1), field.ip("pod-1"));
    let host = if pod.is_ipv4() { 32 } else { 128 };
    let to = std::net::SocketAddr::from((pod, POD_PORT));
    field.tool().load(&format!(
        "*nat\n-A PREROUTING -d {service}/{host} -j ORIGIN\n-A POSTROUTING -s {pod}/{host} -d {pod}/{host} -j MASQUERADE\n\
         COMMIT\n"
    ).replace("-j ORIGIN", &format!("-p tcp -j DNAT --to-destination {to}")))?;
    let service = (service, POD_PORT).into();
    let from = |field: &Field, name: &str| field.from(name).connect(Protocol::Tcp, service);
    ensure!(matches!(from(field, "pod-2")?, Outcome::Answered { .. }));
    let mut itself = field.from("pod-1").open(service)?;
    let mut other = field.from("pod-2").open(service)?;
    field.policy("all", &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }))?;
    ensure!(from(field, "pod-2")? == Outcome::Refused && other.echo().is_err());
    itself.echo()?;
    ensure!(matches!(from(field, "pod-1")?, Outcome::Answered { .. }), "a pod reaches itself no longer");
    // Whom the connection really leads to counts, and whom it really comes from.
    let peer = |app| json!([{ "podSelector": { "matchLabels": { "app": app } } }]);
    field.policy("some", &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "from": peer("db"), "ports": [{ "port": "http" }] }], "egress": [{ "to": peer("web") }] }))?;
    ensure!(matches!(from(field, "pod-2")?, Outcome::Answered { .. }), "not let through");
    ensure!(from(field, "remote-1")? == Outcome::Refused);
    Ok(())
}

/// As IPVS and transparent proxies do.
fn sent_for_others(field: &mut Field) -> Result<()> {
    field.policy(
        "in",
        &json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [
        { "from": [{ "podSelector": { "matchLabels": { "app": "db" } } }] }] }),
    )?;
    for (source, denied) in [("pod-2", 0), ("client", 1), ("node", 1)] {
        let (from, to) = (field.ip(source), field.at("pod-1"));
        let send = || -> Result<()> {
            let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
            match from.is_ipv4() {
                true => socket.set_ip_transparent_v4(true)?,
                false => socket.set_ip_transparent_v6(true)?,
            }
            socket.bind(&std::net::SocketAddr::from((from, 0)).into())?;
            // A refusal is told to the sender, or to whom it sent for.
            let _ = UdpSocket::from(socket).send_to(b"who?", to);
            Ok(())
        };
        field.bed.node.run(send)??;
        let counts = field.counts()?;
        let counted: u64 = counts.denied.iter().map(|(_, packets)| packets).sum();
        ensure!(counted == denied, "{source}: {counts:?}");
    }
    field.check(&["node > pod-1"])
}

fn bridges(field: &mut Field) -> Result<()> {
    for family in ["iptables", "ip6tables"] {
        field.bed.node.sysctl(&format!("net/bridge/bridge-nf-call-{family}"), "1")?;
    }
    // So that they reach each other without being routed.
    for (from, to) in [("pod-1", "pod-2"), ("pod-2", "pod-1")] {
        let namespace = field.from(from).namespace;
        namespace.ip(&format!("route add {} dev eth0 src {}", field.ip(to), field.ip(from)))?;
    }
    let mut conversation = field.from("pod-1").open(field.at("pod-2"))?;
    field.check(&["pod-1 > pod-2", "pod-2 > pod-1"])?;
    field.policy("in", &json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [] }))?;
    field.check(&["pod-1 x pod-2", "pod-2 > pod-1", "client x pod-2", "node > pod-2"])?;
    ensure!(conversation.echo().is_err(), "it goes on");
    let listed = field.bed.node.output(&field.tool().program("-save"), &["-c", "-t", "filter"])?;
    let hook = listed.lines().find(|line| line.contains("-m physdev --physdev-is-bridged"));
    ensure!(hook.is_some_and(|hook| !hook.starts_with("[0:")), "nothing was bridged: {hook:?}");
    // Neighbours are found whatever the policies.
    for pod in ["pod-1", "pod-2"] {
        field.from(pod).namespace.ip("neigh flush dev eth0")?;
    }
    field.check(&["pod-2 > pod-1"])?;
    ensure!(field.enforcer.name() == "iptables");
    Ok(())
}
