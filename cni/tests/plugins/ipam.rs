//! `pointsman-ipam` by itself.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use super::plugin::{Call, Node, ipam};

fn dual(node: &Node) -> Value {
    node.config("pointsman-ipam", &json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]))
}

#[test]
fn results_are_in_the_version_asked_for() {
    let node = Node::new();
    let mut config = dual(&node);
    config["ipam"]["routes"] = json!([{"dst": "10.9.0.0/16", "gw": "10.0.0.9", "mtu": 1400}]);
    std::fs::write(node.path("resolv.conf"), "nameserver 10.0.0.53\nsearch example.org\n").unwrap();
    config["ipam"]["resolvConf"] = json!(node.path("resolv.conf"));
    for (at, version) in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"].into_iter().enumerate() {
        config["cniVersion"] = json!(version);
        let result = Call::new("ADD", &format!("c{at}"), &config).run(ipam()).result();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0].get("version").is_some(), version < "1.0.0");
        assert_eq!(result["ips"][0]["gateway"], "10.0.0.1");
        assert_eq!(result["ips"][1]["address"], format!("fd00::{}/64", at + 2));
        assert_eq!(result["routes"][0].get("mtu").is_some(), version == "1.1.0");
        assert_eq!(result["dns"], json!({"nameservers": ["10.0.0.53"], "search": ["example.org"]}));
        assert_eq!(result.get("interfaces"), None, "an IPAM plugin knows of none");
    }
}

#[test]
fn addresses_are_asked_for_in_three_ways() {
    let node = Node::new();
    let mut config = dual(&node);
    let asked = Call::new("ADD", "a", &config).set("CNI_ARGS", "IgnoreUnknown=1;IP=10.0.0.77").run(ipam());
    assert_eq!(asked.addresses(), ["10.0.0.77", "fd00::2"]);
    config["args"] = json!({"cni": {"ips": ["10.0.0.78"]}});
    config["runtimeConfig"] = json!({"ips": ["fd00::78/64"]});
    assert_eq!(Call::new("ADD", "b", &config).run(ipam()).addresses(), ["10.0.0.78", "fd00::78"]);
    let (code, text) = Call::new("ADD", "c", &config).run(ipam()).error();
    assert!(code == 101 && text.contains("b/eth0"), "{text}");
    config["args"] = json!({"cni": {"ips": ["localhost"]}});
    assert_eq!(Call::new("ADD", "c", &config).run(ipam()).error().0, 7);
    assert_eq!(node.addresses().len(), 4);
}

#[test]
fn collecting_garbage_keeps_what_is_valid() {
    let node = Node::new();
    let mut config = dual(&node);
    config["cniVersion"] = json!("1.1.0");
    for container in ["a", "b", "c"] {
        Call::new("ADD", container, &config).run(ipam()).result();
    }
    config["cni.dev/valid-attachments"] = json!([{"containerID": "b", "ifname": "eth0"}]);
    for _ in 0..2 {
        assert!(Call::new("GC", "", &config).run(ipam()).result().is_null());
        assert_eq!(node.addresses(), ["10.0.0.3", "fd00::3"]);
    }
    Call::new("CHECK", "b", &config).run(ipam()).result();
    let (code, _) = Call::new("CHECK", "a", &config).run(ipam()).error();
    assert_eq!(code, 105);
}

#[test]
fn whoever_is_killed_leaves_nothing_that_stays() {
    let node = Node::new();
    let config = dual(&node);
    let mut struck = 0;
    for step in cni::fault::STEPS.iter().filter(|step| step.starts_with("ipam-")) {
        let answer = Call::new("ADD", "a", &config).set(cni::fault::VARIABLE, step).run(ipam());
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&answer.status),
            Some(9),
            "{step}: {answer:?}"
        );
        assert!(answer.stdout.is_empty());
        struck += 1;
        Call::new("DEL", "a", &config).run(ipam()).result();
        node.must_be_clean();
    }
    assert!(struck >= 5);
    Call::new("ADD", "a", &config).run(ipam()).result();
}

#[test]
fn many_at_once() {
    let node = Node::new();
    let config = dual(&node);
    let containers: Vec<_> = (0..50).map(|at| format!("c{at}")).collect();
    let run = |command: &'static str| -> Vec<Vec<String>> {
        thread::scope(|scope| {
            let call = |container: &String| {
                let answer = Call::new(command, container, &config).run(ipam());
                if command == "ADD" {
                    answer.addresses()
                } else {
                    answer.result().as_str().into_iter().map(str::to_owned).collect()
                }
            };
            let threads: Vec<_> =
                containers.iter().map(|container| scope.spawn(move || call(container))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let given: BTreeSet<_> = run("ADD").into_iter().flatten().collect();
    assert_eq!(given.len(), 100);
    assert_eq!(node.addresses().len(), 100);
    run("DEL");
    node.must_be_clean();
}
