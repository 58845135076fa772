//! The cache: takes objects in, hands deltas out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use crate::claims::{Claimant, Claims, Frontend};
use crate::delta::{Change, Delta, Desired};
use crate::intern::Interner;
use crate::node::{read_node, read_service_cidr};
use crate::object::{self, Kind, ObjectName, ObjectRef};
use crate::problem::{Findings, Problems};
use crate::publish;
use crate::service::CompactService;
use crate::slice::CompactSlice;
use crate::{Family, HealthCheck, NodeState, ServicePort};

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub enum Update {
    /// A Service was added or changed.
    Service(object::Service),
    /// An EndpointSlice was added or changed.
    EndpointSlice(object::EndpointSlice),
    /// A Node was added or changed; only the own one matters.
    Node(object::Node),
    /// A ServiceCIDR was added or changed.
    ServiceCidr(object::ServiceCidr),
    /// An object is gone.
    Deleted(ObjectRef),
}

/// The slices of a Service, sorted by name. Nearly always one for each family.
pub(crate) type Slices = Vec<(Arc<str>, CompactSlice)>;

/// What is known of a Service's surroundings when it is recomputed.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) services: HashMap<ObjectName, CompactService>,
    pub(crate) slices: HashMap<ObjectName, Slices>,
    pub(crate) claims: Claims,
    pub(crate) node: Arc<NodeState>,
}

/// Everything a node's proxy needs to know of the cluster, kept small.
///
/// [`Cache::apply`] takes objects in and notes which Services they touch; [`Cache::take_delta`] recomputes those and no
/// others.
#[derive(Debug)]
pub struct Cache {
    node_name: String,
    interner: Interner,
    holdings: Holdings,
    /// Which Service a slice was last seen to belong to.
    owners: HashMap<ObjectName, ObjectName>,
    service_cidrs: BTreeMap<Arc<str>, Vec<IpNet>>,
    /// Services to be recomputed.
    touched: BTreeSet<ObjectName>,
    problems: Problems,
    /// Claims that were refused, apart from problems of the objects themselves.
    refused_claims: Problems,
    published: Published,
}

/// What the deltas handed out so far add up to.
#[derive(Debug, Default)]
struct Published {
    service_ports: HashMap<ObjectName, Box<[Arc<ServicePort>]>>,
    health_checks: HashMap<ObjectName, HealthCheck>,
    node: Arc<NodeState>,
    service_cidrs: Arc<[IpNet]>,
}

impl Cache {
    /// An empty cache for the node of this name, as `nodeName` in slices has it; matched in lower case.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.trim().to_lowercase(),
            interner: Interner::default(),
            holdings: Holdings::default(),
            owners: HashMap::new(),
            service_cidrs: BTreeMap::new(),
            touched: BTreeSet::new(),
            problems: Problems::default(),
            refused_claims: Problems::default(),
            published: Published::default(),
        }
    }

    /// Takes in what happened to an object. Nothing is recomputed before [`Cache::take_delta`].
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Service(service) => self.put_service(&service),
            Update::EndpointSlice(slice) => self.put_slice(&slice),
            Update::Node(node) => self.put_node(&node),
            Update::ServiceCidr(service_cidr) => self.put_service_cidr(&service_cidr),
            Update::Deleted(object) => self.delete(&object),
        }
    }

    /// What changed since the last call, and what was found wrong.
    pub fn take_delta(&mut self) -> Delta {
        self.settle_claims();
        let mut delta = Delta::default();
        for name in std::mem::take(&mut self.touched) {
            self.publish_service(&name, &mut delta);
        }
        // What lets go of a frontend stands before what takes it over.
        delta.changes.sort_by_key(|change| (change.before.is_none(), change.after.is_some()));
        if self.published.node != self.holdings.node {
            self.published.node = Arc::clone(&self.holdings.node);
            delta.node = Some(Arc::clone(&self.holdings.node));
        }
        let service_cidrs: BTreeSet<IpNet> = self.service_cidrs.values().flatten().copied().collect();
        if !service_cidrs.iter().eq(self.published.service_cidrs.iter()) {
            self.published.service_cidrs = service_cidrs.into_iter().collect();
            delta.service_cidrs = Some(Arc::clone(&self.published.service_cidrs));
        }
        delta.problems = self.problems.take_news();
        delta.problems.extend(self.refused_claims.take_news());
        delta
    }

    /// All that the deltas handed out so far add up to.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let mut service_ports: Vec<_> =
            self.published.service_ports.values().flat_map(|ports| ports.iter().cloned()).collect();
        service_ports.sort_by(|a, b| (&a.name, a.family).cmp(&(&b.name, b.family)));
        Desired {
            service_ports,
            node: Arc::clone(&self.published.node),
            service_cidrs: Arc::clone(&self.published.service_cidrs),
        }
    }

    fn put_service(&mut self, service: &object::Service) {
        let name = self.shared(&service.object_name());
        let mut findings = Findings::of(ObjectRef { kind: Kind::Service, name: name.clone() });
        let compact = CompactService::read(service, &name, &mut self.interner, &mut findings);
        self.problems.replace(findings);
        self.replace_service(name, compact);
    }

    fn replace_service(&mut self, name: ObjectName, compact: Option<CompactService>) {
        let old = self.holdings.services.remove(&name);
        let compact = match (compact, &old) {
            (Some(mut new), Some(old)) => {
                new.share_names(old);
                Some(new)
            }
            (new, _) => new,
        };
        self.move_claims(old.as_ref(), compact.as_ref());
        if let Some(compact) = compact {
            self.holdings.services.insert(name.clone(), compact);
        }
        self.touched.insert(name);
    }

    fn move_claims(&mut self, old: Option<&CompactService>, new: Option<&CompactService>) {
        let (old, new) = (claims(old), claims(new));
        let claims = &mut self.holdings.claims;
        for claim in old.iter().filter(|claim| !new.contains(claim)) {
            claims.remove(claim.frontend, &claim.claimant);
        }
        for gone in old.iter().filter(|claim| !new.iter().any(|other| other.party() == claim.party())) {
            claims.leave(gone.family, gone.claimant.clone());
        }
        for claim in new.into_iter().filter(|claim| !old.contains(claim)) {
            claims.add(claim.frontend, claim.claimant);
        }
    }

    fn put_slice(&mut self, slice: &object::EndpointSlice) {
        let name = self.shared(&slice.object_name());
        let mut findings = Findings::of(ObjectRef { kind: Kind::EndpointSlice, name: name.clone() });
        let read = CompactSlice::read(slice, &self.node_name, &mut self.interner, &mut findings);
        let read = read.map(|(service, compact)| {
            let service = self.interner.get(service);
            (ObjectName { namespace: Arc::clone(&name.namespace), name: service }, compact)
        });
        self.problems.replace(findings);
        self.replace_slice(&name, read);
    }

    fn replace_slice(&mut self, name: &ObjectName, read: Option<(ObjectName, CompactSlice)>) {
        let old_owner = self.owners.remove(name);
        if let Some(owner) = old_owner.filter(|old| read.as_ref().is_none_or(|(new, _)| new != old)) {
            self.remove_slice(&owner, &name.name);
        }
        if let Some((owner, compact)) = read {
            let slices = self.holdings.slices.entry(owner.clone()).or_default();
            match slices.binary_search_by(|(known, _)| known.cmp(&name.name)) {
                Ok(at) if slices[at].1 == compact => {}
                Ok(at) => {
                    slices[at].1 = compact;
                    self.touched.insert(owner.clone());
                }
                Err(at) => {
                    slices.insert(at, (Arc::clone(&name.name), compact));
                    slices.shrink_to_fit();
                    self.touched.insert(owner.clone());
                }
            }
            self.owners.insert(name.clone(), owner);
        }
    }

    fn remove_slice(&mut self, owner: &ObjectName, slice: &str) {
        if let Some(slices) = self.holdings.slices.get_mut(owner) {
            slices.retain(|(name, _)| **name != *slice);
            if slices.is_empty() {
                self.holdings.slices.remove(owner);
            }
        }
        self.touched.insert(owner.clone());
    }

    fn put_node(&mut self, node: &object::Node) {
        let name = node.object_name();
        if name.name.to_lowercase() != self.node_name {
            return;
        }
        let mut findings = Findings::of(ObjectRef { kind: Kind::Node, name });
        let state = read_node(node, &mut findings);
        self.problems.replace(findings);
        self.replace_node(state);
    }

    fn replace_node(&mut self, state: NodeState) {
        if state.zone != self.holdings.node.zone {
            let hinted = |slices: &Slices| slices.iter().any(|(_, slice)| slice.has_zone_hints());
            let slices = self.holdings.slices.iter().filter(|(_, slices)| hinted(slices));
            self.touched.extend(slices.map(|(service, _)| service.clone()));
        }
        if state != *self.holdings.node {
            self.holdings.node = Arc::new(state);
        }
    }

    fn put_service_cidr(&mut self, service_cidr: &object::ServiceCidr) {
        let name = service_cidr.object_name();
        let mut findings = Findings::of(ObjectRef { kind: Kind::ServiceCidr, name: name.clone() });
        let ranges = read_service_cidr(service_cidr, &mut findings);
        self.problems.replace(findings);
        self.service_cidrs.insert(name.name, ranges);
    }

    fn delete(&mut self, object: &ObjectRef) {
        self.problems.forget(object);
        match object.kind {
            Kind::Service => self.replace_service(object.name.clone(), None),
            Kind::EndpointSlice => self.replace_slice(&object.name, None),
            Kind::Node if object.name.name.to_lowercase() == self.node_name => {
                self.replace_node(NodeState::default());
            }
            Kind::Node => {}
            Kind::ServiceCidr => {
                self.service_cidrs.remove(&object.name.name);
            }
        }
    }

    /// Decides who holds which frontend; whoever may be affected is recomputed.
    fn settle_claims(&mut self) {
        let Holdings { services, claims, .. } = &mut self.holdings;
        let affected = claims.settle(|family, claimant| {
            let service = services.get(&owner(claimant));
            let port = service.and_then(|service| service.port(&claimant.name));
            service.zip(port).map(|(service, port)| service.frontends(port, family)).unwrap_or_default()
        });
        self.touched.extend(affected.iter().map(|(_, claimant)| owner(claimant)));
    }

    fn publish_service(&mut self, name: &ObjectName, delta: &mut Delta) {
        let mut refused = Findings::of(ObjectRef { kind: Kind::Service, name: name.clone() });
        let new = publish::service_ports(&self.holdings, name, &mut refused);
        self.refused_claims.replace(refused);
        let old = self.published.service_ports.remove(name).unwrap_or_default();
        let same = |a: &ServicePort, b: &ServicePort| a.family == b.family && a.name == b.name;
        let gone = old.iter().filter(|old| !new.iter().any(|new| same(old, new)));
        delta.changes.extend(gone.map(|gone| Change { before: Some(Arc::clone(gone)), after: None }));
        for new in &new {
            let before = old.iter().find(|old| same(old, new));
            if before != Some(new) {
                delta.changes.push(Change { before: before.cloned(), after: Some(Arc::clone(new)) });
            }
        }
        if !new.is_empty() {
            self.published.service_ports.insert(name.clone(), new.into());
        }
        self.publish_health_check(name, delta);
    }

    fn publish_health_check(&mut self, name: &ObjectName, delta: &mut Delta) {
        let new = publish::health_check(&self.holdings, name);
        let old = self.published.health_checks.remove(name);
        if new != old {
            delta.health_checks.push((name.clone(), new.clone()));
        }
        if let Some(new) = new {
            self.published.health_checks.insert(name.clone(), new);
        }
    }

    /// The same name, sharing its texts with others.
    fn shared(&mut self, name: &ObjectName) -> ObjectName {
        ObjectName { namespace: self.interner.get(&name.namespace), name: self.interner.get(&name.name) }
    }
}

/// The Service that a claimant is a port of.
fn owner(claimant: &Claimant) -> ObjectName {
    let name = &claimant.name;
    ObjectName { namespace: Arc::clone(&name.namespace), name: Arc::clone(&name.name) }
}

/// What a service port claims.
#[derive(PartialEq)]
struct Claim {
    family: Family,
    frontend: Frontend,
    claimant: Claimant,
}

impl Claim {
    fn party(&self) -> (Family, &Claimant) {
        (self.family, &self.claimant)
    }
}

fn claims(service: Option<&CompactService>) -> Vec<Claim> {
    let of_port = |service: &CompactService, port| {
        let claimant = service.claimant(port);
        let of_family = |family| {
            let frontends = service.frontends(port, family);
            frontends.into_iter().map(move |frontend| (family, frontend)).collect::<Vec<_>>()
        };
        let claims = Family::BOTH.into_iter().flat_map(of_family);
        claims
            .map(|(family, frontend)| Claim { family, frontend, claimant: claimant.clone() })
            .collect::<Vec<_>>()
    };
    service
        .into_iter()
        .flat_map(|service| service.ports.iter().flat_map(move |port| of_port(service, port)))
        .collect()
}
