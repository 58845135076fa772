//! Another plugin chooses addresses: it hears what we hear.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::plugin::{Call, Node, cni};

/// A plugin that writes down what it is asked and then says `answer`.
fn plugin(node: &Node, answer: &str) -> PathBuf {
    let folder = node.path("bin");
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS\" >> {0}\ncat >> {0}\necho >> {0}\n{answer}\n",
        node.path("asked").display()
    );
    fs::write(folder.join("fake-ipam"), script).unwrap();
    fs::set_permissions(folder.join("fake-ipam"), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn config(node: &Node) -> Value {
    let mut config = node.config("fake-ipam", &json!([]));
    config["cniVersion"] = json!("1.1.0");
    config["gate"] = json!("off");
    config["unknown"] = json!({"kept": [1, "two"]});
    config["cni.dev/valid-attachments"] = json!([{"containerID": "b", "ifname": "eth0"}]);
    config
}

/// What the plugin was asked: its variables, and its input.
fn asked(node: &Node) -> (String, Value) {
    let text = fs::read_to_string(node.path("asked")).unwrap();
    fs::remove_file(node.path("asked")).unwrap();
    let (variables, input) = text.split_once('\n').unwrap();
    (variables.to_owned(), serde_json::from_str(input).unwrap())
}

#[test]
fn verbs_are_passed_on_as_they_came() {
    let node = Node::new();
    let folder = plugin(&node, "true");
    for command in ["DEL", "GC", "STATUS"] {
        let call = Call::new(command, "a", &config(&node)).set("CNI_PATH", folder.to_str().unwrap());
        assert!(call.run(cni()).result().is_null());
        let (variables, input) = asked(&node);
        assert_eq!(variables, format!("{command} a eth0 /proc/self/ns/net"));
        assert_eq!(input, config(&node), "all of it, and nothing else");
    }
}

#[test]
fn what_it_refuses_is_refused() {
    let node = Node::new();
    let answer = r#"echo '{"cniVersion": "1.1.0", "code": 50, "msg": "no", "details": "the lease server is down"}'; exit 1"#;
    let folder = plugin(&node, answer);
    for (command, code) in [("DEL", 50), ("STATUS", 50), ("GC", 106)] {
        let call = Call::new(command, "a", &config(&node)).set("CNI_PATH", folder.to_str().unwrap());
        let (told, text) = call.run(cni()).error();
        assert_eq!(told, code);
        assert!(text.contains("fake-ipam") && text.contains("the lease server is down"), "{text}");
    }
}
