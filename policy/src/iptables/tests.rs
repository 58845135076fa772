//! What is written, by example, and by comparison of what deltas lead to with what is asked for as a whole.

use std::collections::{BTreeMap, BTreeSet};

use endpoint_cache::Family;
use kernel::ipset::Entry;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::names::{FORWARD, Way};
use super::plan::Plan;
use super::rules::{Style, hooks};
use super::script::Script;
use super::whole::Whole;
use crate::generations::Generations;
use crate::settings::{Denied, Settings, UnknownPods};
use crate::{Compiler, Update};

fn apply(compiler: &mut Compiler, kind: &str, object: Value) {
    let update = match kind {
        "pod" => Update::Pod(serde_json::from_value(object).unwrap()),
        "namespace" => Update::Namespace(serde_json::from_value(object).unwrap()),
        "policy" => Update::NetworkPolicy(serde_json::from_value(object).unwrap()),
        _ => Update::Node(serde_json::from_value(object).unwrap()),
    };
    compiler.apply(update);
}

fn pod(name: &str, node: &str, app: &str, ips: &[&str]) -> Value {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({ "metadata": { "name": name, "labels": { "app": app } },
        "spec": { "nodeName": node, "containers": [{ "ports": [{ "name": "http", "containerPort": 80 }] }] },
        "status": { "phase": "Running", "podIPs": ips } })
}

/// What the kernel would hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    /// Rules in alphabetical order: those that lead to judges may stand in any.
    chains: BTreeMap<String, Vec<String>>,
    sets: BTreeMap<String, BTreeSet<Entry>>,
}

impl Model {
    fn of(whole: Whole) -> Self {
        let chains = whole.chains.into_iter().map(|(chain, mut rules)| {
            rules.sort_unstable();
            (chain, rules)
        });
        let sets = whole.sets.into_iter().map(|set| (set.set.name, set.entries));
        Self { chains: chains.collect(), sets: sets.collect() }
    }

    /// In the order in which it is done; what is there must be, and what is not must not.
    fn carry_out(&mut self, plan: Plan) {
        for set in plan.new_sets {
            assert!(self.sets.insert(set.set.name, set.entries).is_none(), "it is there already");
        }
        for edit in &plan.narrowing {
            self.edit(edit);
        }
        self.run(&plan.script);
        for edit in &plan.widening {
            self.edit(edit);
        }
        for set in plan.old_sets {
            let mentioned = self.chains.values().flatten().any(|rule| rule.contains(&set));
            assert!(!mentioned, "a rule refers to {set}");
            self.sets.remove(&set).unwrap();
        }
    }

    fn edit(&mut self, edit: &kernel::ipset::Edit) {
        let set = self.sets.get_mut(&*edit.set).unwrap();
        let changed = if edit.add { set.insert(edit.entry) } else { set.remove(&edit.entry) };
        assert!(changed, "{edit} changes nothing");
    }

    fn run(&mut self, script: &Script) {
        for line in script.text().lines() {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            match verb {
                "-A" => {
                    let rules = self.chains.get_mut(chain).unwrap();
                    rules.insert(rules.partition_point(|found| &**found < rule), rule.to_owned());
                }
                "-D" => {
                    let rules = self.chains.get_mut(chain).unwrap();
                    rules.remove(rules.iter().position(|found| found == rule).unwrap());
                }
                "-X" => assert_eq!(self.chains.remove(chain), Some(Vec::new()), "{line}"),
                verb if verb.starts_with(':') => {
                    drop(self.chains.insert(verb[1..].to_owned(), Vec::new()));
                }
                _ => {}
            }
        }
        for rule in self.chains.values().flatten() {
            let mut words = rule.split(' ');
            if let Some(target) = words.find(|word| *word == "-j").and(words.next())
                && target.starts_with("KUBE-")
                && target != FORWARD
            {
                assert!(self.chains.contains_key(target), "{rule} leads nowhere");
            }
        }
    }
}

/// A change of one of few objects, so that they meet.
fn any_change() -> impl Strategy<Value = (&'static str, Value)> {
    const APPS: [&str; 3] = ["web", "db", "none"];
    let app = (0..3_usize).prop_map(|number| APPS[number]);
    let selector =
        prop_oneof![Just(json!({})), app.clone().prop_map(|app| json!({ "matchLabels": { "app": app } })),];
    let peers = prop_oneof![
        Just(json!([])),
        selector.clone().prop_map(|pods| json!([{ "podSelector": pods }])),
        selector.clone().prop_map(|labels| json!([{ "namespaceSelector": labels }])),
        (0..3_u8).prop_map(|n| {
            let except = &["10.1.2.0/24"][..usize::from(n == 1)];
            json!([{ "ipBlock": { "cidr": format!("10.{n}.0.0/16"), "except": except } }])
        }),
        Just(json!([{ "ipBlock": { "cidr": "::/0" } }])),
    ];
    let ports = prop_oneof![
        Just(json!([])),
        Just(json!([{ "port": "http" }])),
        (1..5_u16).prop_map(|port| json!([{ "port": port, "endPort": 7 }, { "protocol": "UDP" }])),
    ];
    let pods = (0..6_u8, any::<bool>(), app).prop_map(|(n, here, app)| {
        let ips = [format!("10.0.0.{n}"), format!("fd00::{n}")];
        let node = if here { "node" } else { "peer" };
        ("pod", pod(&format!("pod-{n}"), node, app, &[&ips[0], &ips[1]]))
    });
    let policies =
        (0..4_u8, selector, peers, ports, any::<bool>()).prop_map(|(n, subjects, peers, ports, both)| {
            let types = if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            (
                "policy",
                json!({ "metadata": { "name": format!("policy-{n}") }, "spec": {
            "podSelector": subjects, "policyTypes": types,
            "ingress": [{ "from": peers, "ports": ports }], "egress": [{ "to": peers }] } }),
            )
        });
    let node = (0..3_u8).prop_map(|n| {
        let ranges = [format!("10.{n}.0.0/16"), "fd00::/64".to_owned(), "0.0.0.0/0".to_owned()];
        (
            "node",
            json!({ "metadata": { "name": "node" }, "spec": { "podCIDRs": &ranges[..=usize::from(n)] } }),
        )
    });
    prop_oneof![4 => pods, 3 => policies, 1 => node]
}

proptest! {
    #[test]
    fn deltas_lead_to_what_is_asked_for_as_a_whole(
        batches in prop::collection::vec(prop::collection::vec(any_change(), 1..5), 1..8),
    ) {
        let settings = Settings::default();
        for family in Family::BOTH {
            let style = Style { family, settings: &settings };
            let mut compiler = Compiler::new("node");
            apply(&mut compiler, "namespace", json!({ "metadata": { "name": "default", "labels": { "app": "web" } } }));
            compiler.take_delta();
            let mut model = Model::of(Whole::new(compiler.program(), &style).unwrap());
            for batch in &batches {
                for (kind, object) in batch {
                    apply(&mut compiler, kind, object.clone());
                }
                let delta = compiler.take_delta();
                model.carry_out(Plan::of(&delta, compiler.program(), &style).unwrap());
                prop_assert_eq!(&model, &Model::of(Whole::new(compiler.program(), &style).unwrap()));
            }
        }
    }
}

fn example(settings: &Settings, family: Family) -> Whole {
    let mut compiler = Compiler::new("node");
    apply(&mut compiler, "pod", pod("a", "node", "web", &["10.0.0.1", "fd00::1"]));
    let rules = json!([{ "from": [{ "podSelector": {} }], "ports": [{ "port": 80 }, { "port": "http" }] },
        { "from": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }], "ports": [{ "port": 5, "endPort": 9, "protocol": "UDP" }] }]);
    apply(
        &mut compiler,
        "policy",
        json!({ "metadata": { "name": "p" }, "spec": { "podSelector": {}, "ingress": rules } }),
    );
    compiler.take_delta();
    Whole::new(compiler.program(), &Style { family, settings }).unwrap()
}

/// The rules of the chains whose names begin so, with hashes left out.
fn chain(whole: &Whole, prefix: &str) -> Vec<String> {
    let blank = |rule: &String| {
        let words = rule.split(' ').map(|word| match word.rsplit_once('-') {
            Some((stem, hash)) if hash.len() == 16 && word.starts_with("KUBE-") => format!("{stem}-#"),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let found = whole.chains.iter().filter(|(name, _)| name.starts_with(prefix));
    found.flat_map(|(_, rules)| rules.iter().map(blank)).collect()
}

#[test]
fn a_policy_has_a_rule_for_each_clause() {
    let whole = example(&Settings::default(), Family::V4);
    assert_eq!(
        chain(&whole, "KUBE-NWPLCY-"),
        [
            "-p tcp -m comment --comment \"default/p spec.ingress[0]\" -m tcp --dport 80 -m set --match-set KUBE-NP4-# \
             src -g KUBE-POLICY-ALLOW",
            "-m comment --comment \"default/p spec.ingress[0]\" -m set --match-set KUBE-NP4-# dst,dst -m set --match-set \
             KUBE-NP4-# src -g KUBE-POLICY-ALLOW",
            "-p udp -m comment --comment \"default/p spec.ingress[1]\" -m udp --dport 5:9 -m set --match-set KUBE-NP4-# \
             src -g KUBE-POLICY-ALLOW",
        ]
    );
    let replies = chain(&whole, "KUBE-NWPLCR-");
    assert!(replies[0].contains("--sport 80 -m set --match-set KUBE-NP4-# dst "), "{replies:#?}");
    assert!(replies[1].contains(" src,src ") && replies[1].contains(" dst -g"), "{replies:#?}");
    // The block is of the other family.
    assert_eq!(chain(&example(&Settings::default(), Family::V6), "KUBE-NWPLCY-").len(), 2);
}

#[test]
fn a_profile_asks_its_policies_and_denies() {
    let settings = Settings { log_denied: true, ..Settings::default() };
    let whole = example(&settings, Family::V4);
    let rules = chain(&whole, "KUBE-POD-FW-");
    assert_eq!(
        rules[..3],
        [
            "-j MARK --set-xmark 0x0/0x10000",
            "-m comment --comment \"default/p\" -j KUBE-NWPLCY-#",
            "-m mark --mark 0x10000/0x10000 -j RETURN",
        ]
    );
    assert!(
        rules[3].contains("--limit 50/sec") && rules[3].contains("--nflog-prefix \"policy/ingress/"),
        "{rules:#?}"
    );
    assert!(rules[4].ends_with("-j KUBE-POLICY-DENY"), "{rules:#?}");
    for (way, end) in [(Way::Original, "dst"), (Way::Reply, "src")] {
        let last = chain(&whole, way.dispatch()).pop().unwrap();
        assert!(last.starts_with(&format!("-m set --match-set KUBE-NP4-# {end} -j KUBE-POD-F")), "{last}");
    }
}

#[test]
fn what_is_denied_meets_what_was_asked_for() {
    let deny = |settings: &Settings, family| chain(&example(settings, family), "KUBE-POLICY-DENY");
    let reject = deny(&Settings::default(), Family::V6);
    assert_eq!(
        reject[1..],
        ["-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT --reject-with icmp6-port-unreachable"]
    );
    let drop = Settings { denied: Denied::Drop, ..Settings::default() };
    assert_eq!(deny(&drop, Family::V4), ["-j DROP"]);
    let audit = Settings { audit: true, unknown_pods: UnknownPods::Allow, ..Settings::default() };
    assert_eq!(deny(&audit, Family::V4), [""; 0]);
    let unknown = chain(&example(&audit, Family::V4), "KUBE-POLICY-UNKNOWN");
    assert!(unknown[0].contains("policy/unknown") && unknown[1].ends_with("-j RETURN"), "{unknown:#?}");
    assert_eq!(chain(&example(&audit, Family::V4), "KUBE-POLICY-ORIGINAL").len(), 2);
}

#[test]
fn a_script_writes_then_leads_then_removes() {
    let mut script = Script::default();
    script.remove("OLD".to_owned());
    script.hook();
    script.delete("A", "-j OLD");
    script.about("a \"line\"\nand another");
    script.write(FORWARD, &["-j RETURN".to_owned()]);
    let [bridged, routed, output] = hooks().map(|(chain, rule)| format!("-I {chain} {rule}"));
    assert_eq!(
        script.text(),
        format!(
            "*filter\n:KUBE-POLICY-FORWARD - [0:0]\n# a _line__and another\n-A KUBE-POLICY-FORWARD -j RETURN\n\
             # how packets come to network policies\n{output}\n{routed}\n{bridged}\n-D A -j OLD\n:OLD - [0:0]\n-X OLD\nCOMMIT\n"
        )
    );
    assert_eq!(script.operations(), 7);
}

#[test]
fn neighbours_are_found_whatever_the_policies() {
    let settings = Settings::default();
    let forward =
        |family| Style { family, settings: &settings }.forward(&Generations::only(settings.mark_mask, 1));
    let discovery = "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN".to_owned();
    let (v4, v6) = (forward(Family::V4), forward(Family::V6));
    assert!(v6.contains(&discovery) && !v4.contains(&discovery));
    assert_eq!(v4.len() + 5, v6.len());
    assert_eq!(v4.last().unwrap(), "-j CONNMARK --set-xmark 0x10000/0xfff0000");
}
