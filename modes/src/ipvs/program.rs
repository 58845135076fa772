//! What we have programmed in one family, and how a change of services turns into operations. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use endpoint_cache::{Change, Protocol, ServicePort};
use kernel::ipset::Entry;
use kernel::ipvs::{Destination, Frontend, Operation, Persistence, Scheduler, Server, Target};

use super::draining::Draining;
use super::installed::{Found, Installed};
use super::service::{self, Served};
use super::sets::SetName;
use super::surroundings::Surroundings;

/// What several service ports may have in common. It goes with the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Shared {
    /// An address on our device.
    Address(IpAddr),
    /// An entry of a set.
    Entry(SetName, Entry),
}

/// What is to be done, in this order: no packet must meet a server before the rules know of it, and none must be taken
/// for the node's own when nobody serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) entered: Vec<(SetName, Entry)>,
    pub(super) served: Vec<Operation>,
    pub(super) bound: Vec<IpAddr>,
    pub(super) unbound: Vec<IpAddr>,
    pub(super) unserved: Vec<Operation>,
    pub(super) left: Vec<(SetName, Entry)>,
}

impl Plan {
    pub(super) fn operations(&self) -> usize {
        let Self { entered, served, bound, unbound, unserved, left } = self;
        entered.len() + served.len() + bound.len() + unbound.len() + unserved.len() + left.len()
    }
}

type Servers = BTreeMap<Frontend, Served>;

/// The state of one family, as far as the next change needs to know it.
#[derive(Debug)]
pub(super) struct Program {
    surroundings: Surroundings,
    scheduler: Scheduler,
    /// How many service ports need each, or servers that linger.
    uses: HashMap<Shared, u32>,
    draining: Draining,
    /// Servers that nobody wants any more, but for their connections, with what these need.
    lingering: BTreeMap<Frontend, Vec<Shared>>,
}

impl Program {
    /// What leads from what is in the kernel to what should be.
    pub(super) fn resync<'a>(
        surroundings: Surroundings,
        scheduler: Scheduler,
        services: impl Iterator<Item = &'a ServicePort>,
        installed: &Installed,
        earlier: Draining,
        now: Instant,
    ) -> (Self, Plan) {
        let mut program = Self {
            surroundings,
            scheduler,
            uses: HashMap::new(),
            draining: earlier,
            lingering: BTreeMap::new(),
        };
        let mut servers = BTreeMap::new();
        for service in services {
            let contribution = service::of(service, &program.surroundings);
            servers.extend(contribution.servers);
            let addresses = contribution.addresses.into_iter().map(Shared::Address);
            let entries = contribution.entries.into_iter().map(|(set, entry)| Shared::Entry(set, entry));
            for shared in addresses.chain(entries) {
                *program.uses.entry(shared).or_default() += 1;
            }
        }
        let mut plan = Plan::default();
        let stale = installed.stale(&servers);
        for (frontend, found) in &stale {
            if found.busy && program.keeps_connections(*frontend) {
                let needs = needed_by(*frontend).filter(|shared| installed.holds(shared)).collect();
                program.linger(*frontend, needs, found.weights.iter(), now, &mut plan);
            } else {
                plan.unserved.push(Operation::RemoveServer(*frontend));
            }
        }
        program.enter_addresses();
        let lingering = &program.lingering;
        let is_there = |of: Frontend| servers.contains_key(&of) || lingering.contains_key(&of);
        program.draining.keep_to(|frontend, _| is_there(frontend));
        for (frontend, served) in &servers {
            program.compare(*frontend, installed.servers.get(frontend), served, now, &mut plan);
        }
        for shared in program.uses.keys().filter(|shared| !installed.holds(shared)) {
            plan.come(*shared);
        }
        // The same each time, which the order of a hash table is not.
        plan.bound.sort_unstable();
        for shared in installed.shared().filter(|shared| !program.uses.contains_key(shared)) {
            plan.go(shared);
        }
        (program, plan)
    }

    /// The servers that some changes do without.
    pub(super) fn unwanted_after(&self, changes: &[Change]) -> Vec<Frontend> {
        if changes.iter().all(keeps_frontends) {
            return Vec::new();
        }
        let (before, after, _) = self.contributions(changes);
        let unwanted = before.into_keys().filter(|frontend| !after.contains_key(frontend));
        unwanted.filter(|frontend| self.keeps_connections(*frontend)).collect()
    }

    /// What leads from the state before some changes to the state after. Of the servers that they do without, some may
    /// have connections.
    pub(super) fn update(
        &mut self,
        changes: &[Change],
        is_busy: impl Fn(&Frontend) -> bool,
        now: Instant,
    ) -> Plan {
        let (before, after, mut uses) = self.contributions(changes);
        let mut plan = Plan::default();
        for (frontend, served) in before.iter().filter(|(frontend, _)| !after.contains_key(frontend)) {
            if is_busy(frontend) && self.keeps_connections(*frontend) {
                let is_going = |shared: &Shared| uses.get(shared).is_some_and(|difference| *difference < 0);
                let needs: Vec<_> = needed_by(*frontend).filter(is_going).collect();
                needs.iter().for_each(|shared| *uses.entry(*shared).or_default() += 1);
                let weights: Vec<_> = targets(served).map(|target| (target, WEIGHT)).collect();
                let weights = weights.iter().map(|(target, weight)| (target, weight));
                self.wind_down(*frontend, weights, now, &mut plan);
                self.lingering.insert(*frontend, needs);
            } else {
                self.draining.forget(*frontend);
                plan.unserved.push(Operation::RemoveServer(*frontend));
            }
        }
        for (frontend, served) in &after {
            match (before.get(frontend), self.lingering.remove(frontend)) {
                (Some(was), _) => self.change_server(*frontend, was, served, now, &mut plan),
                (None, Some(needs)) => {
                    needs.into_iter().for_each(|shared| *uses.entry(shared).or_default() -= 1);
                    self.revive(*frontend, served, &mut plan);
                }
                (None, None) => self.add_server(*frontend, served, &mut plan),
            }
        }
        for (shared, difference) in uses {
            self.change_uses(shared, difference, &mut plan);
        }
        plan
    }

    /// The servers before and after some changes, and how many more need what than before.
    fn contributions(&self, changes: &[Change]) -> (Servers, Servers, BTreeMap<Shared, i32>) {
        let family = self.surroundings.common.family;
        let (mut before, mut after, mut uses) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for change in changes {
            for (service, servers, difference) in
                [(&change.before, &mut before, -1), (&change.after, &mut after, 1)]
            {
                let Some(service) = service.as_deref().filter(|service| service.family == family) else {
                    continue;
                };
                let contribution = service::of(service, &self.surroundings);
                servers.extend(contribution.servers);
                let addresses = contribution.addresses.into_iter().map(Shared::Address);
                let entries = contribution.entries.into_iter().map(|(set, entry)| Shared::Entry(set, entry));
                for shared in addresses.chain(entries) {
                    *uses.entry(shared).or_default() += difference;
                }
            }
        }
        (before, after, uses)
    }

    /// Takes away the endpoints of a server that are done, and the server with them if it was there for them alone.
    pub(super) fn finish(&mut self, frontend: Frontend, found: &[Destination], now: Instant) -> Plan {
        let mut plan = Plan { unserved: self.draining.finish(frontend, found, now), ..Plan::default() };
        if !self.draining.has(frontend)
            && let Some(needs) = self.lingering.remove(&frontend)
        {
            plan.unserved = vec![Operation::RemoveServer(frontend)];
            needs.into_iter().for_each(|shared| self.change_uses(shared, -1, &mut plan));
        }
        plan
    }

    /// The node's own addresses, and what drains.
    pub(super) fn into_parts(self) -> (BTreeSet<IpAddr>, Draining) {
        (self.surroundings.local, self.draining)
    }

    /// The same, while it goes on.
    pub(super) fn parts(&self) -> (BTreeSet<IpAddr>, Draining) {
        (self.surroundings.local.clone(), self.draining.clone())
    }

    /// Servers with endpoints that drain.
    pub(super) fn draining_frontends(&self) -> Vec<Frontend> {
        self.draining.frontends()
    }

    pub(super) fn drains_any(&self) -> bool {
        !self.draining.is_empty()
    }

    /// Whether a service port contributes one of some servers.
    pub(super) fn contributes(&self, service: &ServicePort, is_one: impl Fn(&Frontend) -> bool) -> bool {
        service::of(service, &self.surroundings).servers.keys().any(is_one)
    }

    /// Addresses of ours are in a set too.
    fn enter_addresses(&mut self) {
        let addresses = self.uses.iter().filter_map(|(shared, uses)| match shared {
            Shared::Address(address) => Some((ipvs_ip(*address), *uses)),
            Shared::Entry(..) => None,
        });
        let addresses: Vec<_> = addresses.collect();
        self.uses.extend(addresses);
    }

    fn change_uses(&mut self, shared: Shared, difference: i32, plan: &mut Plan) {
        if let Shared::Address(address) = shared {
            self.change_uses(ipvs_ip(address), difference, plan);
        }
        let was = self.uses.get(&shared).copied().unwrap_or_default();
        let is = was.saturating_add_signed(difference);
        match (was, is) {
            (0, 0) => {}
            (0, _) => plan.come(shared),
            (_, 0) => plan.go(shared),
            _ => {}
        }
        if is == 0 {
            self.uses.remove(&shared);
        } else {
            self.uses.insert(shared, is);
        }
    }

    /// A server that was found and that nobody wants stays for its connections.
    fn linger<'a>(
        &mut self,
        frontend: Frontend,
        needs: Vec<Shared>,
        weights: impl Iterator<Item = (&'a Target, &'a u32)>,
        now: Instant,
        plan: &mut Plan,
    ) {
        self.wind_down(frontend, weights, now, plan);
        needs.iter().for_each(|shared| *self.uses.entry(*shared).or_default() += 1);
        self.lingering.insert(frontend, needs);
    }

    /// No destination of a server gets anything new.
    fn wind_down<'a>(
        &mut self,
        frontend: Frontend,
        weights: impl Iterator<Item = (&'a Target, &'a u32)>,
        now: Instant,
        plan: &mut Plan,
    ) {
        for (target, weight) in weights {
            if *weight > 0 {
                plan.served.push(Operation::SetDestination(frontend, *target, 0));
            }
            self.draining.insert(frontend, *target, now);
        }
    }

    /// A server that lingers is wanted again.
    fn revive(&mut self, frontend: Frontend, served: &Served, plan: &mut Plan) {
        plan.served.push(Operation::SetServer(self.server(frontend, served)));
        for target in targets(served) {
            let is_there = self.draining.remove(frontend, target);
            plan.served.push(bring(frontend, target, is_there));
        }
    }

    fn add_server(&self, frontend: Frontend, served: &Served, plan: &mut Plan) {
        plan.served.push(Operation::AddServer(self.server(frontend, served)));
        let targets = targets(served).map(|target| Operation::AddDestination(frontend, target, WEIGHT));
        plan.served.extend(targets);
    }

    fn change_server(
        &mut self,
        frontend: Frontend,
        was: &Served,
        is: &Served,
        now: Instant,
        plan: &mut Plan,
    ) {
        if was == is {
            return;
        }
        if was.affinity_seconds != is.affinity_seconds {
            plan.served.push(Operation::SetServer(self.server(frontend, is)));
        }
        let (old, new) = (targets(was).collect::<Vec<_>>(), targets(is).collect::<Vec<_>>());
        for target in new.iter().filter(|target| old.binary_search(target).is_err()) {
            let back = self.draining.remove(frontend, *target);
            plan.served.push(bring(frontend, *target, back));
        }
        for target in self.draining.of(frontend) {
            self.retire_further(frontend, target, is, plan);
        }
        for target in old.iter().filter(|target| new.binary_search(target).is_err()) {
            self.retire(frontend, *target, is, now, plan);
        }
    }

    /// Brings a server from what was found to what should be.
    fn compare(
        &mut self,
        frontend: Frontend,
        found: Option<&Found>,
        served: &Served,
        now: Instant,
        plan: &mut Plan,
    ) {
        let Some(found) = found else { return self.add_server(frontend, served, plan) };
        let server = self.server(frontend, served);
        if found.server != server {
            plan.served.push(Operation::SetServer(server));
        }
        let wanted: Vec<_> = targets(served).collect();
        for target in &wanted {
            self.draining.remove(frontend, *target);
            match found.weights.get(target) {
                Some(&WEIGHT) => {}
                Some(_) => plan.served.push(bring(frontend, *target, true)),
                None => plan.served.push(bring(frontend, *target, false)),
            }
        }
        let stale = found.weights.iter().filter(|(target, _)| wanted.binary_search(target).is_err());
        for (target, weight) in stale {
            match weight {
                // Somebody has begun already.
                0 if self.drains(frontend, *target, served) => self.draining.insert(frontend, *target, now),
                _ => self.retire(frontend, *target, served, now, plan),
            }
        }
        self.draining.keep_to(|of, target| of != frontend || found.weights.contains_key(&target));
    }

    /// Nothing new goes to an endpoint any more; connections under way go on.
    fn retire(&mut self, frontend: Frontend, target: Target, served: &Served, now: Instant, plan: &mut Plan) {
        if self.drains(frontend, target, served) {
            plan.served.push(Operation::SetDestination(frontend, target, 0));
            self.draining.insert(frontend, target, now);
        } else {
            plan.unserved.push(Operation::RemoveDestination(frontend, target));
        }
    }

    /// An endpoint that is draining may have stopped to answer.
    fn retire_further(&mut self, frontend: Frontend, target: Target, served: &Served, plan: &mut Plan) {
        if !self.drains(frontend, target, served) {
            self.draining.remove(frontend, target);
            plan.unserved.push(Operation::RemoveDestination(frontend, target));
        }
    }

    /// Whether a destination may stay for its connections.
    fn drains(&self, frontend: Frontend, target: Target, served: &Served) -> bool {
        let still_answers = self.scheduler.as_str() != DH && served.may_keep(target);
        still_answers || self.keeps_connections(frontend)
    }

    /// Whether what goes may stay for its connections. Others than TCP's would not notice soon that nobody answers, and
    /// go as their flows do in the other modes. `dh` goes on choosing what has weight 0, and refuses then.
    fn keeps_connections(&self, frontend: Frontend) -> bool {
        let tcp = Protocol::Tcp.number();
        let of_tcp = matches!(frontend, Frontend::Address { protocol, .. } if protocol == tcp);
        of_tcp && self.scheduler.as_str() != DH
    }

    fn server(&self, frontend: Frontend, served: &Served) -> Server {
        let prefix = if self.surroundings.common.family == endpoint_cache::Family::V6 { 128 } else { 32 };
        let persistence = served.affinity_seconds.map(|seconds| Persistence { seconds, prefix });
        Server { frontend, scheduler: self.scheduler, persistence }
    }
}

/// The scheduler that does not look at weights.
const DH: &str = "dh";

/// Of every endpoint that is used.
const WEIGHT: u32 = 1;

/// Whether a service port answers to what it answered to, as most changes have it.
fn keeps_frontends(change: &Change) -> bool {
    let frontends = |service: &ServicePort| {
        let addresses: Vec<_> =
            std::iter::once(service.cluster_ip).chain(service.external_addresses()).collect();
        (addresses, service.port, service.node_port, service.name.protocol)
    };
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => frontends(before) == frontends(after),
        (None, _) => true,
        (Some(_), None) => false,
    }
}

fn bring(frontend: Frontend, target: Target, is_there: bool) -> Operation {
    match is_there {
        true => Operation::SetDestination(frontend, target, WEIGHT),
        false => Operation::AddDestination(frontend, target, WEIGHT),
    }
}

fn targets(served: &Served) -> impl Iterator<Item = Target> + '_ {
    served.endpoints.iter().map(|endpoint| Target { address: endpoint.address, port: endpoint.port })
}

/// What a server may answer by that others have too, or be known by for ours.
fn needed_by(frontend: Frontend) -> impl Iterator<Item = Shared> {
    const BY_ADDRESS: [SetName; 8] = [
        SetName::ClusterIp,
        SetName::ExternalIp,
        SetName::ExternalIpLocal,
        SetName::LoadBalancer,
        SetName::LoadBalancerLocal,
        SetName::LoadBalancerFw,
        SetName::NodePort(Protocol::Sctp),
        SetName::NodePortLocal(Protocol::Sctp),
    ];
    let of = |address, protocol, port| {
        let by_address = BY_ADDRESS.map(|set| Shared::Entry(set, Entry::IpPort { address, protocol, port }));
        let known =
            [Protocol::Tcp, Protocol::Udp].into_iter().filter(move |known| known.number() == protocol);
        let sets = known.flat_map(|known| [SetName::NodePort(known), SetName::NodePortLocal(known)]);
        let by_port = sets.map(move |set| Shared::Entry(set, Entry::Port(port)));
        std::iter::once(Shared::Address(address)).chain(by_address).chain(by_port)
    };
    match frontend {
        Frontend::Address { address, protocol, port } => Some(of(address, protocol, port)),
        Frontend::Mark { .. } => None,
    }
    .into_iter()
    .flatten()
}

fn ipvs_ip(address: IpAddr) -> Shared {
    Shared::Entry(SetName::IpvsIps, Entry::Ip(address))
}

impl Plan {
    fn come(&mut self, shared: Shared) {
        match shared {
            Shared::Address(address) => self.bound.push(address),
            Shared::Entry(set, entry) => self.entered.push((set, entry)),
        }
    }

    fn go(&mut self, shared: Shared) {
        match shared {
            Shared::Address(address) => self.unbound.push(address),
            Shared::Entry(set, entry) => self.left.push((set, entry)),
        }
    }
}
