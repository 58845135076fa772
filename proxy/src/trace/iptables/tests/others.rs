//! Rules that are not ours: what is understood of them, and what is said of those that are not.

use endpoint_cache::Protocol::Tcp;

use super::node::{CLIENT, NODE, Node, POD, places, told};
use super::walk_on;
use crate::trace::model::Walk;

const TO: &str = "10.96.0.10:80";

/// Walks from a client outside on rules of a table, all of whose chains of the kernel's own accept.
fn walk(table: &str, rules: &str) -> Walk {
    walk_on(&Node::default(), &format!("*{table}\n{rules}"), CLIENT, TO, Tcp)
}

/// Whether a rule that drops matches what comes from outside.
fn drops(matches: &str) -> bool {
    let found = walk("filter", &format!("-A FORWARD {matches} -j DROP"));
    assert_eq!(found.unknown, [""; 0], "{matches}");
    told(&found) == ["1.000 Dropped"]
}

#[test]
fn matches_hold_or_do_not() {
    for (matches, expected) in [
        ("", true),
        ("-s 192.0.2.0/24 -d 10.96.0.10", true),
        ("! -s 192.0.2.0/24", false),
        ("-i eth0 -o eth0", true),
        ("-i eth+ ! -o veth+", true),
        ("! -i eth0", false),
        ("-p tcp -m tcp --dport 79:80", true),
        ("-p tcp -m tcp ! --dport 80", false),
        ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", true),
        ("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", false),
        ("-p tcp -m tcp --tcp-flags FIN,ACK FIN,ACK", false),
        ("-p tcp -m multiport --dports 443,70:90", true),
        ("-p tcp -m multiport ! --dports 443,70:90", false),
        ("-p tcp -m multiport --sports 1:1023", false),
        ("-p tcp -m tcp --sport 1024:65535", true),
        ("-p udp", false),
        ("-p icmp -m icmp --icmp-type 8", false),
        ("-p 6", true),
        ("-m conntrack --ctstate NEW,RELATED", true),
        ("-m conntrack ! --ctstate RELATED,ESTABLISHED", true),
        ("-m conntrack --ctstate DNAT", false),
        (
            "-m conntrack --ctstate NEW --ctdir ORIGINAL --ctproto tcp --ctorigdst 10.96.0.0/12 --ctorigdstport 80",
            true,
        ),
        ("-m state --state INVALID", false),
        ("-m addrtype --src-type LOCAL", false),
        ("-m addrtype --dst-type UNICAST,LOCAL", true),
        ("-m addrtype ! --dst-type LOCAL", true),
        ("-m mark --mark 0x4000/0x4000", false),
        ("-m mark ! --mark 0x4000/0x4000", true),
        ("-m connmark --mark 0x0/0xff", true),
        ("-m iprange --src-range 192.0.2.1-192.0.2.9", true),
        ("-m iprange ! --src-range 192.0.2.1-192.0.2.9", false),
        ("-m physdev --physdev-is-bridged", false),
        ("-m comment --comment -j", true),
        ("-f", false),
    ] {
        assert_eq!(drops(matches), expected, "{matches}");
    }
}

#[test]
fn what_is_not_understood_is_told_and_does_not_match() {
    for (rule, what) in [
        ("-m hashlimit --hashlimit-upto 5/sec -j DROP", "-m hashlimit --hashlimit-upto 5/sec"),
        ("-p tcp -m tcp --tcp-option 5 -j DROP", "-m tcp --tcp-option 5"),
        ("-s 10.0.0.0/255.0.255.0 -j DROP", "-s 10.0.0.0/255.0.255.0"),
        ("-p tcp -m tcp --sport 40000 -j DROP", "the client's port"),
        ("-m set --match-set gone src -j DROP", "--match-set gone"),
        ("-j NFQUEUE --queue-num 1", "-j NFQUEUE --queue-num 1"),
        ("-j GONE", "-j GONE"),
    ] {
        let found = walk("filter", &format!("-A FORWARD {rule}"));
        assert_eq!(told(&found), ["1.000 on"], "{rule}");
        let [sentence] = found.unknown.as_slice() else { panic!("{rule}: {:?}", found.unknown) };
        let place = "filter FORWARD: a rule is not understood";
        assert!(sentence.starts_with(&format!("{place} ({what})")) && sentence.ends_with(rule), "{sentence}");
    }
    // Where the rest of a rule does not match, or it does nothing anyway, nobody needs to know.
    for rule in ["-p udp -m hashlimit --hashlimit-upto 5/sec -j DROP", "-m limit --limit 3/min -j LOG"] {
        assert_eq!(walk("filter", &format!("-A FORWARD {rule}")).unknown, [""; 0]);
    }
    let foreign = walk("", "# Table `nat' is incompatible, use 'nft' tool.");
    assert_eq!(foreign.unknown, ["Table `nat' is incompatible, use 'nft' tool. It is passed over."]);
}

#[test]
fn policies_hold_where_no_rule_decides() {
    let found = walk("filter", ":FORWARD DROP [0:0]\n-A FORWARD -p udp -j ACCEPT");
    assert_eq!((told(&found), places(&found, 0)), (vec!["1.000 Dropped".to_owned()], vec!["filter FORWARD"]));
    let rules = ":FORWARD DROP [0:0]\n-A FORWARD -j A\n-A A -p tcp -j ACCEPT";
    assert_eq!(told(&walk("filter", rules)), ["1.000 on"]);
    let rules = ":FORWARD DROP [0:0]\n-A FORWARD -j RETURN\n-A FORWARD -j ACCEPT";
    assert_eq!(told(&walk("filter", rules)), ["1.000 Dropped"]);
}

#[test]
fn chains_are_come_back_from_unless_they_are_gone_to() {
    let rules = "-A FORWARD -j A\n-A FORWARD -j REJECT\n-A A -j B\n-A A -j DROP\n-A B -j RETURN";
    assert_eq!(told(&walk("filter", rules)), ["1.000 Dropped"]);
    let gone_to = rules.replace("-A A -j B", "-A A -g B");
    let found = walk("filter", &gone_to);
    assert_eq!(
        (told(&found), places(&found, 0)),
        (vec!["1.000 Rejected".to_owned()], vec!["filter FORWARD"])
    );
    // What the kernel does not allow does no harm.
    let found = walk("filter", "-A FORWARD -j A\n-A A -j A");
    assert_eq!((told(&found), found.unknown.len()), (vec!["1.000 on".to_owned()], 1));
}

#[test]
fn marks_go_with_packet_and_connection() {
    let rules = "\
        -A PREROUTING -j MARK --set-xmark 0x80/0xff\n\
        -A PREROUTING -j CONNMARK --save-mark --nfmask 0xf0 --ctmask 0xff\n\
        -A PREROUTING -j MARK --set-xmark 0x3/0xffffffff\n\
        -A FORWARD -m mark --mark 0x3 -m connmark --mark 0x80 -j CONNMARK --set-xmark 0x1/0x1\n\
        -A FORWARD -j CONNMARK --restore-mark --nfmask 0xf0 --ctmask 0xff\n\
        -A FORWARD -m mark --mark 0x82 -j DROP";
    let found = walk("mangle", rules);
    assert_eq!((told(&found), found.unknown.len()), (vec!["1.000 Dropped".to_owned()], 0));
}

#[test]
fn translations_by_others_count() {
    let dnat = "-A PREROUTING -p tcp -j DNAT --to-destination :8080\n-A PREROUTING -j DROP";
    assert_eq!(told(&walk("nat", dnat)), ["1.000 10.96.0.10:8080"]);
    let untracked = format!(
        "{dnat}\n*raw\n-A PREROUTING -j CT --notrack\n*filter\n-A FORWARD -m conntrack ! --ctstate UNTRACKED -j DROP"
    );
    assert_eq!(told(&walk("nat", &untracked)), ["1.000 on"]);
    let snat = "-A POSTROUTING ! -o docker0 -j MASQUERADE";
    assert_eq!(told(&walk("nat", snat)), ["1.000 on masqueraded"]);
    let ranges = walk("nat", "-A PREROUTING -j DNAT --to-destination 10.0.0.1-10.0.0.9");
    assert_eq!((told(&ranges), ranges.unknown.len()), (vec!["1.000 on".to_owned()], 1));
}

#[test]
fn what_the_node_sends_itself_comes_in_by_lo() {
    let rules = "*filter\n-A INPUT -i lo -j DROP\n-A OUTPUT -o lo -p udp -j DROP";
    let walk = |source| told(&walk_on(&Node::default(), rules, source, "192.168.1.5:22", Tcp));
    assert_eq!(walk(NODE), ["1.000 Dropped"]);
    assert_eq!(walk(POD), ["1.000 on"]);
}

#[test]
fn chance_is_divided_as_the_rules_say() {
    let to = |port| format!("-j DNAT --to-destination 10.0.1.{port}:80");
    let nth = format!(
        "-A PREROUTING -m statistic --mode nth --every 4 --packet 0 {}\n-A PREROUTING {}",
        to(1),
        to(2)
    );
    assert_eq!(told(&walk("nat", &nth)), ["0.250 10.0.1.1:80", "0.750 10.0.1.2:80"]);
    let not = format!(
        "-A PREROUTING -m statistic --mode random ! --probability 0.20000000019 {}\n-A PREROUTING {}",
        to(1),
        to(2)
    );
    assert_eq!(told(&walk("nat", &not)), ["0.800 10.0.1.1:80", "0.200 10.0.1.2:80"]);
    // Each of many has the same, and one that is there twice has twice as much.
    let many: String = (0..200)
        .map(|n| {
            let chance = (2_147_483_648.0 / f64::from(200 - n)).round() / 2_147_483_648.0;
            format!("-A PREROUTING -m statistic --mode random --probability {chance:.11} {}\n", to(n.max(1)))
        })
        .collect();
    let found = walk("nat", &many);
    assert_eq!(found.ways.len(), 199);
    assert!(found.ways[1..].iter().all(|way| (way.share - 0.005).abs() < 1e-12), "{:?}", found.ways);
    assert!((found.ways[0].share - 0.01).abs() < 1e-12);
}

#[test]
fn too_many_ways_are_told_of() {
    let rule = "-A FORWARD -m statistic --mode random --probability 0.5 -j MARK --set-xmark 0x1/0x0\n";
    let found = walk("filter", &rule.repeat(20));
    assert_eq!((told(&found), found.unknown.len()), (vec!["1.000 on".to_owned()], 1));
}
