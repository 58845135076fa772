//! What we have programmed in one family, and how a change of services turns into operations on it. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use endpoint_cache::{Change, Endpoint, Family, ServicePort, ServicePortName};
use kernel::nft::{Bytes, Chain, Data, Element, Rule};

use super::bytes;
use super::context::Context;
use super::elements::{self, Item};
use super::layout::SetName;
use super::ops::{InstalledElements, Ops};
use super::pick::{Pick, Scope};
use super::slots;
use super::sticky;

/// The endpoints of a service port in their slots.
#[derive(Debug, Default)]
struct Slots {
    cluster: Box<[Endpoint]>,
    local: Box<[Endpoint]>,
}

impl Slots {
    fn of(&mut self, scope: Scope) -> &mut Box<[Endpoint]> {
        match scope {
            Scope::Cluster => &mut self.cluster,
            Scope::Local => &mut self.local,
        }
    }
}

/// The state of one family's table, as far as the next change needs to know it.
pub(crate) struct Program {
    context: Context,
    slots: HashMap<Arc<ServicePortName>, Slots>,
    /// How many service ports contribute an element that several may.
    shared: HashMap<(SetName, Bytes), u32>,
    /// Every chain for services that the kernel holds, and how many elements lead to it.
    chains: BTreeMap<String, u32>,
    /// Sets in our table that are none of ours.
    foreign_sets: Vec<String>,
}

/// What may be removed.
pub(crate) struct Unused {
    pub(crate) chains: Vec<String>,
    pub(crate) sets: Vec<String>,
}

impl Program {
    /// Nothing programmed yet.
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            slots: HashMap::new(),
            shared: HashMap::new(),
            chains: BTreeMap::new(),
            foreign_sets: Vec::new(),
        }
    }

    /// What is in the kernel and nothing leads to any more.
    pub(crate) fn unused(&self) -> Unused {
        let chains = self.chains.iter().filter(|(_, references)| **references == 0);
        Unused { chains: chains.map(|(chain, _)| chain.clone()).collect(), sets: self.foreign_sets.clone() }
    }

    /// Notes what was found in the table and is none of ours, to be removed when there is time.
    pub(crate) fn add_unused(&mut self, chains: Vec<String>, sets: Vec<String>) {
        self.chains.extend(chains.into_iter().map(|name| (name, 0)));
        self.foreign_sets.extend(sets);
    }

    /// It is gone from the kernel.
    pub(crate) fn forget(&mut self, unused: &Unused) {
        self.chains.retain(|name, _| !unused.chains.contains(name));
        self.foreign_sets.clear();
    }

    /// Programs a service port from nothing, with its endpoints in the slots where they are `placed` if they are.
    pub(crate) fn add(&mut self, service: &ServicePort, placed: &PlacedEndpoints, ops: &mut Ops) {
        for scope in Scope::BOTH {
            let first_place = elements::placements(service, scope).into_iter().next();
            let placed = first_place.map(|(map, frontend)| placed.under(map, &frontend.bytes()));
            let order = slots::reassign(&placed.unwrap_or_default(), elements::endpoints(service, scope));
            self.write_slots((scope, None, Some(service)), &[], order, ops);
        }
        self.update_chains(None, Some(service), ops);
        self.update_items(None, Some(service), ops);
    }

    /// Programs changes of this family, in transactions of at most `limit` bytes, each of which leaves every service
    /// port it touches right.
    pub(crate) fn update(&mut self, changes: &[Change], limit: usize) -> Vec<Ops> {
        let (mut transactions, mut ops) = (Vec::new(), Ops::default());
        for change in changes {
            let (before, after) = (change.before.as_deref(), change.after.as_deref());
            if before.or(after).is_some_and(|service| service.family == self.context.family) {
                self.update_slots(before, after, &mut ops);
                self.update_chains(before, after, &mut ops);
                self.update_items(before, after, &mut ops);
                transactions.extend(ops.split_off_over(limit));
            }
        }
        transactions.push(ops);
        transactions
    }

    fn update_slots(&mut self, before: Option<&ServicePort>, after: Option<&ServicePort>, ops: &mut Ops) {
        let name = before.or(after).map(|service| Arc::clone(&service.name));
        let mut slots = name.and_then(|name| self.slots.remove(&name)).unwrap_or_default();
        for scope in Scope::BOTH {
            let old = std::mem::take(slots.of(scope));
            let wanted = after.map(|service| elements::endpoints(service, scope)).unwrap_or_default();
            let order = slots::reassign(&old, wanted);
            self.write_slots((scope, before, after), &old, order, ops);
        }
    }

    /// Takes the endpoints of a scope from the places and slots they have to those they are to have.
    fn write_slots(
        &mut self,
        (scope, before, after): (Scope, Option<&ServicePort>, Option<&ServicePort>),
        old: &[Endpoint],
        new: Vec<Endpoint>,
        ops: &mut Ops,
    ) {
        let places = |service: Option<&ServicePort>| {
            service.map(|service| elements::placements(service, scope)).unwrap_or_default()
        };
        let (was, is) = (places(before), places(after));
        for (map, frontend) in was.iter().filter(|place| !is.contains(place)) {
            for (slot, endpoint) in old.iter().enumerate() {
                ops.remove(*map, elements::slot(frontend, slot, endpoint));
            }
        }
        for place in &is {
            let (map, frontend) = place;
            let old = if was.contains(place) { old } else { &[] };
            for (slot, gone, come) in slots::differences(old, &new) {
                if let Some(endpoint) = gone {
                    ops.remove(*map, elements::slot(frontend, slot, endpoint));
                }
                if let Some(endpoint) = come {
                    ops.add(*map, elements::slot(frontend, slot, endpoint));
                }
            }
        }
        if let Some(service) = after.filter(|_| !new.is_empty()) {
            *self.slots.entry(Arc::clone(&service.name)).or_default().of(scope) = new.into();
        }
    }

    /// Chains of the service port's own, where it has session affinity.
    fn update_chains(&mut self, before: Option<&ServicePort>, after: Option<&ServicePort>, ops: &mut Ops) {
        let chains = |service: Option<&ServicePort>| -> BTreeMap<String, Vec<Rule>> {
            let chains = service.map(|service| sticky::chains(service, &self.context)).unwrap_or_default();
            chains.into_iter().map(|chain| (chain.name, chain.rules)).collect()
        };
        let (was, is) = (chains(before), chains(after));
        for name in was.keys().filter(|name| !is.contains_key(*name)) {
            self.chains.insert(name.clone(), 0);
        }
        for (name, rules) in is {
            if was.get(&name) != Some(&rules) {
                self.chains.insert(name.clone(), 1);
                ops.write_chain(Chain { name, hook: None }, rules);
            }
        }
    }

    fn update_items(&mut self, before: Option<&ServicePort>, after: Option<&ServicePort>, ops: &mut Ops) {
        let (before, after) = (self.items(before), self.items(after));
        let (was, is): (HashSet<&Item>, HashSet<&Item>) = (before.iter().collect(), after.iter().collect());
        // New ones first, so that a chain or shared element that both use is not dropped in between.
        after.iter().filter(|item| !was.contains(item)).for_each(|item| self.add_item(item, ops));
        before.iter().filter(|item| !is.contains(item)).for_each(|item| self.remove_item(item, ops));
    }

    fn items(&self, service: Option<&ServicePort>) -> Vec<Item> {
        service.map(|service| elements::of(service, &self.context.node_addresses)).unwrap_or_default()
    }

    fn add_item(&mut self, item: &Item, ops: &mut Ops) {
        if let Some(pick) = &item.leads_to {
            self.refer_to(pick, ops);
        }
        if item.set.shared() {
            let count = self.shared.entry((item.set, item.element.key.clone())).or_default();
            *count += 1;
            if *count > 1 {
                return;
            }
        }
        ops.add(item.set, item.element.clone());
    }

    fn remove_item(&mut self, item: &Item, ops: &mut Ops) {
        if let Some(count) = item.leads_to.and_then(|pick| self.chains.get_mut(&pick.to_string())) {
            *count = count.saturating_sub(1);
        }
        if item.set.shared() {
            let key = (item.set, item.element.key.clone());
            if let Some(count) = self.shared.get_mut(&key)
                && *count > 1
            {
                *count -= 1;
                return;
            }
            self.shared.remove(&key);
        }
        ops.remove(item.set, item.element.clone());
    }

    fn refer_to(&mut self, pick: &Pick, ops: &mut Ops) {
        let context = &self.context;
        *self.chains.entry(pick.to_string()).or_insert_with_key(|name| {
            ops.write_chain(Chain { name: name.clone(), hook: None }, pick.rules(context));
            0
        }) += 1;
    }
}

/// Which endpoint stands in which slot of which frontend, as read from the kernel.
#[derive(Default)]
pub(crate) struct PlacedEndpoints(HashMap<(SetName, Bytes), BTreeMap<u32, Endpoint>>);

impl PlacedEndpoints {
    pub(crate) fn read(installed: &InstalledElements, family: Family) -> Self {
        let mut placed = Self::default();
        for (map, elements) in installed {
            for (frontend, slot, endpoint) in elements.values().filter_map(|item| read_slot(item, family)) {
                placed.0.entry((*map, frontend)).or_default().insert(slot, endpoint);
            }
        }
        placed
    }

    /// The endpoints under a frontend by slot, up to the first empty one.
    fn under(&self, map: SetName, frontend: &Bytes) -> Vec<Endpoint> {
        let slots = self.0.get(&(map, frontend.clone())).into_iter().flatten();
        slots.zip(0..).take_while(|((slot, _), expected)| *slot == expected).map(|((_, at), _)| *at).collect()
    }
}

fn read_slot(element: &Element, family: Family) -> Option<(Bytes, u32, Endpoint)> {
    let (frontend, slot) = element.key.split_last_chunk::<4>()?;
    let Data::Value(value) = &element.data else { return None };
    let (address, port) = bytes::read_endpoint(value, family)?;
    Some((Bytes::from_slice(frontend), u32::from_ne_bytes(*slot), Endpoint { address, port, local: false }))
}
