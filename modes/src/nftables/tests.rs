//! Properties of the render half: any sequence of changes leads where a fresh start with the final state leads, every
//! transaction is one that the kernel would take, and a second look finds nothing to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use endpoint_cache::{Change, Family, ServicePort};
use kernel::nft::{Bytes, Data, Element, Rule, Verdict};
use proptest::prelude::*;

use super::base;
use super::found::Found;
use super::layout::SetName;
use super::numbers::Numbers;
use super::ops::{InstalledElements, Leftovers, Ops};
use super::program::{PlacedEndpoints, Program};
use crate::context::{Context, Unset};
use crate::testing::{changes, plain, services, state, surroundings};

const NO_LIMIT: usize = usize::MAX;

/// The maps that hold numbers of chains, and those that turn them into verdicts.
const NUMBERS: [(SetName, SetName); 4] = [
    (SetName::ServiceIps, SetName::Picks),
    (SetName::ServiceNodePorts, SetName::Picks),
    (SetName::LocalPolicyIps, SetName::LocalPolicyPicks),
    (SetName::LocalPolicyNodePorts, SetName::LocalPolicyPicks),
];

/// What a kernel that took our transactions would hold.
#[derive(Clone, Default)]
struct Table {
    elements: HashMap<SetName, HashMap<(Bytes, Option<Bytes>), Element>>,
    chains: BTreeMap<String, Vec<Rule>>,
}

impl Table {
    /// Applies both transactions under the kernel's rules.
    fn commit(&mut self, ops: &Ops) {
        for (name, rules) in ops.chains() {
            self.chains.insert(name.to_owned(), rules.to_vec());
        }
        self.commit_sets(ops, SetName::leads_to_chains);
        self.commit_sets(ops, |set| !set.leads_to_chains());
    }

    fn commit_sets(&mut self, ops: &Ops, wanted: impl Fn(SetName) -> bool) {
        for (set, element) in ops.removed().filter(|(set, _)| wanted(*set)) {
            self.remove(set, element);
        }
        for (set, element) in ops.added().filter(|(set, _)| wanted(*set)) {
            let key = (element.key.clone(), element.key_end.clone());
            let before = self.elements.entry(set).or_default().insert(key, element.clone());
            assert!(before.is_none(), "added to {} over {before:?}: {element:?}", set.as_str());
        }
        self.assert_nothing_leads_nowhere();
    }

    fn remove(&mut self, set: SetName, element: &Element) {
        let elements = self.elements.get_mut(&set).expect("a set that holds elements");
        let removed = elements.remove(&(element.key.clone(), element.key_end.clone()));
        assert!(removed.is_some(), "removed from {} what was not there: {element:?}", set.as_str());
    }

    /// Removes what is without use.
    fn tidy(&mut self, program: &mut Program) {
        let Leftovers { chains, leads } = program.unused().leftovers;
        leads.iter().for_each(|(set, lead)| self.remove(*set, lead));
        chains.iter().for_each(|chain| assert!(self.chains.remove(chain).is_some(), "no chain {chain}"));
        program.forget_unused();
        self.assert_nothing_leads_nowhere();
    }

    /// As it would be read.
    fn found(&self) -> InstalledElements {
        let found = |elements: &HashMap<_, Element>| Found::new(elements.values().cloned().collect());
        self.elements.iter().map(|(set, elements)| (*set, found(elements))).collect()
    }

    fn elements(&self, set: SetName) -> impl Iterator<Item = &Element> {
        self.elements.get(&set).into_iter().flat_map(HashMap::values)
    }

    fn assert_nothing_leads_nowhere(&self) {
        for (set, element) in self.elements.keys().flat_map(|set| self.elements(*set).map(move |e| (set, e)))
        {
            if let Data::Verdict(Verdict::Goto(chain)) = &element.data {
                assert!(
                    set.leads_to_chains(),
                    "a verdict in {} costs a check of the whole table",
                    set.as_str()
                );
                assert!(self.chains.contains_key(chain), "{element:?} leads nowhere");
            }
        }
        for (set, _) in NUMBERS {
            self.elements(set).for_each(|element| drop(self.chain_of(set, element)));
        }
    }

    /// The chain that an element's number leads to.
    fn chain_of(&self, set: SetName, element: &Element) -> String {
        let (_, picks) = NUMBERS.into_iter().find(|(map, _)| *map == set).unwrap();
        let Data::Value(number) = &element.data else { panic!("no number in {element:?}") };
        let lead = self.elements(picks).find(|lead| lead.key == *number);
        match lead.map(|lead| &lead.data) {
            Some(Data::Verdict(Verdict::Goto(chain))) => chain.clone(),
            lead => panic!("{element:?} leads to {lead:?}"),
        }
    }

    /// Everything but the order of endpoints in slots, the numbers of chains, and chains without use.
    fn meaning(&self) -> BTreeSet<String> {
        let slots = [
            SetName::Endpoints,
            SetName::LocalEndpoints,
            SetName::NodePortEndpoints,
            SetName::LocalNodePortEndpoints,
        ];
        let describe = |set: SetName, element: &Element| match slots.contains(&set) {
            true => {
                let frontend = element.key.split_last_chunk::<4>().map(|(frontend, _)| frontend);
                format!("{} {frontend:?} {:?}", set.as_str(), element.data)
            }
            false if NUMBERS.into_iter().any(|(map, _)| map == set) => {
                format!("{} {:?} {}", set.as_str(), element.key, self.chain_of(set, element))
            }
            false => format!("{} {element:?}", set.as_str()),
        };
        let elements = self.elements.iter().filter(|(set, _)| !set.leads_to_chains());
        elements.flat_map(|(set, elements)| elements.values().map(|item| describe(*set, item))).collect()
    }
}

fn context(family: Family) -> Context {
    let (settings, node) = surroundings();
    Context::new(family, &settings, &node, &Arc::from([]), Unset::Primary)
}

/// A start on what a table holds, for what it should hold.
fn start(table: &Table, services: &[Arc<ServicePort>], family: Family) -> (Program, Ops) {
    let fingerprints = |rules: &Vec<Rule>| rules.iter().map(|rule| Some(rule.fingerprint())).collect();
    let chains = table.chains.iter().map(|(name, rules)| (name.clone(), fingerprints(rules))).collect();
    let found = table.found();
    let placed = PlacedEndpoints::read(&found, family);
    let mut program = Program::new(context(family), Numbers::read(&found));
    let mut ops = Ops::against(found, chains);
    for (chain, rules) in base::chains(&context(family)) {
        ops.write_chain(chain, rules);
    }
    for service in services.iter().filter(|service| service.family == family) {
        program.add(service, &placed, &mut ops);
    }
    program.add_unused(ops.remove_unwanted(), Vec::new());
    (program, ops)
}

proptest! {
    #[test]
    fn changes_lead_where_a_fresh_start_leads(states in proptest::collection::vec(state(), 1..6)) {
        for family in [Family::V4, Family::V6] {
            let mut held = BTreeMap::new();
            let mut table = Table::default();
            let (mut program, ops) = start(&table, &[], family);
            table.commit(&ops);
            for state in &states {
                let wanted = services(state);
                for ops in program.update(&changes(&held, &wanted), NO_LIMIT) {
                    table.commit(&ops);
                }
                held = wanted;
            }
            let services: Vec<_> = held.into_values().collect();
            let mut fresh = Table::default();
            fresh.commit(&start(&fresh, &services, family).1);
            prop_assert_eq!(table.meaning(), fresh.meaning());
            table.tidy(&mut program);
            prop_assert_eq!(&table.chains, &fresh.chains);
            let leads = |table: &Table| [SetName::Picks, SetName::LocalPolicyPicks].map(|set| table.elements(set).count());
            prop_assert_eq!(leads(&table), leads(&fresh));
        }
    }

    #[test]
    fn a_restart_finds_nothing_to_do(states in proptest::collection::vec(state(), 1..4)) {
        let family = Family::V4;
        let mut table = Table::default();
        let (mut program, ops) = start(&table, &[], family);
        table.commit(&ops);
        let mut held = BTreeMap::new();
        for state in &states {
            let wanted = services(state);
            program.update(&changes(&held, &wanted), NO_LIMIT).iter().for_each(|ops| table.commit(ops));
            held = wanted;
        }
        let services: Vec<_> = held.into_values().collect();
        let (_, ops) = start(&table, &services, family);
        prop_assert_eq!(ops.added().count() + ops.removed().count() + ops.chains().count(), 0);
    }

    #[test]
    fn a_restart_repairs_whatever_it_finds(before in state(), after in state()) {
        let family = Family::V4;
        let mut table = Table::default();
        let services_of = |state| services(state).into_values().collect::<Vec<_>>();
        table.commit(&start(&table, &services_of(&before), family).1);
        table.commit(&start(&table, &services_of(&after), family).1);
        let mut fresh = Table::default();
        fresh.commit(&start(&fresh, &services_of(&after), family).1);
        prop_assert_eq!(table.meaning(), fresh.meaning());
    }

    #[test]
    fn pieces_of_a_large_change_lead_to_the_same(before in state(), after in state()) {
        let family = Family::V4;
        let whole = {
            let mut table = Table::default();
            let (mut program, ops) = start(&table, &[], family);
            table.commit(&ops);
            for (from, to) in [(BTreeMap::new(), services(&before)), (services(&before), BTreeMap::new())] {
                // A limit of 0 makes every service port a transaction of its own.
                program.update(&changes(&from, &to), 0).iter().for_each(|ops| table.commit(ops));
            }
            program.update(&changes(&BTreeMap::new(), &services(&after)), 0).iter().for_each(|ops| table.commit(ops));
            table.meaning()
        };
        let mut fresh = Table::default();
        let services: Vec<_> = services(&after).into_values().collect();
        fresh.commit(&start(&fresh, &services, family).1);
        prop_assert_eq!(whole, fresh.meaning());
    }
}

/// A change that is one transaction.
fn change(program: &mut Program, before: &Arc<ServicePort>, after: &Arc<ServicePort>) -> Ops {
    let change = Change { before: Some(Arc::clone(before)), after: Some(Arc::clone(after)) };
    let mut transactions = program.update(&[change], NO_LIMIT);
    assert_eq!(transactions.len(), 1);
    transactions.remove(0)
}

#[test]
fn one_endpoint_replaced_is_one_element_removed_and_one_added() {
    let (before, after) = (plain([1, 2, 4]), plain([1, 2, 5]));
    let (mut program, _) = start(&Table::default(), &[Arc::clone(&before)], Family::V4);
    let ops = change(&mut program, &before, &after);
    assert_eq!((ops.removed().count(), ops.added().count(), ops.chains().count()), (1, 1, 0));
}

#[test]
fn a_number_of_endpoints_seen_before_needs_no_chain_and_no_verdict() {
    let (three, four) = (plain([1, 2, 3]), plain([1, 2, 3, 4]));
    let (mut program, _) = start(&Table::default(), &[Arc::clone(&three)], Family::V4);
    assert_eq!(change(&mut program, &three, &four).chains().count(), 1);
    for ops in [change(&mut program, &four, &three), change(&mut program, &three, &four)] {
        assert_eq!(ops.chains().count(), 0);
        assert!(ops.added().all(|(_, element)| !matches!(element.data, Data::Verdict(_))));
    }
}

#[test]
fn a_chain_found_without_use_is_written_anew_before_it_is_used() {
    let (three, four) = (plain([1, 2, 3]), plain([1, 2, 3, 4]));
    let mut table = Table::default();
    table.commit(&start(&table, &[Arc::clone(&four)], Family::V4).1);
    let good = table.chains.insert("pick-4".to_owned(), Vec::new());
    let picks = table.elements.get_mut(&SetName::Picks).unwrap();
    picks.values_mut().for_each(|lead| lead.data = Data::Verdict(Verdict::Goto("services".to_owned())));
    let (mut program, ops) = start(&table, &[Arc::clone(&three)], Family::V4);
    table.commit(&ops);
    table.commit(&change(&mut program, &three, &four));
    assert_eq!(table.chains.get("pick-4"), good.as_ref());
    table.tidy(&mut program);
}
