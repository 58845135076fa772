//! What we have programmed in one family, and how a change of services turns into operations. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use endpoint_cache::{Change, Protocol, ServicePort};
use kernel::ipset::Entry;
use kernel::ipvs::{Frontend, Operation, Persistence, Scheduler, Server, Target};

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

/// The state of one family, as far as the next change needs to know it.
#[derive(Debug)]
pub(super) struct Program {
    surroundings: Surroundings,
    scheduler: Scheduler,
    /// How many service ports need each.
    uses: HashMap<Shared, u32>,
    draining: Draining,
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
        let mut program = Self { surroundings, scheduler, uses: HashMap::new(), draining: earlier };
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
        program.enter_addresses();
        let mut plan = Plan::default();
        program.draining.keep_to(|frontend, _| servers.contains_key(&frontend));
        for (frontend, served) in &servers {
            program.compare(*frontend, installed.servers.get(frontend), served, now, &mut plan);
        }
        let stale = installed.stale(&servers);
        plan.unserved.extend(stale.into_iter().map(Operation::RemoveServer));
        for shared in program.uses.keys().filter(|shared| !installed.holds(shared)) {
            plan.come(*shared);
        }
        for shared in installed.shared().filter(|shared| !program.uses.contains_key(shared)) {
            plan.go(shared);
        }
        (program, plan)
    }

    /// What leads from the state before some changes to the state after.
    pub(super) fn update(&mut self, changes: &[Change], now: Instant) -> Plan {
        let family = self.surroundings.common.family;
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        let mut uses: BTreeMap<Shared, i32> = BTreeMap::new();
        for change in changes {
            for (service, servers, difference) in
                [(&change.before, &mut before, -1), (&change.after, &mut after, 1)]
            {
                let Some(service) = service.as_deref().filter(|service| service.family == family) else {
                    continue;
                };
                let contribution = service::of(service, &self.surroundings);
                servers.extend(contribution.servers);
                for address in contribution.addresses {
                    *uses.entry(Shared::Address(address)).or_default() += difference;
                }
                for (set, entry) in contribution.entries {
                    *uses.entry(Shared::Entry(set, entry)).or_default() += difference;
                }
            }
        }
        let mut plan = Plan::default();
        for (shared, difference) in uses {
            self.change_uses(shared, difference, &mut plan);
        }
        for (frontend, served) in &after {
            match before.get(frontend) {
                Some(was) => self.change_server(*frontend, was, served, now, &mut plan),
                None => self.add_server(*frontend, served, &mut plan),
            }
        }
        for frontend in before.keys().filter(|frontend| !after.contains_key(frontend)) {
            self.draining.forget(*frontend);
            plan.unserved.push(Operation::RemoveServer(*frontend));
        }
        plan
    }

    /// The node's own addresses, and what drains.
    pub(super) fn into_parts(self) -> (BTreeSet<IpAddr>, Draining) {
        (self.surroundings.local, self.draining)
    }

    pub(super) fn draining(&mut self) -> &mut Draining {
        &mut self.draining
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

    /// Whether a destination may stay for its connections. Others than TCP's would not notice soon that nobody answers,
    /// and go as their flows do in the other modes. `dh`
    /// goes on choosing what has weight 0, and refuses then.
    fn drains(&self, frontend: Frontend, target: Target, served: &Served) -> bool {
        let tcp = Protocol::Tcp.number();
        let connectionless = matches!(frontend, Frontend::Address { protocol, .. } if protocol != tcp);
        self.scheduler.as_str() != "dh" && (!connectionless || served.may_keep(target))
    }

    fn server(&self, frontend: Frontend, served: &Served) -> Server {
        let prefix = if self.surroundings.common.family == endpoint_cache::Family::V6 { 128 } else { 32 };
        let persistence = served.affinity_seconds.map(|seconds| Persistence { seconds, prefix });
        Server { frontend, scheduler: self.scheduler, persistence }
    }
}

/// Of every endpoint that is used.
const WEIGHT: u32 = 1;

fn bring(frontend: Frontend, target: Target, is_there: bool) -> Operation {
    match is_there {
        true => Operation::SetDestination(frontend, target, WEIGHT),
        false => Operation::AddDestination(frontend, target, WEIGHT),
    }
}

fn targets(served: &Served) -> impl Iterator<Item = Target> + '_ {
    served.endpoints.iter().map(|endpoint| Target { address: endpoint.address, port: endpoint.port })
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
