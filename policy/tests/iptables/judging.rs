//! Who may reach whom.

use anyhow::{Result, ensure};
use policy::{Denied, Settings};
use serde_json::json;
use testbed::{OTHER_POD_PORT, Outcome, POD_PORT, Protocol};

use crate::Scenario;
use crate::field::{Field, SetUp};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("directions_are_isolated_by_themselves", SetUp::default, directions),
    ("both_ends_must_allow", SetUp::default, both_ends),
    ("ports_ranges_and_names", SetUp::default, ports),
    ("blocks_with_exceptions", SetUp::default, blocks),
    ("members_come_and_go", SetUp::default, members),
    ("denied_may_mean_dropped", dropping, dropped),
    ("audit_counts_and_denies_nothing", auditing, audit),
];

fn dropping() -> SetUp {
    SetUp { settings: Settings { denied: Denied::Drop, ..Settings::default() }, ..SetUp::default() }
}

fn auditing() -> SetUp {
    SetUp { settings: Settings { audit: true, ..Settings::default() }, ..SetUp::default() }
}

fn directions(field: &mut Field) -> Result<()> {
    field.check(&["pod-2 > pod-1", "client > pod-1", "pod-1 > remote-1"])?;
    let subject = json!({ "matchLabels": { "app": "web" } });
    field.policy("in", &json!({ "podSelector": subject, "policyTypes": ["Ingress"] }))?;
    field.check(&["pod-2 x pod-1", "client x pod-1", "remote-1 x pod-1", "node > pod-1"])?;
    field.check(&["pod-1 > pod-2", "pod-1 > remote-1", "pod-1 > pod-3", "client > pod-2"])?;
    field.delete_policy("in")?;
    field.policy("out", &json!({ "podSelector": subject, "policyTypes": ["Egress"] }))?;
    field.check(&[
        "pod-1 x pod-2",
        "pod-1 x remote-1",
        "pod-1 x pod-3",
        "pod-2 > pod-1",
        "client > pod-1",
    ])?;
    field.policy("in", &json!({ "podSelector": {}, "ingress": [] }))?;
    field.check(&["pod-1 x pod-2", "pod-2 x pod-1", "pod-3 x pod-2", "pod-2 > pod-3", "node > pod-2"])?;
    field.delete_policy("in")?;
    field.delete_policy("out")?;
    field.check(&["pod-1 > pod-2", "pod-2 > pod-1"])
}

fn both_ends(field: &mut Field) -> Result<()> {
    let deny = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] });
    field.policy("deny", &deny)?;
    field.check(&["pod-1 x pod-2", "pod-2 x pod-1"])?;
    let peer = |app| json!([{ "podSelector": { "matchLabels": { "app": app } } }]);
    let select = |app| json!({ "matchLabels": { "app": app } });
    field.policy(
        "out",
        &json!({ "podSelector": select("web"), "policyTypes": ["Egress"],
        "egress": [{ "to": peer("db") }] }),
    )?;
    field.check(&["pod-1 x pod-2", "pod-2 x pod-1"])?;
    field.policy("in", &json!({ "podSelector": select("db"), "ingress": [{ "from": peer("web") }] }))?;
    field.check(&[
        "pod-1 > pod-2",
        "pod-2 x pod-1",
        "remote-1 > pod-2",
        "pod-3 x pod-2",
        "client x pod-2",
    ])?;
    field.delete_policy("out")?;
    field.check(&["pod-1 x pod-2", "remote-1 > pod-2"])
}

fn ports(field: &mut Field) -> Result<()> {
    let subject = json!({ "matchLabels": { "app": "web" } });
    let rule = |ports| json!({ "podSelector": subject, "ingress": [{ "ports": ports }] });
    let check = |field: &Field, tcp: [&str; 2], udp: [&str; 2]| -> Result<()> {
        for (protocol, signs) in [(Protocol::Tcp, tcp), (Protocol::Udp, udp)] {
            for (sign, port) in signs.into_iter().zip([POD_PORT, OTHER_POD_PORT]) {
                field.check_port(protocol, &format!("pod-2 {sign} pod-1"), port)?;
            }
        }
        Ok(())
    };
    for (ports, tcp, udp) in [
        (json!([{ "port": POD_PORT }]), [">", "x"], ["x", "x"]),
        (json!([{ "port": POD_PORT, "protocol": "UDP" }]), ["x", "x"], [">", "x"]),
        (json!([{ "protocol": "TCP" }]), [">", ">"], ["x", "x"]),
        (json!([{ "port": POD_PORT + 1, "endPort": OTHER_POD_PORT }]), ["x", ">"], ["x", "x"]),
        (json!([{ "port": 1, "endPort": OTHER_POD_PORT - 1 }]), [">", "x"], ["x", "x"]),
        (json!([{ "port": "admin" }, { "port": POD_PORT, "protocol": "UDP" }]), ["x", ">"], [">", "x"]),
        (json!([{ "port": "admin", "protocol": "UDP" }]), ["x", "x"], ["x", "x"]),
        (
            json!([{ "port": "nobody" }, { "port": 1, "endPort": 65535, "protocol": "SCTP" }]),
            ["x", "x"],
            ["x", "x"],
        ),
    ] {
        field.policy("ports", &rule(ports.clone()))?;
        check(field, tcp, udp).map_err(|error| error.context(ports))?;
        let again = field.restart(field.settings.clone())?;
        ensure!(again.operations == 0, "read back, it is not as it was written");
    }
    // On the way out, a name is the other pod's.
    field.delete_policy("ports")?;
    field.policy(
        "out",
        &json!({ "podSelector": subject, "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "podSelector": {} }], "ports": [{ "port": "admin" }] }] }),
    )?;
    field.check_port(Protocol::Tcp, "pod-1 > pod-2", OTHER_POD_PORT)?;
    field.check_port(Protocol::Tcp, "pod-1 > remote-1", OTHER_POD_PORT)?;
    field.check_port(Protocol::Tcp, "pod-1 x pod-2", POD_PORT)?;
    field.check_port(Protocol::Tcp, "pod-1 x pod-3", OTHER_POD_PORT)
}

fn blocks(field: &mut Field) -> Result<()> {
    let all = if field.ip("node").is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let host = if field.ip("node").is_ipv4() { 32 } else { 128 };
    let block = |cidr: &str, except: &[String]| {
        json!({ "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": [{ "ipBlock": { "cidr": cidr, "except": except } }] }],
            "egress": [{ "to": [{ "ipBlock": { "cidr": cidr, "except": except } }] }] })
    };
    let other = if field.ip("node").is_ipv4() { "::/0" } else { "0.0.0.0/0" };
    field.policy("block", &block(field.family.client_range(), &[]))?;
    field.check(&["client > pod-1", "foreign x pod-1", "pod-2 x pod-1", "pod-1 x pod-2"])?;
    field.policy("block", &block(all, &[]))?;
    field.check(&["client > pod-1", "foreign > pod-1", "pod-2 > pod-1", "pod-1 > pod-2"])?;
    field.policy("block", &block(all, &[format!("{}/{host}", field.ip("foreign"))]))?;
    field.check(&["client > pod-1", "foreign x pod-1", "pod-2 > pod-1", "pod-1 > remote-1"])?;
    field.policy("block", &block(other, &[]))?;
    field.check(&["client x pod-1", "pod-2 x pod-1", "pod-1 x pod-2"])
}

fn members(field: &mut Field) -> Result<()> {
    let peers = json!([{ "podSelector": { "matchLabels": { "app": "db" } } },
        { "namespaceSelector": { "matchLabels": { "team": "b" } } }]);
    field.policy(
        "in",
        &json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{ "from": peers }] }),
    )?;
    field.check(&["pod-2 > pod-1", "pod-3 > pod-1", "remote-1 x pod-1"])?;
    field.pod("remote-1", "default", "db")?;
    let report = field.sync()?;
    ensure!(report.operations == 1 && !report.judged_anew, "one comes into one set: {report:?}");
    field.check(&["remote-1 > pod-1"])?;
    // One that stops being a peer becomes a subject.
    field.pod("pod-2", "default", "web")?;
    field.sync()?;
    field.check(&["pod-2 x pod-1", "pod-1 x pod-2", "remote-1 > pod-2"])?;
    field.namespace("other", &json!({ "team": "c" }))?;
    field.sync()?;
    field.check(&["pod-3 x pod-1", "remote-1 > pod-1"])
}

fn dropped(field: &mut Field) -> Result<()> {
    field.policy("in", &json!({ "podSelector": {}, "ingress": [] }))?;
    for protocol in Protocol::BOTH {
        let outcome = field.from("pod-3").connect_briefly(protocol, field.at("pod-1"))?;
        ensure!(outcome == Outcome::Silence, "{outcome}");
    }
    field.check(&["node > pod-1"])
}

fn audit(field: &mut Field) -> Result<()> {
    let allowing = json!([{ "podSelector": { "matchLabels": { "app": "db" } } }]);
    field.policy(
        "in",
        &json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{ "from": allowing }] }),
    )?;
    field.check(&["pod-3 > pod-1", "client > pod-1"])?;
    let counts = field.counts()?;
    let denied: u64 = counts.denied.iter().map(|(_, packets)| packets).sum();
    ensure!(denied == 4 && counts.allowed[0].2 == 0 && counts.unknown == 0, "{counts:?}");
    field.check(&["pod-2 > pod-1"])?;
    let counts = field.counts()?;
    let [(_, name, allowed)] = counts.allowed.as_slice() else { anyhow::bail!("{counts:?}") };
    ensure!(name.to_string() == "default/in" && *allowed == 2 && counts.denied[0].1 == 4, "{counts:?}");
    Ok(())
}
