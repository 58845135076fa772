//! What the specification says of input, results and errors.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cni::{Answer, Call, Pod, Refused, refused};
use testbed::scenarios;

use crate::scene::Scene;

scenarios! { Scene:
    versions_are_listed,
    a_result_is_in_the_version_that_was_asked,
    a_version_that_is_not_known_is_refused,
    input_that_is_no_configuration_is_refused,
    a_configuration_that_makes_no_sense_is_refused,
    a_verb_that_is_not_known_is_refused,
    variables_that_are_missing_are_named,
    variables_that_make_no_sense_are_refused,
    a_namespace_that_is_none_is_refused,
    an_interface_that_is_there_is_refused,
    keys_that_are_not_known_are_let_pass,
}

const OURS: &str = "pointsman-cni";
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn versions_are_listed(s: &mut Scene) -> Result<()> {
    for plugin in [OURS, "pointsman-ipam"] {
        let versions = s.runtime.versions(plugin, "1.1.0")?;
        for version in VERSIONS {
            ensure!(versions.iter().any(|known| known == version), "{plugin} does not know {version}");
        }
    }
    Ok(())
}

fn a_result_is_in_the_version_that_was_asked(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    for version in VERSIONS {
        let list = s.list.in_version(version);
        let name = format!("pod-{}", version.replace('.', "-"));
        let mut pod = Pod::new(&name)?;
        pod.result = s.runtime.add(&list, &pod.attachment)?;
        let result = &pod.result;
        ensure!(result["cniVersion"] == version, "asked for {version}: {result}");
        ensure!(pod.addresses()?.len() == s.families().len(), "{version}: {result}");
        let inside = result["interfaces"].as_array().context("no interfaces")?.iter();
        let inside = inside.clone().find(|interface| interface["sandbox"] == json!(pod.attachment.netns));
        ensure!(inside.is_some_and(|interface| interface["name"] == "eth0"), "{version}: {result}");
        for ip in result["ips"].as_array().context("no ips")? {
            let index = ip["interface"].as_u64().context("an address without interface")?;
            let of = &result["interfaces"][usize::try_from(index)?];
            ensure!(of["sandbox"] == json!(pod.attachment.netns), "{version}: {result}");
            // Before 1.0.0, families were named.
            let family = ip["version"].as_str();
            let expected = version.starts_with('0').then_some(match ip["address"].as_str() {
                Some(address) if address.contains(':') => "6",
                _ => "4",
            });
            ensure!(family == expected, "{version}: {result}");
        }
        if version.starts_with('1') || version == "0.4.0" {
            s.runtime.check(&list, &pod.attachment)?;
        }
        s.runtime.del(&list, &pod.attachment)?;
    }
    s.must_be_as(&before)
}

/// What a configuration comes to, whatever it is, for an attachment that would be fine; nothing is left of it.
fn refusal(s: &Scene, stdin: &[u8]) -> Result<Refused> {
    let before = s.there()?;
    let pod = Pod::new("refused")?;
    let answer = s.runtime.call(OURS, &Call::about("ADD", &pod.attachment), stdin)?;
    let refusal = refused(checked(answer)?.result());
    s.must_be_as(&before)?;
    std::process::Command::new("ip").args(["netns", "delete", "refused"]).status()?;
    refusal
}

/// It must end with an error as the specification has it.
fn checked(answer: Answer) -> Result<Answer> {
    ensure!(!answer.status.success(), "it ended as if all were well: {answer:?}");
    let error: Value = serde_json::from_str(&answer.stdout).with_context(|| format!("{answer:?}"))?;
    ensure!(error["cniVersion"].is_string(), "no cniVersion: {error}");
    Ok(answer)
}

fn a_version_that_is_not_known_is_refused(s: &mut Scene) -> Result<()> {
    for version in ["0.2.0", "2.0.0", "1.0", "one"] {
        let refusal = refusal(s, &configuration(s, "cniVersion", json!(version)))?;
        ensure!(refusal.code == 1 && refusal.text().contains(version), "{version}: {refusal}");
    }
    Ok(())
}

fn input_that_is_no_configuration_is_refused(s: &mut Scene) -> Result<()> {
    let oversized = configuration(s, "padding", json!("x".repeat(32 << 20)));
    let deep = "[".repeat(100_000);
    let inputs: [(&str, &[u8], &[u64]); 6] = [
        ("nothing", b"", &[6]),
        ("half an object", br#"{"cniVersion":"1.0.0","name""#, &[6]),
        ("a list", b"[]", &[6, 7]),
        ("bytes", &[0xff, 0xfe, 0, 1], &[6]),
        ("depth", deep.as_bytes(), &[6]),
        ("too much", &oversized, &[5, 6, 7]),
    ];
    for (what, input, codes) in inputs {
        let refusal = refusal(s, input).context(what)?;
        ensure!(codes.contains(&refusal.code), "{what}: {refusal}");
    }
    Ok(())
}

fn a_configuration_that_makes_no_sense_is_refused(s: &mut Scene) -> Result<()> {
    let long = "x".repeat(300);
    for (key, value) in [
        ("name", json!("")),
        ("name", json!("../escape")),
        ("name", json!(long)),
        ("name", Value::Null),
        ("mode", json!("tunnel")),
        ("mtu", json!(12)),
        ("mtu", json!("large")),
        ("ipam", json!("pointsman-ipam")),
        ("ipam", json!({ "type": "pointsman-ipam", "ranges": [[{ "subnet": "10.88.0.0/33" }]] })),
        ("ipam", json!({ "type": "pointsman-ipam", "ranges": [[]] })),
        ("ipam", json!({ "type": "../../bin/sh" })),
        ("runtimeConfig", json!({ "portMappings": [{ "hostPort": 70_000, "containerPort": 1 }] })),
        ("runtimeConfig", json!({ "mac": "not-a-mac" })),
    ] {
        let refusal = refusal(s, &configuration(s, key, value.clone()));
        let refusal = refusal.with_context(|| format!("{key}: {value}"))?;
        ensure!([6, 7].contains(&refusal.code), "{key}: {value}: {refusal}");
    }
    Ok(())
}

fn a_verb_that_is_not_known_is_refused(s: &mut Scene) -> Result<()> {
    let before = s.there()?;
    let pod = Pod::new("pod-1")?;
    for verb in ["ATTACH", "add", "", "ADD "] {
        let call = Call::about(verb, &pod.attachment);
        let answer = s.runtime.call(OURS, &call, &configuration(s, "name", json!("pods")))?;
        let refusal = refused(checked(answer)?.result())?;
        ensure!(refusal.code == 4, "{verb:?}: {refusal}");
    }
    s.must_be_as(&before)
}

fn variables_that_are_missing_are_named(s: &mut Scene) -> Result<()> {
    let before = s.there()?;
    let pod = Pod::new("pod-1")?;
    let input = configuration(s, "name", json!("pods"));
    for (verb, variable) in [
        ("ADD", "CNI_CONTAINERID"),
        ("ADD", "CNI_NETNS"),
        ("ADD", "CNI_IFNAME"),
        ("DEL", "CNI_CONTAINERID"),
        ("DEL", "CNI_IFNAME"),
        ("CHECK", "CNI_NETNS"),
    ] {
        let call = Call::about(verb, &pod.attachment).without(variable);
        let refusal = refused(checked(s.runtime.call(OURS, &call, &input)?)?.result())?;
        ensure!(
            refusal.code == 4 && refusal.text().contains(variable),
            "{verb} without {variable}: {refusal}"
        );
    }
    s.must_be_as(&before)
}

fn variables_that_make_no_sense_are_refused(s: &mut Scene) -> Result<()> {
    let before = s.there()?;
    let pod = Pod::new("pod-1")?;
    let input = configuration(s, "name", json!("pods"));
    for (variable, value) in [
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "has space"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "an-interface-with-a-long-name"),
        ("CNI_IFNAME", "two words"),
        ("CNI_ARGS", "no-equals-sign"),
    ] {
        let call = Call::about("ADD", &pod.attachment).with(variable, value);
        let refusal = refused(checked(s.runtime.call(OURS, &call, &input)?)?.result());
        let refusal = refusal.with_context(|| format!("{variable}={value}"))?;
        ensure!(refusal.code == 4, "{variable}={value}: {refusal}");
    }
    s.must_be_as(&before)
}

fn a_namespace_that_is_none_is_refused(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    std::fs::write("/run/no-namespace", "")?;
    for path in ["/run/netns/not-there", "/run/no-namespace", "/proc/self/ns/mnt"] {
        let pod = testbed::cni::Attachment::new("pod-1", path);
        let refusal = refused(s.runtime.add(&s.list, &pod))?;
        ensure!(refusal.text().contains(path), "{path}: {refusal}");
        s.must_be_as(&before).with_context(|| path.to_owned())?;
    }
    Ok(())
}

fn an_interface_that_is_there_is_refused(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    let pod = Pod::new("pod-1")?;
    pod.namespace.ip("link add eth0 type veth peer name other")?;
    let refusal = refused(s.runtime.add(&s.list, &pod.attachment))?;
    ensure!(refusal.text().contains("eth0"), "{refusal}");
    s.must_be_as(&before)?;
    // What is there is somebody else's, and no business of DEL's after an ADD that came to nothing.
    let links = pod.namespace.output("ip", &["link"])?;
    ensure!(links.contains("eth0") && links.contains("other"), "{links}");
    Ok(())
}

fn keys_that_are_not_known_are_let_pass(s: &mut Scene) -> Result<()> {
    s.set("com.example.unknown", json!({ "deep": [1, 2, 3] }))?;
    s.set_ipam("com.example.unknown", json!(true))?;
    let pod = s.pod("pod-1")?;
    s.runtime.check(&s.list, &pod.attachment)?;
    s.detach(&pod)
}

/// The network's configuration with something else in it.
fn configuration(s: &Scene, key: &str, value: Value) -> Vec<u8> {
    let mut configuration = s.list.plugins.first().cloned().unwrap_or_default();
    configuration["name"] = json!(s.list.name);
    configuration["cniVersion"] = json!(s.list.version);
    configuration[key] = value;
    configuration.to_string().into_bytes()
}
