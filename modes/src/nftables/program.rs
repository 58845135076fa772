//! What we have programmed in one family, and how a change of services turns into operations on it. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use endpoint_cache::{Change, Endpoint, Family, ServicePort, ServicePortName};
use kernel::nft::{Bytes, Chain, Data, Element, Rule};

use super::bytes;
use super::elements::{self, Item, Target};
use super::layout::SetName;
use super::numbers::{self, Numbers};
use super::ops::{InstalledElements, Leftovers, Ops};
use super::pick::Scope;
use super::slots;
use super::sticky;
use crate::context::Context;

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
    numbers: Numbers,
    /// Every chain for services that is programmed.
    chains: BTreeMap<String, ServiceChain>,
    /// What else was found in our table and is to be removed when there is time.
    leftovers: Leftovers,
    foreign_sets: Vec<String>,
}

/// A chain for services.
struct ServiceChain {
    /// How many elements give its number.
    references: u32,
    /// The elements by which it has that number.
    leads: Vec<(SetName, Element)>,
}

/// What may be removed.
pub(crate) struct Unused {
    pub(crate) leftovers: Leftovers,
    pub(crate) sets: Vec<String>,
}

impl Program {
    /// Nothing programmed yet.
    pub(crate) fn new(context: Context, numbers: Numbers) -> Self {
        Self {
            context,
            slots: HashMap::new(),
            shared: HashMap::new(),
            numbers,
            chains: BTreeMap::new(),
            leftovers: Leftovers::default(),
            foreign_sets: Vec::new(),
        }
    }

    /// What is in the kernel and nothing leads to any more.
    pub(crate) fn unused(&self) -> Unused {
        let mut leftovers = self.leftovers.clone();
        for (name, chain) in self.chains.iter().filter(|(_, chain)| chain.references == 0) {
            leftovers.chains.push(name.clone());
            leftovers.leads.extend(chain.leads.iter().cloned());
        }
        Unused { leftovers, sets: self.foreign_sets.clone() }
    }

    /// Notes what was found in the table and is none of ours, to be removed when there is time.
    pub(crate) fn add_unused(&mut self, leftovers: Leftovers, sets: Vec<String>) {
        self.leftovers = leftovers;
        self.foreign_sets = sets;
    }

    /// All that is unused is gone from the kernel.
    pub(crate) fn forget_unused(&mut self) {
        for (name, _) in self.chains.extract_if(.., |_, chain| chain.references == 0) {
            self.numbers.forget(&name);
        }
        self.leftovers = Leftovers::default();
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
            if let Some(chain) = self.chains.get_mut(name) {
                chain.references = 0;
            }
        }
        for (name, rules) in is {
            if was.get(&name) != Some(&rules) {
                self.service_chain(&Target::Own(name.clone()), ops).references = 1;
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
        let mut element = item.element.clone();
        if let Some(target) = &item.leads_to {
            self.refer_to(target, ops);
            element.data = numbers::data(self.numbers.of(target));
        }
        if item.set.shared() {
            let count = self.shared.entry((item.set, item.element.key.clone())).or_default();
            *count += 1;
            if *count > 1 {
                return;
            }
        }
        ops.add(item.set, element);
    }

    fn remove_item(&mut self, item: &Item, ops: &mut Ops) {
        if let Some(Target::Shared(pick)) = &item.leads_to
            && let Some(chain) = self.chains.get_mut(&pick.to_string())
        {
            chain.references = chain.references.saturating_sub(1);
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

    /// Counts a reference to a shared chain. Services' own chains belong to their service, not to elements.
    fn refer_to(&mut self, target: &Target, ops: &mut Ops) {
        let Target::Shared(pick) = target else { return };
        let name = target.chain();
        if !self.chains.contains_key(&name) {
            ops.write_chain(Chain { name, hook: None }, pick.rules(&self.context));
        }
        self.service_chain(target, ops).references += 1;
    }

    /// The chain, which can be led to by its number henceforth. Its rules are the caller's business.
    fn service_chain(&mut self, target: &Target, ops: &mut Ops) -> &mut ServiceChain {
        let (numbers, leftovers) = (&mut self.numbers, &mut self.leftovers);
        self.chains.entry(target.chain()).or_insert_with_key(|name| {
            leftovers.chains.retain(|left| left != name);
            let lead = numbers::lead(numbers.of(target), name);
            let leads: Vec<_> = target.signposts().iter().map(|map| (*map, lead.clone())).collect();
            for (map, lead) in &leads {
                leftovers
                    .leads
                    .extract_if(.., |(in_map, left)| in_map == map && left.key == lead.key)
                    .for_each(|(map, left)| ops.remove(map, left));
                ops.add(*map, lead.clone());
            }
            ServiceChain { references: 0, leads }
        })
    }
}

/// Which endpoint stands in which slot of which frontend, as read from the kernel.
#[derive(Default)]
pub(crate) struct PlacedEndpoints(HashMap<(SetName, Bytes), BTreeMap<u32, Endpoint>>);

impl PlacedEndpoints {
    pub(crate) fn read(installed: &InstalledElements, family: Family) -> Self {
        let mut placed = Self::default();
        for (map, elements) in installed {
            for (frontend, slot, endpoint) in elements.iter().filter_map(|item| read_slot(item, family)) {
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
