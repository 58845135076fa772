//! What is in the tables, and what others do there.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use policy::{Enforcer, Settings};
use serde_json::json;

use crate::Scenario;
use crate::field::{Field, SetUp};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("a_restart_changes_nothing", logging, restart),
    ("what_changed_meanwhile_is_put_right", SetUp::default, meanwhile),
    ("damage_is_repaired", SetUp::default, damage),
    ("others_are_left_alone", SetUp::default, others),
    ("what_others_do_is_heard_of", SetUp::default, heard),
];

fn logging() -> SetUp {
    SetUp { settings: Settings { log_denied: true, ..Settings::default() }, ..SetUp::default() }
}

/// Policies with everything that rules can say.
fn everything(field: &mut Field) -> Result<()> {
    let all = if field.ip("node").is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let rules = json!([
        { "ports": [{ "port": 80 }, { "port": 1000, "endPort": 2000, "protocol": "UDP" }, { "protocol": "SCTP" }] },
        { "from": [{ "podSelector": { "matchLabels": { "app": "db" } } }], "ports": [{ "port": "http" }] },
        { "from": [{ "ipBlock": { "cidr": all } }], "ports": [{ "port": 5, "protocol": "SCTP" }] },
        { "from": [{ "namespaceSelector": {} }] },
    ]);
    field.policy(
        "one",
        &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": rules }),
    )?;
    field.policy("two", &json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": rules }))?;
    Ok(())
}

fn restart(field: &mut Field) -> Result<()> {
    let mut conversation = field.from("client").open(field.at("pod-3"))?;
    everything(field)?;
    let report = field.resync()?;
    ensure!(report.operations == 0 && !report.judged_anew, "{report:?}");
    let report = field.restart(field.settings.clone())?;
    ensure!(report.operations == 0 && !report.judged_anew, "{report:?}");
    conversation.echo()
}

fn meanwhile(field: &mut Field) -> Result<()> {
    everything(field)?;
    let mut conversation = field.from("pod-3").open(field.at("pod-2"))?;
    field.compiler.take_delta();
    let namespaces = json!({ "podSelector": {}, "policyTypes": ["Ingress"] });
    // Compiled, but not applied.
    let policy = json!({ "metadata": { "name": "one" }, "spec": namespaces });
    field.compiler.apply(policy::Update::NetworkPolicy(serde_json::from_value(policy)?));
    field.compiler.take_delta();
    let report = field.restart(field.settings.clone())?;
    ensure!(report.operations > 0 && report.judged_anew, "{report:?}");
    ensure!(conversation.echo().is_err(), "it goes on");
    field.check(&["pod-1 x pod-2", "pod-2 > pod-1"])?;
    let report = field.resync()?;
    ensure!(report.operations <= left_sets(field)?, "{report:?}");
    Ok(())
}

/// Sets that rules of iptables-nft may have held on to.
fn left_sets(field: &Field) -> Result<usize> {
    Ok(field.bed.node.output("ipset", &["list", "-n"])?.lines().count())
}

fn damage(field: &mut Field) -> Result<()> {
    field.policy(
        "in",
        &json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [
        { "from": [{ "podSelector": { "matchLabels": { "app": "db" } } }] }] }),
    )?;
    let right = field.tool().content()?;
    let check = |field: &mut Field, what: &str| -> Result<()> {
        let report = field.resync()?;
        ensure!(report.operations > 0, "{what}: {report:?}");
        field.check(&["pod-2 > pod-1", "client x pod-1"]).context(what.to_owned())?;
        let report = field.resync()?;
        ensure!(report.operations == 0, "{what}: {report:?}");
        Ok(())
    };
    let chain = right.iter().find_map(|line| {
        line.strip_prefix("filter :")?.strip_suffix(" -").filter(|chain| chain.starts_with("KUBE-NWPLCY-"))
    });
    let chain = chain.context("the policy has no chain")?.to_owned();
    for script in [
        format!("-F {chain}"),
        format!("-A {chain} -j KUBE-POLICY-ALLOW"),
        "-I FORWARD -j ACCEPT".to_owned(),
        "-F FORWARD".to_owned(),
        "-D KUBE-POLICY-ORIGINAL 1".to_owned(),
        "-A INPUT -j KUBE-POLICY-FORWARD".to_owned(),
        "-F OUTPUT".to_owned(),
        ":KUBE-POD-FW-abcdefghijklmnop - [0:0]".to_owned(),
    ] {
        field.tool().load(&format!("*filter\n{script}\nCOMMIT\n"))?;
        check(field, &script)?;
    }
    // All of it, as a reload of a firewall does.
    field.tool().replace("*filter\nCOMMIT\n")?;
    check(field, "everything")?;
    ensure!(field.tool().content()?.iter().all(|line| !line.contains("INPUT")));
    let sets = field.bed.node.output("ipset", &["list", "-n"])?;
    for set in sets.lines() {
        field.bed.node.output("ipset", &["flush", set])?;
    }
    check(field, "sets")
}

fn others(field: &mut Field) -> Result<()> {
    let cleanup = |field: &Field| field.bed.node.run(policy::iptables::cleanup);
    ensure!(cleanup(field)??, "there was nothing");
    ensure!(!cleanup(field)??, "something was left");
    let inet = if field.ip("node").is_ipv4() { "inet" } else { "inet6" };
    field.bed.node.output("ipset", &["create", "KUBE-NPX", "hash:ip", "family", inet])?;
    field.tool().load(
        "*filter\n:KUBE-POD-FW-ABCDEFGHIJKLMNOP - [0:0]\n:FORWARD DROP [0:0]\n-A KUBE-POD-FW-ABCDEFGHIJKLMNOP -j RETURN\n\
         -A FORWARD -m set --match-set KUBE-NPX src -j KUBE-POD-FW-ABCDEFGHIJKLMNOP\n-A FORWARD -j ACCEPT\nCOMMIT\n",
    )?;
    let sets = |field: &Field| field.bed.node.output("ipset", &["list", "-n"]);
    let before = (field.tool().content()?, sets(field)?);
    field.resync()?;
    everything(field)?;
    let during = field.tool().content()?;
    ensure!(before.0.iter().all(|line| during.contains(line)), "{during:#?}");
    ensure!(cleanup(field)??, "there was nothing");
    let after = (field.tool().content()?, sets(field)?);
    ensure!(before == after, "{before:#?} became {after:#?}");
    Ok(())
}

fn heard(field: &mut Field) -> Result<()> {
    let enforcer = &mut field.enforcer;
    let watch = field.bed.node.run(|| enforcer.watch())??;
    let Some(mut watch) = watch else { bail!("there is nothing to hear") };
    // What we do ourselves is not told.
    everything(field)?;
    let (sender, told) = mpsc::channel();
    let node = field.bed.node.again()?;
    thread::spawn(move || sender.send(node.run(|| watch.next_damage())));
    field.tool().run(&["-F", "KUBE-POLICY-ORIGINAL"])?;
    let Ok(damage) = told.recv_timeout(Duration::from_secs(10)) else { bail!("nothing is heard") };
    let (damage, program) = (damage??, field.tool().program(""));
    let name = &program[..program.len().min(15)];
    ensure!(damage.contains(name), "{damage:?} is not {name}'s");
    Ok(())
}
