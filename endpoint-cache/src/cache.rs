//! Objects in, deltas out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::disjoint;
use crate::claims::Claims;
use crate::delta::sort_changes;
use crate::intern::Interner;
use crate::node::{read_node, read_service_cidr};
use crate::object::{self, DEFAULT_NAMESPACE, Kind, ObjectName, ObjectRef};
use crate::portrait::portray;
use crate::problem::{Findings, Problems};
use crate::publish::{Entry, identity};
use crate::relist::Relists;
use crate::service::CompactService;
use crate::slice::CompactSlice;
use crate::tally::{Census, Tally};
use crate::trigger::Triggers;
use crate::{Delta, Desired, Eligibility, Family, HealthCheck, NodeState, Portrait, Problem, Unserved};

/// One object added or changed, or one deleted.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few are around at a time, and none is kept")]
pub enum Update {
    /// A Service as it is now.
    Service(object::Service),
    /// An EndpointSlice as it is now.
    EndpointSlice(object::EndpointSlice),
    /// A Node as it is now. Only the own one matters.
    Node(object::Node),
    /// A ServiceCIDR as it is now.
    ServiceCidr(object::ServiceCidr),
    /// This object is gone.
    Deleted(ObjectRef),
    /// All objects of a kind follow, those that are known among them.
    ListBegins(Kind),
    /// They have: whatever was known and did not follow is gone. Without a beginning, nothing is.
    ListEnds(Kind),
}

/// The model: takes objects in, and tells what a mode has to change.
///
/// [`Cache::apply`] keeps a small form of each object and notes what it touches; [`Cache::take_delta`] works out only
/// that. What the two have left is the same whatever order the objects came in.
#[derive(Debug, Default)]
pub struct Cache {
    node_name: Box<str>,
    /// Whether endpoints may be at loopback addresses.
    loopback_endpoints: bool,
    interner: Interner,
    services: HashMap<ObjectName, Box<Entry>>,
    /// Services that are not for this proxy to serve.
    unserved: HashMap<ObjectName, Unserved>,
    /// Name of the Service that each slice belongs to, in the slice's namespace.
    slices: HashMap<ObjectName, Arc<str>>,
    claims: Claims,
    /// Services to be worked out anew.
    dirty: HashSet<ObjectName>,
    published_health_checks: HashMap<ObjectName, HealthCheck>,
    node: Arc<NodeState>,
    published_node: Arc<NodeState>,
    eligibility: Eligibility,
    /// Whether a list of Nodes has been taken in: the own one is missing if it was not in it.
    nodes_listed: bool,
    service_cidrs: BTreeMap<Arc<str>, Vec<IpNet>>,
    service_cidrs_dirty: bool,
    published_service_cidrs: Arc<[IpNet]>,
    /// What is wrong with the objects themselves.
    problems: Problems,
    /// Frontends that Services went without.
    refusals: Problems,
    relists: Relists,
    tally: Tally,
    census: Census,
    triggers: Triggers,
}

impl Cache {
    /// An empty cache for the node of this name (compared in lower case, without surrounding spaces).
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self { node_name: node_name.trim().to_lowercase().into(), ..Self::default() }
    }

    /// The same, with endpoints at loopback addresses too, which no cluster has: for who writes objects by hand and
    /// reaches them by a process of his own.
    #[must_use]
    pub fn with_loopback_endpoints(self, allowed: bool) -> Self {
        Self { loopback_endpoints: allowed, ..self }
    }

    /// Takes one update in. What came of it is in the next delta.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Service(service) => self.apply_service(&service),
            Update::EndpointSlice(slice) => self.apply_slice(&slice),
            Update::Node(node) => self.apply_node(&node),
            Update::ServiceCidr(cidr) => self.apply_service_cidr(&cidr),
            Update::Deleted(object) => self.delete(object),
            Update::ListBegins(kind) => self.relists.begin(kind, self.known(kind)),
            Update::ListEnds(kind) => {
                for name in self.relists.end(kind) {
                    self.delete(ObjectRef { kind, name });
                }
                if kind == Kind::Node {
                    self.nodes_were_listed();
                }
            }
        }
    }

    /// Works out what changed since the last call.
    pub fn take_delta(&mut self) -> Delta {
        self.settle_claims();
        let mut delta = Delta::default();
        for name in std::mem::take(&mut self.dirty) {
            self.publish_service(name, &mut delta);
        }
        sort_changes(&mut delta.changes);
        delta.health_checks.sort_by(|a, b| a.0.cmp(&b.0));
        self.publish_node(&mut delta);
        self.publish_service_cidrs(&mut delta);
        delta.problems = self.problems.take_news();
        delta.problems.extend(self.refusals.take_news());
        delta.problems.sort_by(|a, b| (&a.object, &a.field).cmp(&(&b.object, &b.field)));
        delta.triggers = self.triggers.take();
        delta
    }

    /// How many objects came in so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many objects are known now.
    #[must_use]
    pub fn census(&self) -> Census {
        self.census
    }

    /// Every Service that is known, with all its endpoints, by namespace and name. Takes as long as they are many.
    #[must_use]
    pub fn portraits(&self) -> Vec<Portrait> {
        let served = self.services.iter().filter_map(|(name, entry)| {
            let spec = portray(entry.service.as_ref()?, entry, self.node.zone.as_deref());
            Some(Portrait { name: name.clone(), spec: Ok(spec), problems: self.problems_of(name, entry) })
        });
        let unserved = self.unserved.iter().map(|(name, why)| Portrait {
            name: name.clone(),
            spec: Err(*why),
            problems: Vec::new(),
        });
        let mut portraits: Vec<_> = served.chain(unserved).collect();
        portraits.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        portraits
    }

    /// What is wrong with a Service and its slices.
    fn problems_of(&self, name: &ObjectName, entry: &Entry) -> Vec<Problem> {
        let service = ObjectRef { kind: Kind::Service, name: name.clone() };
        let slices = entry.slices.iter().flat_map(|(slice, _)| {
            let name = ObjectName { namespace: Arc::clone(&name.namespace), name: Arc::clone(slice) };
            self.problems.of(&ObjectRef { kind: Kind::EndpointSlice, name })
        });
        let own = self.problems.of(&service).iter().chain(self.refusals.of(&service));
        own.chain(slices).cloned().collect()
    }

    /// All that the deltas taken so far add up to.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let published = self.services.values().flat_map(|entry| &entry.published);
        let mut service_ports: Vec<_> = published.cloned().collect();
        service_ports.sort_unstable_by(|a, b| identity(a, b));
        Desired {
            service_ports,
            node: Arc::clone(&self.published_node),
            service_cidrs: Arc::clone(&self.published_service_cidrs),
        }
    }

    /// The own Node's state, with what the last delta did not tell of yet.
    #[must_use]
    pub fn node(&self) -> &NodeState {
        &self.node
    }

    /// Whether load balancers should send traffic to the own Node. Of now; no delta tells of it, since nothing is to be
    /// programmed for it.
    #[must_use]
    pub fn eligibility(&self) -> Eligibility {
        self.eligibility
    }

    fn apply_service(&mut self, service: &object::Service) {
        self.tally.services.given += 1;
        let name = self.shared_name(service.object_name());
        self.relists.saw(Kind::Service, &name);
        let mut findings = Findings::of(ObjectRef { kind: Kind::Service, name: name.clone() });
        let read = CompactService::read(service, &name, &mut self.interner, &mut findings);
        self.problems.replace(findings);
        match &read {
            Ok(_) => self.unserved.remove(&name),
            Err(why) => self.unserved.insert(name.clone(), *why),
        };
        self.set_service(name, read.ok());
    }

    fn set_service(&mut self, name: ObjectName, mut service: Option<CompactService>) {
        if service.is_none() && !self.services.contains_key(&name) {
            return;
        }
        let entry = self.services.entry(name.clone()).or_default();
        if entry.service == service {
            return;
        }
        if let Some(old) = &entry.service {
            self.census.services -= 1;
            retract(&mut self.claims, old);
            if let Some(service) = &mut service {
                service.share_names(old);
            }
        }
        if let Some(service) = &service {
            self.census.services += 1;
            claim(&mut self.claims, service);
        }
        entry.service = service;
        self.tally.services.changed += 1;
        self.dirty.insert(name);
    }

    fn apply_slice(&mut self, slice: &object::EndpointSlice) {
        self.tally.slices.given += 1;
        let name = slice.object_name();
        self.relists.saw(Kind::EndpointSlice, &name);
        let mut findings = Findings::of(ObjectRef { kind: Kind::EndpointSlice, name: name.clone() });
        let read = CompactSlice::read(
            slice,
            &self.node_name,
            self.loopback_endpoints,
            &mut self.interner,
            &mut findings,
        );
        self.problems.replace(findings);
        let Some((service, compact)) = read else {
            self.remove_slice(&name);
            return;
        };
        if self.slices.get(&name).is_some_and(|owner| **owner != *service) {
            self.remove_slice(&name);
        }
        let service = self.shared_name(ObjectName::new(&name.namespace, service));
        let family = compact.family();
        if self.set_slice(name, service.clone(), compact) {
            self.triggers.add(&service, family, slice);
        }
    }

    /// Returns whether anything is other than before.
    fn set_slice(&mut self, name: ObjectName, service: ObjectName, compact: CompactSlice) -> bool {
        let entry = self.services.entry(service.clone()).or_default();
        let endpoints = compact.len();
        match entry.slices.binary_search_by(|(known, _)| known.cmp(&name.name)) {
            Ok(at) if entry.slices[at].1 == compact => return false,
            Ok(at) => {
                self.census.endpoints -= entry.slices[at].1.len();
                entry.slices[at].1 = compact;
            }
            Err(at) => {
                self.census.slices += 1;
                entry.slices.reserve_exact(1);
                entry.slices.insert(at, (Arc::clone(&name.name), compact));
                let namespace = Arc::clone(&service.namespace);
                self.slices.insert(ObjectName { namespace, ..name }, Arc::clone(&service.name));
            }
        }
        self.census.endpoints += endpoints;
        self.tally.slices.changed += 1;
        self.dirty.insert(service);
        true
    }

    fn remove_slice(&mut self, name: &ObjectName) {
        let Some(owner) = self.slices.remove(name) else { return };
        let service = ObjectName { namespace: Arc::clone(&name.namespace), name: owner };
        let Some(entry) = self.services.get_mut(&service) else { return };
        if let Ok(at) = entry.slices.binary_search_by(|(known, _)| known.cmp(&name.name)) {
            let (_, slice) = entry.slices.remove(at);
            self.census.slices -= 1;
            self.census.endpoints -= slice.len();
            self.triggers.forget(&service, slice.family());
        }
        self.tally.slices.changed += 1;
        self.dirty.insert(service);
    }

    fn apply_node(&mut self, node: &object::Node) {
        let name = node.object_name();
        if !self.is_own_node(&name) {
            return;
        }
        let name = self.own_name();
        self.relists.saw(Kind::Node, &name);
        self.eligibility = Eligibility::of(node);
        let mut findings = Findings::of(ObjectRef { kind: Kind::Node, name });
        let state = read_node(node, &mut findings);
        self.problems.replace(findings);
        self.set_node(state);
    }

    fn set_node(&mut self, state: NodeState) {
        if state.zone != self.node.zone {
            let hinted = |entry: &Entry| entry.slices.iter().any(|(_, slice)| slice.has_zone_hints());
            let affected = self.services.iter().filter(|(_, entry)| hinted(entry));
            self.dirty.extend(affected.map(|(name, _)| name.clone()));
        }
        self.node = Arc::new(state);
    }

    fn apply_service_cidr(&mut self, cidr: &object::ServiceCidr) {
        let name = cidr.object_name();
        self.relists.saw(Kind::ServiceCidr, &name);
        let mut findings = Findings::of(ObjectRef { kind: Kind::ServiceCidr, name: name.clone() });
        let ranges = read_service_cidr(cidr, &mut findings);
        self.problems.replace(findings);
        self.service_cidrs.insert(name.name, ranges);
        self.service_cidrs_dirty = true;
    }

    fn delete(&mut self, mut object: ObjectRef) {
        if matches!(object.kind, Kind::Service | Kind::EndpointSlice) && object.name.namespace.is_empty() {
            object.name.namespace = DEFAULT_NAMESPACE.into();
        }
        self.problems.forget(&object);
        match object.kind {
            Kind::Service => self.tally.services.given += 1,
            Kind::EndpointSlice => self.tally.slices.given += 1,
            _ => {}
        }
        match object.kind {
            Kind::Service => {
                self.unserved.remove(&object.name);
                self.set_service(object.name, None);
            }
            Kind::EndpointSlice => self.remove_slice(&object.name),
            Kind::Node if self.is_own_node(&object.name) => {
                self.set_node(NodeState::default());
                self.eligibility = self.eligibility_without_node();
            }
            Kind::Node => {}
            Kind::ServiceCidr => {
                self.service_cidrs_dirty |= self.service_cidrs.remove(&object.name.name).is_some();
            }
            // Nothing is ever known of these.
            Kind::Pod | Kind::Namespace | Kind::NetworkPolicy => {}
        }
    }

    /// The objects of a kind that something is remembered of.
    fn known(&self, kind: Kind) -> HashSet<ObjectName> {
        let mut known: HashSet<ObjectName> = self.problems.objects(kind).cloned().collect();
        match kind {
            Kind::Service => {
                let there = self.services.iter().filter(|(_, entry)| entry.service.is_some());
                known.extend(there.map(|(name, _)| name.clone()));
                known.extend(self.unserved.keys().cloned());
            }
            Kind::EndpointSlice => known.extend(self.slices.keys().cloned()),
            Kind::Node if self.eligibility.is_there() => {
                known.insert(self.own_name());
            }
            Kind::Node => {}
            Kind::ServiceCidr => {
                known.extend(self.service_cidrs.keys().map(|name| ObjectName::new("", name)));
            }
            Kind::Pod | Kind::Namespace | Kind::NetworkPolicy => {}
        }
        known
    }

    /// From now on it is known when there is no own Node.
    fn nodes_were_listed(&mut self) {
        self.nodes_listed = true;
        if !self.eligibility.is_there() {
            self.eligibility = self.eligibility_without_node();
        }
    }

    fn eligibility_without_node(&self) -> Eligibility {
        if self.nodes_listed { Eligibility::Missing } else { Eligibility::Unknown }
    }

    /// The own Node's name as it is remembered, whatever case objects write it in.
    fn own_name(&self) -> ObjectName {
        ObjectName::new("", &self.node_name)
    }

    fn is_own_node(&self, name: &ObjectName) -> bool {
        name.name.to_lowercase() == *self.node_name
    }

    /// The name with the allocations that are there already.
    fn shared_name(&mut self, name: ObjectName) -> ObjectName {
        match self.services.get_key_value(&name) {
            Some((known, _)) => known.clone(),
            None => ObjectName { namespace: self.interner.get(&name.namespace), ..name },
        }
    }

    /// Whoever won or lost a frontend is to be worked out anew, though its own objects did not change.
    fn settle_claims(&mut self) {
        let services = &self.services;
        let settled = self.claims.settle(|family, claimant| {
            let service = services.get(&claimant.service()).and_then(|entry| entry.service.as_ref());
            let port = service.and_then(|service| Some((service, service.port(&claimant.name)?)));
            port.map_or_else(Vec::new, |(service, port)| service.frontends(port, family))
        });
        self.dirty.extend(settled.iter().map(|(_, claimant)| claimant.service()));
    }

    fn publish_service(&mut self, name: ObjectName, delta: &mut Delta) {
        let Some(entry) = self.services.get_mut(&name) else { return };
        let mut refusals = Findings::of(ObjectRef { kind: Kind::Service, name: name.clone() });
        delta.changes.extend(entry.publish(&self.claims, self.node.zone.as_deref(), &mut refusals));
        self.refusals.replace(refusals);
        let health_check = entry.health_check();
        if entry.is_empty() {
            self.services.remove(&name);
        }
        if health_check.as_ref() != self.published_health_checks.get(&name) {
            match &health_check {
                Some(check) => self.published_health_checks.insert(name.clone(), check.clone()),
                None => self.published_health_checks.remove(&name),
            };
            delta.health_checks.push((name, health_check));
        }
    }

    fn publish_node(&mut self, delta: &mut Delta) {
        if self.node != self.published_node {
            self.published_node = Arc::clone(&self.node);
            delta.node = Some(Arc::clone(&self.node));
        }
    }

    fn publish_service_cidrs(&mut self, delta: &mut Delta) {
        if !std::mem::take(&mut self.service_cidrs_dirty) {
            return;
        }
        let ranges = disjoint(&self.service_cidrs.values().flatten().copied().collect());
        if *ranges != *self.published_service_cidrs {
            self.published_service_cidrs = ranges.into();
            delta.service_cidrs = Some(Arc::clone(&self.published_service_cidrs));
        }
    }
}

fn claim(claims: &mut Claims, service: &CompactService) {
    for port in &service.ports {
        for family in Family::BOTH {
            for frontend in service.frontends(port, family) {
                claims.add(frontend, service.claimant(port));
            }
        }
    }
}

fn retract(claims: &mut Claims, service: &CompactService) {
    for port in &service.ports {
        for family in Family::BOTH {
            claims.retract(family, service.frontends(port, family), service.claimant(port));
        }
    }
}
