//! Bad input: an error as the specification has it, and nothing left behind.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::plugin::{Call, Node, cni, ipam};

fn config(node: &Node) -> Value {
    node.config("pointsman-ipam", &json!([[{"subnet": "10.0.0.0/24"}]]))
}

/// The error of a call to each of our plugins, which must leave nothing.
fn errors(node: &Node, call: &Call) -> [(u64, String); 2] {
    [cni(), ipam()].map(|plugin: &Path| {
        let error = call.run(plugin).error();
        node.must_be_clean();
        error
    })
}

#[test]
fn input_that_is_no_configuration() {
    let node = Node::new();
    let good = config(&node).to_string().into_bytes();
    let mut oversized = good.clone();
    oversized.resize(2 << 20, b' ');
    let inputs = [
        Vec::new(),
        b"  \n".to_vec(),
        b"nonsense".to_vec(),
        b"[]".to_vec(),
        good[..good.len() / 2].to_vec(),
        vec![0xff; 64],
        "{\"a\":".repeat(100_000).into_bytes(),
        oversized,
    ];
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
        for input in &inputs {
            for (code, text) in errors(&node, &Call::new(command, "a", &Value::Null).input(input.clone())) {
                assert_eq!(code, 6, "{command} {:.40}: {text}", String::from_utf8_lossy(input));
            }
        }
    }
}

#[test]
fn versions() {
    let node = Node::new();
    for version in [json!("0.2.0"), json!("1.2.0"), json!(""), Value::Null] {
        let mut config = config(&node);
        config["cniVersion"] = version.clone();
        for (code, text) in errors(&node, &Call::new("ADD", "a", &config)) {
            assert_eq!(code, 1, "{version}: {text}");
            assert!(text.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{text}");
        }
    }
    for (command, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        let mut config = config(&node);
        config["cniVersion"] = json!(version);
        for (code, _) in errors(&node, &Call::new(command, "a", &config)) {
            assert_eq!(code, 1, "{command} in {version}");
        }
    }
    for plugin in [cni(), ipam()] {
        for input in ["{\"cniVersion\": \"0.4.0\"}", "", "nonsense"] {
            let answer = Call::new("VERSION", "", &Value::Null).input(input).without("CNI_PATH").run(plugin);
            let told = answer.result();
            assert_eq!(told["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
            assert_eq!(told["cniVersion"], if input.contains("0.4.0") { "0.4.0" } else { "1.1.0" });
        }
    }
}

#[test]
fn the_environment() {
    let node = Node::new();
    let call = |command: &str| Call::new(command, "a", &config(&node));
    for (call, variable) in [
        (call("ADD").set("CNI_COMMAND", "UPDATE"), "CNI_COMMAND"),
        (call("ADD").without("CNI_COMMAND"), "CNI_COMMAND"),
        (call("ADD").without("CNI_CONTAINERID"), "CNI_CONTAINERID"),
        (call("ADD").without("CNI_NETNS"), "CNI_NETNS"),
        (call("CHECK").without("CNI_NETNS"), "CNI_NETNS"),
        (call("DEL").without("CNI_IFNAME"), "CNI_IFNAME"),
        (call("GC").without("CNI_PATH"), "CNI_PATH"),
        (call("ADD").set("CNI_CONTAINERID", "../a"), "CNI_CONTAINERID"),
        (call("ADD").set("CNI_IFNAME", "a-name-that-is-too-long"), "CNI_IFNAME"),
        (call("DEL").set("CNI_ARGS", "nonsense"), "CNI_ARGS"),
    ] {
        for (code, text) in errors(&node, &call) {
            assert_eq!(code, 4, "{text}");
            assert!(text.contains(variable), "{text}");
        }
    }
    // Only the plugin that makes an interface looks into the namespace.
    for netns in ["/nonexistent", "/etc/hostname", "/proc/self/ns/uts", "/proc/self/ns/net", "/"] {
        let (code, text) = call("ADD").set("CNI_NETNS", netns).run(cni()).error();
        assert!(code == 4 && text.contains("CNI_NETNS"), "{netns}: {text}");
        node.must_be_clean();
    }
}

#[test]
fn configurations_that_make_no_sense() {
    let node = Node::new();
    std::fs::write(
        node.path("network.json"),
        r#"{"podCIDRs": ["10.0.0.0/16"], "mtu": 1450, "dataPath": "routed", "backend": "vxlan"}"#,
    )
    .unwrap();
    for (ranges, part) in [
        (json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/25"}]]), "overlap"),
        (json!([[{"subnet": "10.0.0.0/31"}]]), "too small"),
        (json!([[{"subnet": "10.0.0.1/24"}]]), "10.0.0.0/24 is meant"),
        (json!([[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}]]), "rangeStart"),
        (json!([[{"subnet": "10.1.0.0/24"}]]), "not within this node's podCIDRs, 10.0.0.0/16"),
    ] {
        let (code, text) = Call::new("ADD", "a", &node.config("", &ranges)).run(ipam()).error();
        assert_eq!(code, 7, "{ranges}: {text}");
        assert!(text.contains(part), "{text}");
        node.must_be_clean();
    }
    std::fs::write(node.path("network.json"), "nonsense").unwrap();
    let (code, text) = Call::new("ADD", "a", &config(&node)).run(ipam()).error();
    assert!(code >= 100 && text.contains("network.json"), "{text}");
    let mut newest = config(&node);
    newest["cniVersion"] = json!("1.1.0");
    assert_eq!(Call::new("STATUS", "", &newest).run(cni()).error().0, 50);
}

#[test]
fn what_is_not_there() {
    let node = Node::new();
    let mut config = config(&node);
    // Removing what never was is fine, with and without a namespace.
    for netns in ["/nonexistent", ""] {
        for plugin in [cni(), ipam()] {
            Call::new("DEL", "never", &config).set("CNI_NETNS", netns).run(plugin).result();
        }
    }
    assert!(!node.path("networks").exists() && !node.path("state").exists(), "nothing is made by removing");
    let (code, text) = Call::new("CHECK", "never", &config).run(cni()).error();
    assert!(code == 7 && text.contains("prevResult"), "{text}");
    config["prevResult"] = json!({"ips": []});
    assert_eq!(Call::new("CHECK", "never", &config).run(cni()).error().0, 3);

    config["cniVersion"] = json!("1.1.0");
    for plugin in [cni(), ipam()] {
        let (code, text) = Call::new("GC", "", &config).run(plugin).error();
        assert!(code == 7 && text.contains("cni.dev/valid-attachments"), "{text}");
    }
    let (code, text) = Call::new("STATUS", "", &config).run(cni()).error();
    assert!(code == 50 && text.contains("cni.sock"), "without a daemon, no pod would be let in: {text}");
    config["gate"] = json!("off");
    assert!(Call::new("STATUS", "", &config).run(cni()).result().is_null());
    config["ipam"]["ranges"] = Value::Null;
    for plugin in [cni(), ipam()] {
        assert_eq!(Call::new("STATUS", "", &config).run(plugin).error().0, 50);
    }
    let (code, text) = Call::new("ADD", "a", &config).run(ipam()).error();
    assert!(code == 11, "a network that is not ready yet will be: {text}");
}

#[test]
fn an_ipam_plugin_that_is_not_there() {
    let node = Node::new();
    let mut config = node.config("no-such-ipam", &json!([]));
    for command in ["DEL", "GC", "STATUS"] {
        config["cniVersion"] = json!("1.1.0");
        config["cni.dev/valid-attachments"] = json!([]);
        let answer = Call::new(command, "a", &config).set("CNI_PATH", "/nonexistent:/usr/lib/cni").run(cni());
        let (_, text) = answer.error();
        assert!(text.contains("no-such-ipam") && text.contains("/nonexistent:/usr/lib/cni"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..400, command in 0usize..5) {
        let node = Node::new();
        // A configuration in which something was overwritten goes further than noise.
        let mut input = config(&node).to_string().into_bytes();
        let at = at.min(input.len());
        input.splice(at..(at + bytes.len() / 8).min(input.len()), bytes.into_iter().take(12));
        let command = ["ADD", "DEL", "CHECK", "GC", "STATUS"][command];
        let call = Call::new(command, "a", &Value::Null).input(input).set("CNI_NETNS", "/nonexistent");
        let answer = call.run(cni());
        if !answer.status.success() {
            answer.error();
        }
        prop_assert!(node.addresses().is_empty());
    }
}
