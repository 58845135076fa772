//! The reference's IPAM plugin, Debian's `host-local`, and ours on one folder: each sees what the other gave.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};

use super::plugin::{Call, Node, host_local, ipam};

fn ranges() -> Value {
    json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]])
}

fn call(node: &Node, ours: bool, command: &str, container: &str) -> super::plugin::Answer {
    call_of(node, ours, command, container, &ranges())
}

fn call_of(node: &Node, ours: bool, command: &str, container: &str, ranges: &Value) -> super::plugin::Answer {
    let config = node.config(if ours { "pointsman-ipam" } else { "host-local" }, ranges);
    let theirs = host_local();
    let plugin: &Path = if ours { ipam() } else { &theirs };
    Call::new(command, container, &config).run(plugin)
}

#[test]
fn addresses_are_given_in_turn_whoever_gives_them() {
    let node = Node::new();
    for number in 0u8..12 {
        let given = call(&node, number % 3 != 0, "ADD", &format!("c{number}")).addresses();
        assert_eq!(given, [format!("10.0.0.{}", number + 2), format!("fd00::{:x}", number + 2)]);
    }
}

#[test]
fn each_writes_what_the_other_would() {
    let (ours, theirs) = (Node::new(), Node::new());
    for container in ["a", "b"] {
        call(&ours, true, "ADD", container).result();
        call(&theirs, false, "ADD", container).result();
    }
    let files = |node: &Node| {
        let listed = fs::read_dir(node.path("networks/pods")).unwrap().flatten();
        let files = listed.filter(|file| file.file_type().unwrap().is_file() && file.file_name() != "lock");
        files.map(|file| (file.file_name(), fs::read(file.path()).unwrap())).collect::<BTreeSet<_>>()
    };
    assert_eq!(files(&ours), files(&theirs));
    assert_eq!(files(&ours).len(), 6);
}

#[test]
fn each_gives_back_what_the_other_gave() {
    let node = Node::new();
    for ours in [true, false] {
        call(&node, ours, "ADD", "a").result();
        call(&node, !ours, "CHECK", "a").result();
        call(&node, !ours, "DEL", "a").result();
        assert!(node.addresses().is_empty(), "{:?}", node.addresses());
        assert!(!call(&node, ours, "CHECK", "a").status.success());
        call(&node, ours, "DEL", "a").result();
    }
    node.must_be_clean();
}

#[test]
fn neither_gives_an_attachment_a_second_address() {
    let node = Node::new();
    for ours in [true, false] {
        call(&node, ours, "ADD", "a").result();
        assert!(!call(&node, !ours, "ADD", "a").status.success());
        assert_eq!(node.addresses().len(), 2);
        call(&node, ours, "DEL", "a").result();
    }
}

#[test]
fn a_range_that_the_other_has_filled_is_full() {
    let node = Node::new();
    let small = json!([[{"subnet": "10.0.0.0/29"}]]);
    for number in 0..5 {
        call_of(&node, number % 2 == 0, "ADD", &format!("c{number}"), &small).result();
    }
    let (_, text) = call_of(&node, true, "ADD", "late", &small).error();
    assert!(text.contains("5 of 5 are taken") && text.contains("10.0.0.3 by c1/eth0"), "{text}");
    assert!(!call_of(&node, false, "ADD", "late", &small).status.success());
    call_of(&node, true, "DEL", "c1", &small).result();
    assert_eq!(call_of(&node, false, "ADD", "late", &small).addresses(), ["10.0.0.3"]);
}

#[test]
fn both_at_once_keep_each_other_out() {
    let node = Node::new();
    let given: Vec<_> = thread::scope(|scope| {
        let node = &node;
        let threads: Vec<_> = (0..40)
            .map(|number| {
                scope.spawn(move || call(node, number % 2 == 0, "ADD", &format!("c{number}")).addresses())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 80, "{given:?}");
    thread::scope(|scope| {
        let node = &node;
        for number in 0..40 {
            scope.spawn(move || call(node, number % 2 == 1, "DEL", &format!("c{number}")).result());
        }
    });
    assert!(node.addresses().is_empty());
}

#[test]
fn what_was_torn_by_a_power_cut_is_no_trouble_for_either() {
    let node = Node::new();
    fs::create_dir_all(node.path("networks/pods")).unwrap();
    fs::write(node.path("networks/pods/10.0.0.2"), "").unwrap();
    assert_eq!(
        call(&node, false, "ADD", "theirs").addresses()[0],
        "10.0.0.3",
        "the reference never frees it"
    );
    assert_eq!(call(&node, true, "ADD", "ours").addresses()[0], "10.0.0.4");
    // Once around, ours takes it.
    fs::write(node.path("networks/pods/last_reserved_ip.0"), "10.0.0.254").unwrap();
    assert_eq!(call(&node, true, "ADD", "next").addresses()[0], "10.0.0.2");
}
