//! Properties of the render half: any sequence of changes leads where a fresh start with the final state leads, every
//! script is one that `iptables-restore` would take, and a second look finds nothing to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use endpoint_cache::{Change, Desired, Family, ServicePort};
use kernel::iptables::{SavedLine, Table};
use proptest::prelude::*;

use super::base::Shared;
use super::context::Context;
use super::installed::Installed;
use super::program::{Program, Resync};
use super::script::{Script, Size};
use crate::testing::{changes, plain, services, state, surroundings};

/// What a kernel that took our scripts would hold: rules by table and chain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tables(BTreeMap<(Table, String), Vec<String>>);

const BUILT_IN: [(Table, &[&str]); 3] = [
    (Table::Nat, &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    (Table::Filter, &["INPUT", "FORWARD", "OUTPUT"]),
    (Table::Mangle, &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
];

impl Tables {
    fn new() -> Self {
        let chains = BUILT_IN.iter().flat_map(|(table, chains)| chains.iter().map(|chain| (*table, *chain)));
        Self(chains.map(|(table, chain)| ((table, chain.to_owned()), Vec::new())).collect())
    }

    /// Applies a script as `iptables-restore --noflush` does.
    fn restore(&mut self, script: &Script) {
        let text = script.text();
        let mut table = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('*') {
                table = Table::ALL.into_iter().find(|table| table.as_str() == name);
            } else if line == "COMMIT" {
                self.assert_jumps_lead_somewhere(table.take().unwrap(), &text);
            } else {
                self.line(table.unwrap(), line, &text);
            }
        }
        assert_eq!(table, None, "no COMMIT:\n{text}");
    }

    fn line(&mut self, table: Table, line: &str, text: &str) {
        if let Some(chain) = line.strip_prefix(':').and_then(|line| line.strip_suffix(" - [0:0]")) {
            self.0.insert((table, chain.to_owned()), Vec::new());
            return;
        }
        let (verb, rest) = line.split_once(' ').unwrap();
        let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        let key = (table, chain.to_owned());
        if verb == "-X" {
            assert_eq!(self.0.remove(&key), Some(Vec::new()), "{line} in\n{text}");
            return;
        }
        let rules = self.0.get_mut(&key).unwrap_or_else(|| panic!("{line} in\n{text}"));
        match verb {
            "-A" => rules.push(rule.to_owned()),
            "-I" => rules.insert(0, rule.to_owned()),
            "-D" => {
                let at = rules.iter().position(|found| found == rule);
                rules.remove(at.unwrap_or_else(|| panic!("{line} in\n{text}")));
            }
            _ => panic!("{line}"),
        }
    }

    fn assert_jumps_lead_somewhere(&self, table: Table, text: &str) {
        let rules = self.0.iter().filter(|((of, _), _)| *of == table).flat_map(|(_, rules)| rules);
        for rule in rules {
            let target = rule.rsplit_once("-j ").map_or("", |(_, target)| target);
            let exists = self.0.contains_key(&(table, target.to_owned()));
            assert!(exists || !target.starts_with("KUBE-"), "{rule} leads nowhere:\n{text}");
        }
    }

    fn installed(&self) -> Installed {
        let mut installed = Installed::default();
        for ((table, chain), rules) in &self.0 {
            installed.take_in(*table, SavedLine::Chain(chain));
            rules.iter().for_each(|rule| installed.take_in(*table, SavedLine::Rule { chain, rule }));
        }
        installed
    }

    /// How many rules there are in a table.
    fn rules(&self, table: Table) -> usize {
        self.0.iter().filter(|((of, _), _)| *of == table).map(|(_, rules)| rules.len()).sum()
    }

    /// Everything but the order of rules in shared chains.
    fn meaning(&self) -> BTreeMap<(Table, String), Vec<String>> {
        let mut meaning = self.0.clone();
        for shared in Shared::ALL {
            let rules = meaning.get_mut(&(shared.table(), shared.chain().to_owned())).unwrap();
            let last = rules.last().cloned();
            rules.sort_unstable();
            // The way to node ports is the last.
            rules.extend(last.filter(|last| last.contains("NOTE: this must be the last")));
        }
        meaning
    }
}

fn context(family: Family, services: &[Arc<ServicePort>]) -> Context {
    let (settings, node) = surroundings();
    let desired =
        Desired { service_ports: services.to_vec(), node: Arc::new(node), service_cidrs: Arc::from([]) };
    Context::new(family, &settings, &desired)
}

/// A start on what there is, for what there should be.
fn start(
    tables: &Tables,
    services: &[Arc<ServicePort>],
    family: Family,
    size: Size,
) -> (Program, Vec<Script>) {
    let mut resync = Resync::new(context(family, services), tables.installed(), size);
    let mut scripts = Vec::new();
    for service in services.iter().filter(|service| service.family == family) {
        scripts.extend(resync.add(service));
    }
    let (program, rest, removals) = resync.finish();
    scripts.extend(rest.into_iter().chain(removals));
    (program, scripts)
}

fn started(services: &[Arc<ServicePort>], family: Family) -> Tables {
    let mut tables = Tables::new();
    start(&tables, services, family, Size::Any).1.iter().for_each(|script| tables.restore(script));
    tables
}

fn sizes() -> impl Strategy<Value = Size> {
    prop_oneof![Just(Size::Any), Just(Size::Pieces(0)), Just(Size::Pieces(1000)), Just(Size::AtMost(500))]
}

proptest! {
    #[test]
    fn changes_lead_where_a_fresh_start_leads(
        states in proptest::collection::vec(state(), 1..6),
        size in sizes(),
    ) {
        for family in Family::BOTH {
            let (mut held, mut tables) = (BTreeMap::new(), Tables::new());
            let (mut program, scripts) = start(&tables, &[], family, size);
            scripts.iter().for_each(|script| tables.restore(script));
            for state in &states {
                let wanted = services(state);
                let scripts = program.update(&changes(&held, &wanted), size);
                scripts.iter().for_each(|script| tables.restore(script));
                held = wanted;
                for (table, rules) in program.rules() {
                    prop_assert_eq!(rules, tables.rules(table), "{}", table);
                }
            }
            let services: Vec<_> = held.into_values().collect();
            prop_assert_eq!(tables.meaning(), started(&services, family).meaning());
            let (_, left) = start(&tables, &services, family, size);
            prop_assert_eq!(left, Vec::new(), "a restart has something to do");
        }
    }

    #[test]
    fn a_restart_repairs_whatever_it_finds(
        before in state(),
        after in state(),
        lost in proptest::collection::btree_set(0usize..60, 0..6),
        size in sizes(),
    ) {
        let family = Family::V4;
        let services_of = |state| services(state).into_values().collect::<Vec<_>>();
        let mut tables = started(&services_of(&before), family);
        // Others empty some chains, and add a rule to others.
        for (number, rules) in tables.0.values_mut().enumerate() {
            match lost.contains(&number) {
                true if number % 2 == 0 => rules.clear(),
                true => rules.push("-j ACCEPT".to_owned()),
                false => {}
            }
        }
        let (_, scripts) = start(&tables, &services_of(&after), family, size);
        scripts.iter().for_each(|script| tables.restore(script));
        let ours = |tables: &Tables| {
            let mut meaning = tables.meaning();
            meaning.retain(|(_, chain), _| chain.starts_with("KUBE-"));
            // A chain that the kubelet may have as well is only added to.
            let guard = (Table::Filter, "KUBE-FIREWALL".to_owned());
            meaning.get_mut(&guard).unwrap().retain(|rule| rule != "-j ACCEPT");
            meaning
        };
        prop_assert_eq!(ours(&tables), ours(&started(&services_of(&after), family)));
        let (_, left) = start(&tables, &services_of(&after), family, size);
        prop_assert_eq!(left, Vec::new(), "a restart has something to do");
    }
}

/// A change that is one script.
fn change(program: &mut Program, before: &Arc<ServicePort>, after: &Arc<ServicePort>) -> String {
    let change = Change { before: Some(Arc::clone(before)), after: Some(Arc::clone(after)) };
    let scripts = program.update(&[change], Size::Any);
    assert_eq!(scripts.len(), 1);
    scripts[0].text()
}

#[test]
fn one_endpoint_replaced_writes_its_chain_and_the_one_that_chooses() {
    let (before, after) = (plain([1, 2, 4]), plain([1, 2, 5]));
    let (mut program, _) = start(&Tables::new(), &[Arc::clone(&before)], Family::V4, Size::Any);
    let script = change(&mut program, &before, &after);
    let count = |prefix: &str| script.lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((count(":KUBE-SVC-"), count(":KUBE-SEP-"), count("-X KUBE-SEP-")), (1, 2, 1), "{script}");
    assert!(!script.contains("KUBE-SERVICES") && !script.contains("*filter"), "{script}");
}

#[test]
fn refusal_comes_before_translation_goes_and_goes_after_it_comes() {
    let (some, none) = (plain([1]), plain([]));
    let (mut program, _) = start(&Tables::new(), &[Arc::clone(&some)], Family::V4, Size::Any);
    let at = |script: &str, what: &str| script.find(what).unwrap_or_else(|| panic!("no {what} in\n{script}"));
    let away = change(&mut program, &some, &none);
    assert!(at(&away, "-A KUBE-SERVICES") < at(&away, "*nat"), "{away}");
    let back = change(&mut program, &none, &some);
    assert!(at(&back, "*nat") < at(&back, "-D KUBE-SERVICES"), "{back}");
}
