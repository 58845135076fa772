//! The pure half: whatever way leads to a state, the kernel ends up the same, and reading it back finds nothing to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint_cache::{Change, Desired, Endpoint, Family, Protocol, ServicePort, TrafficPolicy};
use kernel::ipset::Entry;
use kernel::ipvs::{Destination, Frontend, Operation, Scheduler, Server, Target, Traffic};
use kernel::link::Address;
use proptest::prelude::*;

use super::draining::Draining;
use super::installed::{Found, Installed};
use super::program::{Plan, Program};
use super::sets::SetName;
use super::surroundings::Surroundings;
use crate::Settings;
use crate::testing::{changes, plain, services, state};

/// The kernel, as far as this mode sees it. It refuses what the kernel refuses.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kernel {
    servers: BTreeMap<Frontend, (Server, BTreeMap<Target, u32>)>,
    entries: BTreeSet<(SetName, Entry)>,
    addresses: BTreeSet<IpAddr>,
}

impl Kernel {
    fn run(&mut self, plan: &Plan) {
        plan.entered.iter().for_each(|entry| assert!(self.entries.insert(*entry), "{entry:?} is there"));
        self.serve(&plan.served);
        for address in &plan.bound {
            assert!(self.is_served(*address), "{address} is taken for the node's own, and nobody serves it");
            assert!(self.addresses.insert(*address), "{address} is there");
        }
        plan.unbound
            .iter()
            .for_each(|address| assert!(self.addresses.remove(address), "{address} is not there"));
        self.serve(&plan.unserved);
        plan.left.iter().for_each(|entry| assert!(self.entries.remove(entry), "{entry:?} is not there"));
    }

    fn is_served(&self, ip: IpAddr) -> bool {
        self.servers
            .keys()
            .any(|frontend| matches!(frontend, Frontend::Address { address, .. } if *address == ip))
    }

    fn serve(&mut self, operations: &[Operation]) {
        for operation in operations {
            match *operation {
                Operation::AddServer(server) => {
                    assert!(self.servers.insert(server.frontend, (server, BTreeMap::new())).is_none());
                }
                Operation::SetServer(server) => self.servers.get_mut(&server.frontend).unwrap().0 = server,
                Operation::RemoveServer(of) => assert!(self.servers.remove(&of).is_some()),
                Operation::AddDestination(of, target, weight) => {
                    assert!(self.servers.get_mut(&of).unwrap().1.insert(target, weight).is_none());
                }
                Operation::SetDestination(of, target, weight) => {
                    assert!(self.servers.get_mut(&of).unwrap().1.insert(target, weight).is_some());
                }
                Operation::RemoveDestination(of, target) => {
                    assert!(self.servers.get_mut(&of).unwrap().1.remove(&target).is_some());
                }
            }
        }
    }

    fn installed(&self) -> Installed {
        let found = |(server, weights): &(Server, BTreeMap<Target, u32>)| Found {
            server: *server,
            weights: weights.clone(),
        };
        let mut installed = Installed {
            servers: self.servers.iter().map(|(of, server)| (*of, found(server))).collect(),
            addresses: self.addresses.clone(),
            local: [NODE.into()].into(),
            ..Installed::default()
        };
        for (set, entry) in &self.entries {
            installed.entries.entry(*set).or_default().insert(*entry);
        }
        installed
    }

    /// What new connections meet.
    fn in_use(mut self) -> Self {
        self.servers.values_mut().for_each(|(_, weights)| weights.retain(|_, weight| *weight > 0));
        self
    }
}

const NODE: [u8; 4] = [192, 168, 0, 2];

fn surroundings(settings: &Settings) -> Surroundings {
    let address = Address { link: 2, address: NODE.into(), prefix: 24, link_local_scope: false };
    let loopback = Address { link: 1, address: [127, 0, 0, 1].into(), prefix: 8, link_local_scope: false };
    let desired = Desired::default();
    Surroundings::new(Family::V4, settings, &desired, &[loopback, address])
}

fn rr() -> Scheduler {
    Scheduler::default()
}

/// Puts right what is in a kernel; only what belongs to IPv4.
fn resync<'a>(
    kernel: &mut Kernel,
    services: impl IntoIterator<Item = &'a Arc<ServicePort>>,
    scheduler: Scheduler,
) -> (Program, Plan) {
    let services = services.into_iter().map(AsRef::as_ref).filter(|service| service.family == Family::V4);
    let settings = surroundings(&Settings::default());
    let (program, plan) = Program::resync(
        settings,
        scheduler,
        services,
        &kernel.installed(),
        Draining::default(),
        Instant::now(),
    );
    kernel.run(&plan);
    (program, plan)
}

/// A destination that was found, with so many connections.
fn found(target: Target, active: u32, inactive: u32) -> Destination {
    Destination {
        target,
        weight: 0,
        active,
        inactive,
        persistent: 0,
        masquerades: true,
        upper_threshold: 0,
        lower_threshold: 0,
        connections: 0,
        incoming: Traffic::default(),
        outgoing: Traffic::default(),
    }
}

proptest! {
    #[test]
    fn changes_lead_where_a_fresh_start_leads(states in proptest::collection::vec(state(), 2..5)) {
        let states: Vec<_> = states.iter().map(services).collect();
        let mut kernel = Kernel::default();
        let (mut program, _) = resync(&mut kernel, states[0].values(), rr());
        for pair in states.windows(2) {
            let plan = program.update(&changes(&pair[0], &pair[1]), Instant::now());
            kernel.run(&plan);
            let mut fresh = Kernel::default();
            resync(&mut fresh, pair[1].values(), rr());
            prop_assert_eq!(&kernel.clone().in_use(), &fresh);
            let (_, again) = resync(&mut kernel.clone(), pair[1].values(), rr());
            prop_assert_eq!(again.operations(), 0);
        }
    }

    #[test]
    fn a_restart_finds_what_changed(before in state(), after in state()) {
        let (before, after) = (services(&before), services(&after));
        let mut kernel = Kernel::default();
        resync(&mut kernel, before.values(), rr());
        resync(&mut kernel, after.values(), rr());
        let mut fresh = Kernel::default();
        resync(&mut fresh, after.values(), rr());
        prop_assert_eq!(kernel.in_use(), fresh);
    }

    #[test]
    fn in_whatever_step_it_dies_the_next_start_leads_to_the_same(before in state(), after in state(), steps in 0usize..6) {
        let (before, after) = (services(&before), services(&after));
        let mut kernel = Kernel::default();
        let (mut program, _) = resync(&mut kernel, before.values(), rr());
        let mut plan = program.update(&changes(&before, &after), Instant::now());
        let cut: [&mut dyn FnMut(&mut Plan); 6] = [
            &mut |plan| plan.entered.clear(),
            &mut |plan| plan.served.clear(),
            &mut |plan| plan.bound.clear(),
            &mut |plan| plan.unbound.clear(),
            &mut |plan| plan.unserved.clear(),
            &mut |plan| plan.left.clear(),
        ];
        cut.into_iter().skip(steps).for_each(|cut| cut(&mut plan));
        kernel.run(&plan);
        resync(&mut kernel, after.values(), rr());
        let mut fresh = Kernel::default();
        resync(&mut fresh, after.values(), rr());
        prop_assert_eq!(kernel.in_use(), fresh);
    }
}

fn change(before: &Arc<ServicePort>, after: &Arc<ServicePort>) -> [Change; 1] {
    [Change { before: Some(Arc::clone(before)), after: Some(Arc::clone(after)) }]
}

fn target(number: u8) -> Target {
    Target { address: [10, 1, 0, number].into(), port: 8080 }
}

/// The virtual server of the plain service.
fn frontend(service: &ServicePort) -> Frontend {
    Frontend::Address {
        address: service.cluster_ip,
        protocol: service.name.protocol.number(),
        port: service.port,
    }
}

#[test]
fn an_endpoint_that_is_replaced_takes_two_operations() {
    let mut kernel = Kernel::default();
    let (before, after) = (plain([1, 2]), plain([2, 4]));
    let (mut program, _) = resync(&mut kernel, [&before], rr());
    let plan = program.update(&change(&before, &after), Instant::now());
    let of = frontend(&before);
    let expected = [Operation::AddDestination(of, target(4), 1), Operation::SetDestination(of, target(1), 0)];
    assert_eq!((plan.served.as_slice(), plan.operations()), (&expected[..], 2));
}

#[test]
fn an_endpoint_goes_when_its_connections_have_gone_or_its_time_is_over() {
    let mut kernel = Kernel::default();
    let (before, after) = (plain([1, 2, 4]), plain([4]));
    let (mut program, _) = resync(&mut kernel, [&before], rr());
    let now = Instant::now();
    program.update(&change(&before, &after), now);
    let of = frontend(&before);
    let removed = |number| Operation::RemoveDestination(of, target(number));
    let draining = program.draining();
    let busy = [found(target(1), 0, 1), found(target(2), 1, 0), found(target(4), 0, 0)];
    assert_eq!(draining.finish(of, &busy, now), []);
    let one_done = [found(target(1), 0, 0), found(target(2), 1, 0)];
    assert_eq!(draining.finish(of, &one_done, now), [removed(1)]);
    let still = [found(target(2), 1, 0)];
    assert_eq!(draining.finish(of, &still, now + Duration::from_secs(14 * 60)), []);
    assert_eq!(draining.finish(of, &still, now + Duration::from_secs(15 * 60)), [removed(2)]);
    assert!(!program.drains_any());
}

#[test]
fn an_endpoint_that_comes_back_while_it_drains_is_used_again() {
    let mut kernel = Kernel::default();
    let (with, without) = (plain([1, 2]), plain([2]));
    let (mut program, _) = resync(&mut kernel, [&with], rr());
    kernel.run(&program.update(&change(&with, &without), Instant::now()));
    let plan = program.update(&change(&without, &with), Instant::now());
    assert_eq!(plan.served, [Operation::SetDestination(frontend(&with), target(1), 1)]);
    assert!(!program.drains_any());
}

#[test]
fn what_somebody_left_draining_goes_on_draining() {
    let mut kernel = Kernel::default();
    let (before, after) = (plain([1, 2]), plain([2]));
    let (mut program, _) = resync(&mut kernel, [&before], rr());
    kernel.run(&program.update(&change(&before, &after), Instant::now()));
    let (program, plan) = resync(&mut kernel, [&after], rr());
    assert_eq!((plan.operations(), program.drains_any()), (0, true));
}

/// The same over UDP.
fn udp(service: &ServicePort) -> Arc<ServicePort> {
    let mut name = (*service.name).clone();
    name.protocol = Protocol::Udp;
    Arc::new(ServicePort { name: Arc::new(name), ..service.clone() })
}

#[test]
fn over_udp_an_endpoint_goes_at_once_unless_it_still_serves() {
    let mut kernel = Kernel::default();
    let (before, gone) = (udp(&plain([1, 2])), udp(&plain([2])));
    let terminating =
        Arc::new(ServicePort { serving_endpoints: Arc::clone(&before.serving_endpoints), ..(*gone).clone() });
    let of = frontend(&before);
    let (mut program, _) = resync(&mut kernel, [&before], rr());
    let plan = program.update(&change(&before, &terminating), Instant::now());
    assert_eq!(plan.served, [Operation::SetDestination(of, target(1), 0)]);
    let plan = program.update(&change(&terminating, &gone), Instant::now());
    assert_eq!(plan.unserved, [Operation::RemoveDestination(of, target(1))]);
    assert!(!program.drains_any());
}

#[test]
fn dh_would_refuse_what_it_hashes_to_an_endpoint_that_drains() {
    let mut kernel = Kernel::default();
    let (before, after) = (plain([1, 2]), plain([2]));
    let (mut program, _) = resync(&mut kernel, [&before], "dh".parse().unwrap());
    let plan = program.update(&change(&before, &after), Instant::now());
    assert_eq!(plan.unserved, [Operation::RemoveDestination(frontend(&before), target(1))]);
}

/// A virtual server of somebody else, at an address of the node.
fn foreign(port: u16) -> (Frontend, (Server, BTreeMap<Target, u32>)) {
    let frontend = Frontend::Address { address: NODE.into(), protocol: 6, port };
    (frontend, (Server { frontend, scheduler: rr(), persistence: None }, BTreeMap::new()))
}

#[test]
fn virtual_servers_of_others_are_left_alone() {
    let mut kernel = Kernel::default();
    let with_node_port = Arc::new(ServicePort { node_port: Some(30_080), ..(*plain([1])).clone() });
    resync(&mut kernel, [&with_node_port], rr());
    kernel.servers.extend([foreign(443), foreign(30_443)]);
    let (_, plan) = resync(&mut kernel, [&plain([1])], rr());
    let node_port = Frontend::Address { address: NODE.into(), protocol: 6, port: 30_080 };
    assert_eq!(plan.unserved, [Operation::RemoveServer(node_port)]);
    resync(&mut kernel, [], rr());
    assert_eq!(kernel.servers.into_keys().collect::<Vec<_>>(), [foreign(443).0, foreign(30_443).0]);
}

#[test]
fn virtual_servers_within_excluded_ranges_stay() {
    let mut kernel = Kernel::default();
    let service = plain([1]);
    resync(&mut kernel, [&service], rr());
    let excluded = vec![format!("{}/32", service.cluster_ip).parse().unwrap()];
    let installed = Installed { excluded, ..kernel.installed() };
    assert_eq!(installed.stale(&BTreeMap::new()), []);
    assert_eq!(kernel.installed().stale(&BTreeMap::new()), [frontend(&service)]);
}

#[test]
fn addresses_that_the_node_has_anyway_are_not_bound() {
    let mut kernel = Kernel::default();
    let service = ServicePort { external_ips: [NODE.into()].into(), ..(*plain([1])).clone() };
    resync(&mut kernel, [&Arc::new(service.clone())], rr());
    assert_eq!(kernel.addresses, [service.cluster_ip].into());
    let ours: Vec<_> = kernel.entries.iter().filter(|(set, _)| *set == SetName::IpvsIps).collect();
    assert_eq!(ours, [&(SetName::IpvsIps, Entry::Ip(service.cluster_ip))]);
}

#[test]
fn policy_local_without_an_endpoint_here_serves_this_node_and_keeps_others_away() {
    let local = TrafficPolicy::Local;
    let remote = Endpoint { address: [10, 1, 0, 1].into(), port: 8080, local: false };
    let service = ServicePort {
        external_ips: [[10, 9, 0, 1].into()].into(),
        external_policy: local,
        internal_policy: local,
        cluster_endpoints: [remote].into(),
        local_endpoints: [].into(),
        ..(*plain([])).clone()
    };
    let mut kernel = Kernel::default();
    resync(&mut kernel, [&Arc::new(service.clone())], rr());
    let of = |address: IpAddr| Frontend::Address { address, protocol: 6, port: service.port };
    assert_eq!(kernel.servers[&of([10, 9, 0, 1].into())].1, [(target(1), 1)].into());
    assert_eq!(kernel.servers[&of(service.cluster_ip)].1, BTreeMap::new());
    let entry = |address| Entry::IpPort { address, protocol: 6, port: service.port };
    let inside = (SetName::NoLocalInternal, entry(service.cluster_ip));
    let outside = (SetName::NoLocalExternal, entry([10, 9, 0, 1].into()));
    assert!(kernel.entries.is_superset(&[inside, outside].into()), "{:?}", kernel.entries);
}

#[test]
fn sets_have_the_kinds_of_their_entries() {
    let kinds: HashMap<_, _> = SetName::ALL.map(|set| (set, set.kind().to_string())).into();
    assert_eq!(kinds[&SetName::LoopBack], "hash:ip,port,ip");
    assert_eq!(kinds[&SetName::LoadBalancerSourceCidr], "hash:ip,port,net");
    assert_eq!(kinds[&SetName::NodePort(Protocol::Tcp)], "bitmap:port");
    assert_eq!(kinds[&SetName::NodePort(Protocol::Sctp)], "hash:ip,port");
    assert_eq!(kinds[&SetName::ClusterIp], "hash:ip,port");
    assert_eq!(kinds[&SetName::IpvsIps], "hash:ip");
}
