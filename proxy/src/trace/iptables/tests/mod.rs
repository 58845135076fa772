//! Walks on rules that were saved, and on some that others might have.

mod kernel_check;
pub(in crate::trace) mod node;
mod others;

use std::time::Duration;

use endpoint_cache::Protocol::{self, Tcp, Udp};
use proptest::prelude::*;

use super::super::model::Walk;
use super::rule::Rule;
use super::{Tables, World, evaluate, is_of_this_mode};
use node::{CLIENT, NODE, Node, POD, STRANGER, packet, places, told};

/// Rules of seven services, as `iptables-nft-save` printed them.
const SERVICES: &str = include_str!("../saved/services.txt");
/// Rules of userspace mode for one, as `iptables-legacy-save` printed them.
const USERSPACE: &str = include_str!("../saved/userspace.txt");

pub(super) fn walk_on(node: &Node, saved: &str, source: &str, to: &str, protocol: Protocol) -> Walk {
    let tables = [Tables::parse(saved)];
    evaluate(&tables, &packet(source, to, protocol), World { around: node, kept: node }).unwrap()
}

fn walk(source: &str, to: &str) -> Walk {
    let walk = walk_on(&Node::default(), SERVICES, source, to, Tcp);
    assert_eq!(walk.unknown, [""; 0]);
    walk
}

#[test]
fn endpoints_have_equal_shares() {
    let found = walk(POD, "10.96.0.10:80");
    // A pod that comes back to itself is masqueraded.
    assert_eq!(
        told(&found),
        ["0.333 10.0.1.1:8080 masqueraded", "0.333 10.0.1.2:8080", "0.333 10.0.2.1:8080"]
    );
    assert!(found.ways.iter().all(|way| (way.share - 1.0 / 3.0).abs() < 1e-12), "{:?}", found.ways);
    let expected = ["PREROUTING", "KUBE-SERVICES", "KUBE-SVC-LMXJQHF5YEOPR6CJ", "KUBE-SEP-FUDHDCL65NMD6BDX"];
    assert_eq!(places(&found, 1), expected);
    let last = &found.ways[1].steps[3].what;
    assert!(last.ends_with("-j DNAT --to-destination 10.0.1.2:8080"), "{last}");
}

#[test]
fn who_is_no_pod_is_masqueraded() {
    let found = walk(NODE, "10.96.0.12:80");
    assert_eq!(told(&found), ["1.000 10.0.2.1:8080 masqueraded"]);
    assert_eq!(places(&found, 0)[0], "OUTPUT");
    assert_eq!(places(&found, 0)[6..], ["POSTROUTING", "KUBE-POSTROUTING", "KUBE-POSTROUTING"]);
    assert_eq!(told(&walk(STRANGER, "10.96.0.12:80")), ["1.000 10.0.2.1:8080 masqueraded"]);
}

#[test]
fn services_without_endpoints_refuse() {
    for source in [POD, NODE, CLIENT] {
        let found = walk(source, "10.96.0.11:80");
        assert_eq!(told(&found), ["1.000 Rejected"]);
        let built_in = if source == NODE { "filter OUTPUT" } else { "filter FORWARD" };
        assert_eq!(places(&found, 0), [built_in, "filter KUBE-SERVICES"]);
        assert_eq!(told(&walk(source, "192.168.1.5:30081")), ["1.000 Rejected"]);
        assert_eq!(told(&walk(source, "10.96.0.15:80")), ["1.000 Dropped"]);
    }
}

#[test]
fn policy_local_keeps_outsiders_to_this_node() {
    assert_eq!(told(&walk(CLIENT, "192.168.1.5:30082")), ["1.000 Dropped"]);
    assert_eq!(told(&walk(POD, "192.168.1.5:30082")), ["1.000 10.0.2.1:8080"]);
    assert_eq!(told(&walk(NODE, "192.168.1.5:30082")), ["1.000 10.0.2.1:8080 masqueraded"]);
    for to in ["203.0.113.6:80", "192.168.1.5:30084"] {
        assert_eq!(told(&walk(CLIENT, to)), ["0.500 10.0.1.1:8080", "0.500 10.0.1.2:8080"]);
        assert_eq!(walk(POD, to).ways.len(), 3);
    }
}

#[test]
fn source_ranges_keep_others_away() {
    assert_eq!(told(&walk(CLIENT, "203.0.113.5:80")), ["1.000 10.0.1.1:8080 masqueraded"]);
    let found = walk(STRANGER, "203.0.113.5:80");
    assert_eq!(told(&found), ["1.000 Dropped"]);
    assert_eq!(places(&found, 0), ["filter FORWARD", "filter KUBE-PROXY-FIREWALL"]);
    // The chain that let nobody in is not spoken of, and the node port is for everybody.
    assert_eq!(told(&walk(STRANGER, "192.168.1.5:30083")), ["1.000 10.0.1.1:8080 masqueraded"]);
}

#[test]
fn what_no_service_has_goes_on() {
    for (source, to) in [(POD, "10.96.0.10:81"), (NODE, "192.168.1.5:22"), (CLIENT, "10.0.1.1:8080")] {
        let found = walk(source, to);
        assert_eq!((told(&found), places(&found, 0).len()), (vec!["1.000 on".to_owned()], 0));
    }
    let udp = walk_on(&Node::default(), SERVICES, POD, "10.96.0.10:80", Udp);
    assert_eq!(told(&udp), ["1.000 on"]);
}

#[test]
fn clients_come_back_to_where_they_were() {
    const SECOND: &str = "KUBE-SEP-FVSN5GY4BCHTOH2R";
    let mut node = Node::default();
    let dns = |node: &Node| told(&walk_on(node, SERVICES, CLIENT, "10.96.0.53:53", Udp));
    let spread = ["0.500 10.0.1.1:8080 masqueraded", "0.500 10.0.1.2:8080 masqueraded"];
    assert_eq!(dns(&node), spread);
    let mut seen = |seconds| {
        node.seen.insert((SECOND.to_owned(), CLIENT.parse().unwrap()), Duration::from_secs(seconds));
        dns(&node)
    };
    assert_eq!(seen(599), ["1.000 10.0.1.2:8080 masqueraded"]);
    assert_eq!(seen(600), spread);
}

#[test]
fn userspace_mode_leads_to_the_forwarder() {
    let forwarder = "169.254.112.77".parse().unwrap();
    let node = Node { more: vec![forwarder], ..Node::default() };
    let walk = |source, to| {
        let found = walk_on(&node, USERSPACE, source, to, Tcp);
        assert_eq!(found.unknown, [""; 0]);
        told(&found)
    };
    assert_eq!(walk(POD, "10.96.0.10:80"), ["1.000 169.254.112.77:30105"]);
    assert_eq!(walk(POD, "169.254.112.77:30105"), ["1.000 Dropped"]);
    assert_eq!(walk(NODE, "169.254.112.77:30105"), ["1.000 on"]);
}

#[test]
fn the_modes_are_told_apart() {
    assert!(is_of_this_mode(&Tables::parse(SERVICES)) && is_of_this_mode(&Tables::parse(USERSPACE)));
    assert!(!is_of_this_mode(&Tables::parse("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODE-PORT - [0:0]")));
    assert!(!is_of_this_mode(&Tables::parse("*filter\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]")));
}

/// Words that mean something, in any order.
fn words() -> impl Strategy<Value = String> {
    let mut known: Vec<&str> = SERVICES.split_whitespace().collect();
    known.extend(
        "! -g -f -o lo -m set --match-set x dst,src --mark 0x1/ --every 0 --probability NaN \" \\".split(' '),
    );
    prop::collection::vec(prop::sample::select(known), 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(lines in prop::collection::vec(prop_oneof!["\\PC*", words()], 0..8)) {
        for line in &lines {
            let rule = Rule::parse(line);
            prop_assert!(rule.matches.len() <= line.len());
        }
        let rules: String = lines.iter().map(|line| format!("-A PREROUTING {line}\n{line}\n")).collect();
        let text = format!("*nat\n:PREROUTING ACCEPT [0:0]\n{rules}");
        let found = walk_on(&Node::default(), &text, POD, "10.96.0.10:80", Tcp);
        told(&found);
    }
}
