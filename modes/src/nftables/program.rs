//! What we have programmed in one family, and how a change of services turns into operations on it. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use endpoint_cache::{Change, Endpoint, Family, ServicePort};
use kernel::nft::{Bytes, Chain, Data, Element};

use super::bytes::{self, Key};
use super::context::Context;
use super::elements::{self, Item};
use super::layout::SetName;
use super::ops::{InstalledElements, Ops};
use super::pick::{Scope, ServiceChain};
use super::slots;

/// The endpoints of a service port in their slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    cluster: Box<[Endpoint]>,
    local: Box<[Endpoint]>,
}

impl Slots {
    pub(crate) fn of_mut(&mut self, scope: Scope) -> &mut Box<[Endpoint]> {
        match scope {
            Scope::Cluster => &mut self.cluster,
            Scope::Local => &mut self.local,
        }
    }
}

/// Slots by the bytes of a service port's identity.
pub(crate) type SlotsByIdentity = HashMap<Bytes, Slots>;

/// The state of one family's table, as far as the next change needs to know it.
pub(crate) struct Program {
    context: Context,
    slots: SlotsByIdentity,
    /// How many service ports contribute an element that several may.
    shared: HashMap<(SetName, Bytes), u32>,
    /// Every chain for services that the kernel holds, and how many elements lead to it.
    chains: BTreeMap<ServiceChain, u32>,
}

impl Program {
    /// Nothing programmed yet.
    pub(crate) fn new(context: Context) -> Self {
        Self { context, slots: HashMap::new(), shared: HashMap::new(), chains: BTreeMap::new() }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Chains that nothing leads to any more.
    pub(crate) fn unused_chains(&self) -> Vec<ServiceChain> {
        self.chains.iter().filter(|(_, references)| **references == 0).map(|(chain, _)| *chain).collect()
    }

    pub(crate) fn forget_chain(&mut self, chain: &ServiceChain) {
        self.chains.remove(chain);
    }

    /// Programs a service port from nothing, in the slots its endpoints have in `placed` where they have any there.
    pub(crate) fn add(&mut self, service: &ServicePort, placed: &mut SlotsByIdentity, ops: &mut Ops) {
        let identity = bytes::identity(service);
        let mut placed = placed.remove(&identity.clone().bytes()).unwrap_or_default();
        for scope in [Scope::Cluster, Scope::Local] {
            let order = slots::reassign(placed.of_mut(scope), elements::endpoints(service, scope));
            self.write_slots(&identity, scope, &[], order, ops);
        }
        for item in self.items(Some(service)) {
            self.add_item(&item, ops);
        }
    }

    /// Programs changes of this family, in transactions of at most `limit` bytes, each of which leaves every service
    /// port it touches right.
    pub(crate) fn update(&mut self, changes: &[Change], limit: usize) -> Vec<Ops> {
        let family = self.context.family;
        let changes = || {
            changes.iter().filter_map(move |change| {
                let (before, after) = (change.before.as_deref(), change.after.as_deref());
                (before.or(after)?.family == family).then_some((before, after))
            })
        };
        let (mut transactions, mut ops) = (Vec::new(), Ops::default());
        // First everything that lets go of an identity, which another service port may take over.
        for (before, after) in changes() {
            if let Some(before) = before
                && after.map(identity) != Some(identity(before))
            {
                self.release_slots(before, &mut ops);
            }
        }
        for (before, after) in changes() {
            self.update_slots(after, &mut ops);
            self.update_items(before, after, &mut ops);
            transactions.extend(ops.split_off_over(limit));
        }
        transactions.push(ops);
        transactions
    }

    fn release_slots(&mut self, service: &ServicePort, ops: &mut Ops) {
        let key = bytes::identity(service);
        let mut slots = self.slots.remove(&key.clone().bytes()).unwrap_or_default();
        for scope in [Scope::Cluster, Scope::Local] {
            for (slot, endpoint) in slots.of_mut(scope).iter().enumerate() {
                ops.remove(scope.endpoints(), elements::slot(&key, slot, endpoint));
            }
        }
    }

    fn update_slots(&mut self, service: Option<&ServicePort>, ops: &mut Ops) {
        let Some(service) = service else { return };
        let identity = bytes::identity(service);
        let mut before = self.slots.get(&identity.clone().bytes()).cloned().unwrap_or_default();
        for scope in [Scope::Cluster, Scope::Local] {
            let order = slots::reassign(before.of_mut(scope), elements::endpoints(service, scope));
            self.write_slots(&identity, scope, before.of_mut(scope), order, ops);
        }
    }

    fn write_slots(
        &mut self,
        identity: &Key,
        scope: Scope,
        before: &[Endpoint],
        after: Vec<Endpoint>,
        ops: &mut Ops,
    ) {
        for (slot, before, after) in slots::differences(before, &after) {
            if let Some(endpoint) = before {
                ops.remove(scope.endpoints(), elements::slot(identity, slot, endpoint));
            }
            if let Some(endpoint) = after {
                ops.add(scope.endpoints(), elements::slot(identity, slot, endpoint));
            }
        }
        if !(before.is_empty() && after.is_empty()) {
            *self.slots.entry(identity.clone().bytes()).or_default().of_mut(scope) = after.into();
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
        if let Some(chain) = item.leads_to {
            self.refer_to(chain, ops);
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
        if let Some(count) = item.leads_to.and_then(|chain| self.chains.get_mut(&chain)) {
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

    fn refer_to(&mut self, chain: ServiceChain, ops: &mut Ops) {
        let context = &self.context;
        let count = self.chains.entry(chain).or_insert_with(|| {
            ops.write_chain(Chain { name: chain.to_string(), hook: None }, chain.rules(context));
            0
        });
        *count += 1;
    }
}

fn identity(service: &ServicePort) -> (std::net::IpAddr, u16, endpoint_cache::Protocol) {
    (service.cluster_ip, service.port, service.name.protocol)
}

/// The slots that endpoints stand in, as read from the kernel. Maps with gaps count up to the first gap.
pub(crate) fn installed_slots(installed: &InstalledElements, family: Family) -> SlotsByIdentity {
    let mut found = SlotsByIdentity::new();
    for scope in [Scope::Cluster, Scope::Local] {
        let mut placed: HashMap<Bytes, BTreeMap<u32, Endpoint>> = HashMap::new();
        for element in installed.get(&scope.endpoints()).into_iter().flat_map(HashMap::values) {
            if let Some((identity, slot, endpoint)) = read_slot(element, family) {
                placed.entry(identity).or_default().insert(slot, endpoint);
            }
        }
        for (identity, slots) in placed {
            let dense = slots.into_iter().zip(0..).take_while(|((slot, _), expected)| slot == expected);
            *found.entry(identity).or_default().of_mut(scope) =
                dense.map(|((_, endpoint), _)| endpoint).collect();
        }
    }
    found
}

fn read_slot(element: &Element, family: Family) -> Option<(Bytes, u32, Endpoint)> {
    let (identity, slot) = element.key.split_last_chunk::<4>()?;
    let Data::Value(value) = &element.data else { return None };
    let (address, port) = bytes::read_endpoint(value, family)?;
    Some((Bytes::from_slice(identity), u32::from_ne_bytes(*slot), Endpoint { address, port, local: false }))
}
