//! `pointsman policy check` and `what-if`, and what `pointsman trace` says of policies, held against what packets meet.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{POD_PORT, Protocol, binary, scenarios, trace};

use crate::scene::Scene;

scenarios! { Scene:
    check_names_who_allows_and_who_denies,
    check_takes_named_ports_addresses_and_manifests,
    check_tells_what_it_cannot_tell,
    what_if_tells_what_would_be_cut_and_cuts_nothing,
    what_if_tells_mistakes,
    trace_ends_with_the_verdict,
}

/// Lets pods that are `web` in their own namespace, and nobody else, to `db` at its port `http`.
fn guard(s: &mut Scene) {
    let web = json!({ "podSelector": { "matchLabels": { "app": "web" } } });
    let ingress = json!([{ "ports": [{ "port": 1 }] }, { "from": [web], "ports": [{ "port": "http" }] }]);
    s.policy(
        "default",
        "guard",
        json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": ingress }),
    );
}

fn run(s: &Scene, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.arg("policy").args(args);
    s.s.bed.node.run(|| command.output())?.context("cannot run pointsman policy")
}

/// What it says, with this exit status.
fn says(s: &Scene, status: i32, args: &[&str]) -> Result<String> {
    let output = run(s, args)?;
    let (out, error) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    ensure!(output.status.code() == Some(status), "{args:?}: {:?}: {out}{error}", output.status);
    Ok(out + &error)
}

fn tells(s: &Scene, status: i32, args: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&says(s, status, &[args, &["-o", "json"]].concat())?)?)
}

/// The connection of the scene's family that is told of.
fn of_family(s: &Scene, told: &Value) -> Result<Value> {
    let to = s.end("pod-2")?.ip.to_string();
    let connections = told["connections"].as_array().context("connections")?;
    connections.iter().find(|one| one["to"]["address"] == to).cloned().with_context(|| format!("{told}"))
}

fn check_names_who_allows_and_who_denies(s: &mut Scene) -> Result<()> {
    guard(s);
    s.sync()?;
    let to = format!("pod-2:{POD_PORT}");
    let told = of_family(s, &tells(s, 0, &["check", "--from", "pod-1", "--to", &to])?)?;
    let ingress = &told["sides"][1];
    ensure!(ingress["policy"] == "default/guard" && ingress["rule"] == "spec.ingress[1]", "{told}");
    ensure!(told["sides"][0]["because"] == "notIsolated", "{told}");
    s.reaches("pod-1", "pod-2")?;
    let told = of_family(s, &tells(s, 1, &["check", "--from", "other/pod-3", "--to", &to])?)?;
    ensure!(told["allowed"] == false && told["sides"][1]["isolatedBy"][0] == "default/guard", "{told}");
    s.refuses("pod-3", "pod-2")?;
    let text = says(s, 1, &["check", "--from", "other/pod-3", "--to", &to])?;
    ensure!(text.contains("denied") && text.contains("none of its rules allows it"), "{text}");
    // The node is always let in; what it is to another node's pods is theirs to say.
    let node = s.end("node")?.ip.to_string();
    let told = tells(s, 0, &["check", "--from", &node, "--to", &format!("{}:1", s.end("pod-1")?.name)])?;
    ensure!(told["connections"][0]["sides"][1]["because"] == "ownNode", "{told}");
    let text = says(s, 0, &["check", "--from", "pod-1", "--to", "remote-1:80"])?;
    ensure!(text.contains("its own node to enforce"), "{text}");
    // At once after a change.
    s.delete_policy("default", "guard");
    s.sync()?;
    says(s, 0, &["check", "--from", "other/pod-3", "--to", &to]).map(drop)
}

fn check_takes_named_ports_addresses_and_manifests(s: &mut Scene) -> Result<()> {
    guard(s);
    s.sync()?;
    says(s, 0, &["check", "--from", "pod-1", "--to", "default/pod-2:http"])?;
    says(s, 1, &["check", "--from", "pod-1", "--to", "default/pod-2:admin"])?;
    says(s, 1, &["check", "--from", "pod-1", "--to", "default/pod-2:dns", "--protocol", "udp"])?;
    let (client, db) = (s.end("client")?.ip.to_string(), s.end("pod-2")?.ip);
    let at = |port: u16| std::net::SocketAddr::new(db, port).to_string();
    says(s, 1, &["check", "--from", &client, "--to", &at(POD_PORT)])?;
    says(s, 0, &["check", "--from", &client, "--to", &at(1)])?;
    s.refuses("client", "pod-2")?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("all.json"), s.s.cluster.manifest())?;
    let folder = folder.path().to_str().context("a path of letters")?;
    let ask = |status, from: &str| {
        says(
            s,
            status,
            &["check", "--manifests", folder, "--socket", "/nowhere", "--from", from, "--to", "pod-2:http"],
        )
    };
    ask(0, "pod-1")?;
    ask(1, "other/pod-3").map(drop)
}

fn check_tells_what_it_cannot_tell(s: &mut Scene) -> Result<()> {
    s.sync()?;
    for (args, part) in [
        (["--from", "pod-3", "--to", "pod-2:80"], "is it other/pod-3?"),
        (["--from", "pod-1", "--to", "pod-2:smtp"], "it names admin"),
        (["--from", "pod-1", "--to", "pod-2"], "names no port"),
        (["--from", "192.0.2.1", "--to", "[fd00::1]:80"], "no address family in common"),
    ] {
        let said = says(s, 2, &[&["check"], &args[..]].concat())?;
        ensure!(said.contains(part) && said.lines().count() == 1, "{said}");
    }
    let said = says(s, 2, &["check", "--from", "pod-1", "--to", "pod-2:80", "--socket", "/nowhere"])?;
    ensure!(said.contains("--manifests") && said.contains("no pointsman answers"), "{said}");
    Ok(())
}

fn what_if_tells_what_would_be_cut_and_cuts_nothing(s: &mut Scene) -> Result<()> {
    s.sync()?;
    let mut conversation = s.converse("pod-1", "pod-2")?;
    conversation.echo()?;
    let deny = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "deny" }, "spec": { "podSelector": { "matchLabels": { "app": "db" } } } });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("new.json");
    std::fs::write(&file, deny.to_string())?;
    let file = file.to_str().context("a path of letters")?;
    let told = tells(s, 1, &["what-if", "-f", file])?;
    ensure!(told["policies"]["default/deny"] == "added", "{told}");
    let cut = told["connections"]["list"].as_array().context("connections")?;
    let of_ours = |one: &&Value| {
        one["from"]["pod"] == "default/pod-1"
            && one["to"]["pod"] == "default/pod-2"
            && one["allowed"] == false
    };
    let ours = cut.iter().find(of_ours).with_context(|| format!("{told}"))?;
    ensure!(ours["policies"] == json!(["default/deny"]) && ours["ports"] == json!(["8080/tcp"]), "{told}");
    // Nobody gets to the one pod of this name any more: three others in either family, which count once.
    ensure!(told["summary"]["default/deny"]["pairsDenied"] == 4, "{told}");
    let text = says(s, 1, &["what-if", "-f", file])?;
    ensure!(text.contains("connections under way:") && text.contains("default/deny"), "{text}");
    conversation.echo()?;
    // It is as it was told, and what is there already changes nothing.
    s.policy("default", "deny", deny["spec"].clone());
    s.sync()?;
    ensure!(conversation.echo().is_err(), "it goes on");
    let told = tells(s, 0, &["what-if", "-f", file])?;
    ensure!(told["policies"]["default/deny"] == "same", "{told}");
    let told = tells(s, 1, &["what-if", "--delete", "deny"])?;
    ensure!(told["summary"]["default/deny"]["pairsAllowed"] == 4, "{told}");
    s.refuses("pod-1", "pod-2")
}

fn what_if_tells_mistakes(s: &mut Scene) -> Result<()> {
    s.sync()?;
    let bad = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "bad" },
        "spec": { "podSelector": { "matchLabels": { "app": "db" } },
            "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/99" } }] }] } });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bad.json");
    std::fs::write(&file, bad.to_string())?;
    let file = file.to_str().context("a path of letters")?;
    let text = says(s, 1, &["what-if", "-f", file])?;
    ensure!(text.contains("spec.ingress[0].from[0].ipBlock.cidr") && text.contains("10.0.0.0/99"), "{text}");
    let said = says(s, 2, &["what-if", "--delete", "gone"])?;
    ensure!(said.contains("default/gone"), "{said}");
    std::fs::write(file, "{ \"kind\": ")?;
    let said = says(s, 2, &["what-if", "-f", file])?;
    ensure!(said.contains("bad.json:1"), "{said}");
    Ok(())
}

fn trace_ends_with_the_verdict(s: &mut Scene) -> Result<()> {
    let (web, slice) = (s.s.web(), s.s.slice("web", &["pod-2"]));
    s.s.cluster.put(web).put_slice(slice);
    guard(s);
    s.sync()?;
    let to = trace::destination(s.s.web_address(), Protocol::Tcp);
    let of = |from: &str| -> Result<Value> {
        let traces = trace::ask(&s.s.bed.node, &s.end(from)?.ip.to_string(), &to, &[])?;
        traces.into_iter().next().context("a trace")
    };
    let allowed = of("pod-1")?;
    ensure!(allowed["policies"][0]["sides"][1]["rule"] == "spec.ingress[1]", "{allowed}");
    let findings = trace::findings(&allowed);
    ensure!(!findings.iter().any(|name| name.starts_with("policy")), "{findings:?}: {allowed}");
    ensure!(allowed["unknown"].is_null(), "{allowed}");
    let denied = of("pod-3")?;
    ensure!(denied["policies"][0]["allowed"] == false, "{denied}");
    ensure!(trace::findings(&denied) == ["policy-denied"], "{denied}");
    let walked = ["nftables", "iptables-nft", "iptables-legacy"].contains(&s.s.mode().name);
    ensure!(!walked || denied["ways"][0]["outcome"] == "rejected", "{denied}");
    Ok(())
}
