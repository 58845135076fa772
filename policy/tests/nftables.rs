//! The nftables enforcer against the kernel: whatever changes, the table is what it would be if it were made anew.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use endpoint_cache::object::Kind;
use policy::nftables::{Nftables, cleanup};
use policy::{Compiler, Enforcer, Established, Settings, Update};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("changes_lead_where_a_fresh_start_leads", changes),
        Test::new("a_fresh_process_finds_nothing_to_do", restart),
        Test::new("what_others_damage_is_replaced", damage),
        Test::new("generations_begin_anew", wrapping),
        Test::new("what_drains_ends", draining),
        Test::new("names_of_every_length_and_kind_have_chains", names),
        Test::new("nothing_is_left_after_a_cleanup", leftovers),
    ])
}

fn update(object: Value) -> Result<Update> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    Ok(match kind.as_str() {
        "Pod" => Update::Pod(serde_json::from_value(object)?),
        "Namespace" => Update::Namespace(serde_json::from_value(object)?),
        "Node" => Update::Node(serde_json::from_value(object)?),
        _ => Update::NetworkPolicy(serde_json::from_value(object)?),
    })
}

fn pod(number: u32, app: u32, node: &str) -> Result<Update> {
    update(
        json!({ "kind": "Pod", "metadata": { "name": format!("p{number}"), "labels": { "app": app.to_string() } },
        "spec": { "nodeName": node, "containers": [{ "ports": [{ "name": "http", "containerPort": 8000 + app }] }] },
        "status": { "podIPs": [{ "ip": format!("10.1.0.{number}") }, { "ip": format!("fd00::{number}") }] } }),
    )
}

fn selector(app: u32) -> Value {
    match app {
        0 => json!({}),
        1 => json!({ "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": ["2", "3"] }] }),
        app => json!({ "matchLabels": { "app": app.to_string() } }),
    }
}

/// Every kind of clause turns up.
fn policy(number: u32, draws: &mut impl FnMut(u32) -> u32) -> Result<Update> {
    let peers = [
        json!([]),
        json!([{ "podSelector": selector(draws(4)) }]),
        json!([{ "namespaceSelector": {}, "podSelector": selector(draws(4)) }]),
        json!([{ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.1.0.0/30", "255.0.0.0/8"] } }]),
        json!([{ "ipBlock": { "cidr": "fd00::/16" } }, { "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.0.0.0/9"] } }]),
    ];
    let ports = [
        json!([]),
        json!([{ "port": 80 }, { "protocol": "UDP" }]),
        json!([{ "port": 1000, "endPort": 2000, "protocol": "SCTP" }]),
        json!([{ "port": "http" }]),
    ];
    let mut rules = || -> Vec<Value> {
        (0..draws(3))
            .map(|_| (draws(5) as usize, draws(4) as usize))
            .map(|(peer, port)| json!({ "from": peers[peer], "to": peers[peer], "ports": ports[port] }))
            .collect()
    };
    let (ingress, egress) = (rules(), rules());
    let types = [json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])];
    update(json!({ "kind": "NetworkPolicy", "metadata": { "name": format!("n{number}") }, "spec": {
        "podSelector": selector(draws(4)), "policyTypes": types[draws(3) as usize], "ingress": ingress, "egress": egress } }))
}

fn deleted(kind: Kind, name: &str) -> Update {
    let namespace = if kind == Kind::Namespace { "" } else { "default" };
    Update::Deleted(endpoint_cache::object::ObjectRef {
        kind,
        name: endpoint_cache::object::ObjectName::new(namespace, name),
    })
}

fn world() -> Result<Compiler> {
    let mut compiler = Compiler::new("node");
    compiler.apply(update(json!({ "kind": "Namespace", "metadata": { "name": "default" } }))?);
    compiler.apply(update(json!({ "kind": "Node", "metadata": { "name": "node" },
        "spec": { "podCIDRs": ["10.1.0.0/24", "fd00::/64"] } }))?);
    for number in 1..6 {
        compiler.apply(pod(number, number % 4, if number % 2 == 0 { "node" } else { "peer" })?);
    }
    Ok(compiler)
}

fn numbers() -> impl FnMut(u32) -> u32 {
    use proptest::prelude::Rng;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut rng = TestRunner::new_with_rng(Config::default(), rng).new_rng();
    move |below| rng.next_u32() % below
}

fn changes() -> Result<()> {
    let mut draws = numbers();
    let mut compiler = world()?;
    compiler.take_delta();
    let mut enforcer = Nftables::new(Settings::default())?;
    enforcer.resync(compiler.program())?;
    for step in 0..300 {
        for _ in 0..=draws(3) {
            let number = 1 + draws(8);
            compiler.apply(match draws(6) {
                0 | 1 => pod(number, draws(4), if draws(3) > 0 { "node" } else { "peer" })?,
                2 => deleted(Kind::Pod, &format!("p{number}")),
                3 | 4 => policy(number, &mut draws)?,
                _ => deleted(Kind::NetworkPolicy, &format!("n{number}")),
            });
        }
        let delta = compiler.take_delta();
        let told = || format!("step {step}: {delta:#?}");
        enforcer.apply(compiler.program(), &delta).map_err(|error| anyhow::anyhow!("{error}: {}", told()))?;
        ensure!(enforcer.resync(compiler.program())?.operations == 0, "{}", told());
    }
    Ok(())
}

fn with_policy() -> Result<Compiler> {
    let mut compiler = world()?;
    let mut draws = numbers();
    for number in 0..8 {
        compiler.apply(policy(number, &mut draws)?);
    }
    compiler.take_delta();
    Ok(compiler)
}

fn restart() -> Result<()> {
    let compiler = with_policy()?;
    let first = Nftables::new(Settings::default())?.resync(compiler.program())?;
    ensure!(first.operations > 0 && first.judged_anew);
    let mut second = Nftables::new(Settings::default())?;
    ensure!(second.resync(compiler.program())?.operations == 0);
    // Other settings are other rules.
    let other = Settings { audit: true, ..Settings::default() };
    ensure!(Nftables::new(other)?.resync(compiler.program())?.operations > 0);
    Ok(())
}

fn nft(command: &str) -> Result<String> {
    let output = std::process::Command::new("nft").args(command.split(' ')).output()?;
    ensure!(output.status.success(), "nft {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn damage() -> Result<()> {
    let compiler = with_policy()?;
    let mut enforcer = Nftables::new(Settings::default())?;
    enforcer.resync(compiler.program())?;
    nft("add table ip somebodys")?;
    for damage in [
        "flush chain ip pointsman-policy connections",
        "delete table ip6 pointsman-policy",
        "add element ip pointsman-policy pods { 10.9.9.9 }",
        "flush map ip6 pointsman-policy ingress-subjects",
        "add rule ip pointsman-policy allowed accept",
        "insert rule ip pointsman-policy forward accept",
        "add set ip pointsman-policy theirs { type ipv4_addr; }",
        "add chain ip6 pointsman-policy theirs",
    ] {
        let mut watch = enforcer.watch()?.ok_or_else(|| anyhow::anyhow!("nftables tells of changes"))?;
        nft(damage)?;
        let told = watch.next_damage()?;
        ensure!(told.contains("nft"), "{damage}: {told}");
        ensure!(enforcer.resync(compiler.program())?.operations > 0, "{damage}");
        ensure!(enforcer.resync(compiler.program())?.operations == 0, "{damage}");
    }
    ensure!(nft("list tables")?.contains("somebodys"));
    Ok(())
}

/// Four bits count to fifteen.
fn wrapping() -> Result<()> {
    let mut compiler = world()?;
    compiler.take_delta();
    let mut enforcer = Nftables::new(Settings { mark_mask: 0xf0, ..Settings::default() })?;
    enforcer.resync(compiler.program())?;
    let mut marks = std::collections::BTreeSet::new();
    for _ in 0..16 {
        compiler.apply(policy(1, &mut |_| 0)?);
        compiler.apply(deleted(Kind::NetworkPolicy, "n2"));
        let delta = compiler.take_delta();
        ensure!(enforcer.apply(compiler.program(), &delta)?.judged_anew);
        marks.insert(nft("list set ip pointsman-policy generations")?);
        compiler.apply(deleted(Kind::NetworkPolicy, "n1"));
        let delta = compiler.take_delta();
        enforcer.apply(compiler.program(), &delta)?;
    }
    ensure!(marks.len() == 15, "{marks:#?}");
    ensure!(enforcer.resync(compiler.program())?.operations == 0);
    Ok(())
}

fn draining() -> Result<()> {
    let mut compiler = world()?;
    compiler.take_delta();
    let drain = Established::Drain(Duration::from_secs(3600));
    let mut enforcer = Nftables::new(Settings { established: drain, ..Settings::default() })?;
    enforcer.resync(compiler.program())?;
    compiler.apply(policy(1, &mut |_| 0)?);
    let delta = compiler.take_delta();
    enforcer.apply(compiler.program(), &delta)?;
    let alive =
        || Ok::<_, anyhow::Error>(nft("list set ip pointsman-policy generations")?.matches("0x").count());
    ensure!(alive()? == 2);
    ensure!(enforcer.resync(compiler.program())?.operations == 0);
    let due = enforcer.due().ok_or_else(|| anyhow::anyhow!("nothing is due"))?;
    ensure!(due > Instant::now() + Duration::from_secs(3500));
    ensure!(enforcer.tidy(due - Duration::from_secs(1))?.operations == 0);
    ensure!(enforcer.tidy(due)?.operations == 2);
    ensure!(alive()? == 1 && enforcer.due().is_none());
    Ok(())
}

fn names() -> Result<()> {
    let mut compiler = world()?;
    let names =
        ["a".repeat(253), "a.b-c".to_owned(), "Größe {}; \"x\"".to_owned(), " ".to_owned(), "é".repeat(300)];
    for name in &names {
        compiler.apply(update(json!({ "kind": "NetworkPolicy", "metadata": { "name": name },
            "spec": { "podSelector": {}, "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": format!("{}", name.len()) } } }] }] } }))?);
    }
    compiler.take_delta();
    let mut enforcer = Nftables::new(Settings::default())?;
    enforcer.resync(compiler.program())?;
    ensure!(enforcer.resync(compiler.program())?.operations == 0);
    ensure!(enforcer.counts()?.allowed.len() == names.len());
    // What is listed can be read in again.
    let listed = nft("list ruleset")?;
    ensure!(listed.contains("ingress/default/a.b-c"));
    // `/run` is the test's own.
    std::fs::write("/run/listed.nft", listed)?;
    nft("-c -f /run/listed.nft").map(drop)
}

fn leftovers() -> Result<()> {
    let compiler = with_policy()?;
    Nftables::new(Settings::default())?.resync(compiler.program())?;
    nft("add table ip somebodys")?;
    ensure!(cleanup()?);
    ensure!(nft("list tables")?.trim() == "table ip somebodys");
    ensure!(!cleanup()?);
    Ok(())
}
