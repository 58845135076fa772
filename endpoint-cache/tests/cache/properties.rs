//! What holds for any cluster and any history.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::object::{EndpointSlice, Kind, ObjectName, ObjectRef};
use endpoint_cache::{
    Cache, Delta, Endpoint, Family, HealthCheck, NodeState, ServicePort, ServicePortName, Update,
};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::generate::{Claiming, claiming, endpoint, object_of, update};
use crate::objects::*;
use crate::oracle;

type Programmed = BTreeMap<(ServicePortName, Family), Arc<ServicePort>>;
type HealthChecks = BTreeMap<ObjectName, HealthCheck>;

/// A cache's state as it looks from outside.
type Seen = (Vec<Arc<ServicePort>>, NodeState, Vec<IpNet>);

fn seen(cache: &Cache) -> Seen {
    let desired = cache.desired();
    (desired.service_ports, (*desired.node).clone(), desired.service_cidrs.to_vec())
}

/// The last word on every object.
fn final_objects(history: &[Update]) -> Vec<Update> {
    let mut last: HashMap<ObjectRef, Update> = HashMap::new();
    for update in history {
        last.insert(object_of(update), update.clone());
    }
    let mut objects: Vec<_> = last.into_values().filter(|u| !matches!(u, Update::Deleted(_))).collect();
    objects.sort_by_key(object_of);
    objects
}

/// Programs a delta, and checks that it starts from what is programmed.
fn program(delta: &Delta, programmed: &mut Programmed, health_checks: &mut HealthChecks) {
    let mut phase = 0;
    for change in &delta.changes {
        let either = change.after.as_ref().or(change.before.as_ref()).expect("a change of something");
        let key = ((*either.name).clone(), either.family);
        assert_eq!(programmed.get(&key), change.before.as_ref(), "before is what was held");
        assert_ne!(change.before, change.after, "a change changes something");
        let this = match (&change.before, &change.after) {
            (_, None) => 0,
            (Some(_), Some(_)) => 1,
            (None, Some(_)) => 2,
        };
        assert!(this >= phase, "removals, changes, additions");
        phase = this;
        match &change.after {
            Some(after) => programmed.insert(key, Arc::clone(after)),
            None => programmed.remove(&key),
        };
    }
    for (name, check) in &delta.health_checks {
        assert_ne!(health_checks.get(name), check.as_ref(), "a change changes something");
        match check {
            Some(check) => health_checks.insert(name.clone(), check.clone()),
            None => health_checks.remove(name),
        };
    }
}

/// No two service ports share a frontend, and no list is out of order.
fn assert_sound(ports: &[Arc<ServicePort>]) {
    let mut addresses = HashSet::new();
    let mut node_ports = HashSet::new();
    for port in ports {
        let protocol = port.name.protocol;
        for address in port.external_addresses().chain([port.cluster_ip]) {
            assert!(addresses.insert((address, protocol, port.port)), "{address} twice: {ports:?}");
            assert_eq!(Family::of(address), port.family);
        }
        if let Some(number) = port.node_port {
            assert!(node_ports.insert((port.family, protocol, number)), "{number} twice: {ports:?}");
        }
        for list in [&port.cluster_endpoints, &port.local_endpoints, &port.serving_endpoints] {
            assert!(list.is_sorted_by_key(|e| (e.address, e.port)), "{list:?}");
            let distinct: BTreeSet<_> = list.iter().map(|e| (e.address, e.port)).collect();
            assert_eq!(distinct.len(), list.len(), "{list:?}");
        }
        assert!(port.local_endpoints.iter().all(|e| e.local));
    }
}

/// A history, and after which of its updates the delta is taken.
fn history() -> impl Strategy<Value = Vec<(Update, bool)>> {
    vec((update(), any::<bool>()), 0..60)
}

/// Services coming and changing, whether it is rather the Service's end, and whether the delta is taken then.
fn contention() -> impl Strategy<Value = Vec<(Claiming, bool, bool)>> {
    vec((claiming(), prop::bool::weighted(0.25), any::<bool>()), 0..30)
}

/// Name, external IPs in their order, node port.
fn gets(port: &ServicePort) -> (String, Vec<String>, Option<i32>) {
    let external: BTreeSet<_> = port.external_ips.iter().map(ToString::to_string).collect();
    (port.name.name.to_string(), external.into_iter().collect(), port.node_port.map(i32::from))
}

fn slices() -> impl Strategy<Value = Vec<EndpointSlice>> {
    let endpoints = vec(endpoint(&["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"]), 0..5);
    let port = (select(&["", "", "other"][..]), select(&["TCP", "", "UDP"][..]), select(&[8080, 8081][..]))
        .prop_map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "port": port}));
    let fields = (endpoints, vec(port, 1..3))
        .prop_map(|(endpoints, ports)| json!({"endpoints": endpoints, "ports": ports}));
    vec(fields, 0..4).prop_map(|slices| {
        let named = slices.into_iter().enumerate().map(|(number, fields)| (format!("web-{number}"), fields));
        let slice = |(name, fields): (String, _)| match slice_with(&name, "web", fields) {
            Update::EndpointSlice(slice) => slice,
            other => panic!("not a slice: {other:?}"),
        };
        named.map(slice).collect()
    })
}

fn places(endpoints: &[Endpoint]) -> BTreeSet<(IpAddr, u16)> {
    endpoints.iter().map(|e| (e.address, e.port)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn history_leaves_no_trace(history in history(), seed in any::<u64>()) {
        let mut lived = Cache::new(NODE);
        for (update, look) in &history {
            lived.apply(update.clone());
            if *look {
                lived.take_delta();
            }
        }
        lived.take_delta();
        let updates: Vec<_> = history.into_iter().map(|(update, _)| update).collect();
        let mut objects = final_objects(&updates);
        let turn = usize::try_from(seed % 1000).unwrap() % objects.len().max(1);
        objects.rotate_left(turn);
        let mut fresh = Cache::new(NODE);
        objects.into_iter().for_each(|object| fresh.apply(object));
        fresh.take_delta();
        prop_assert_eq!(seen(&lived), seen(&fresh));
        assert_sound(&lived.desired().service_ports);
    }

    #[test]
    fn deltas_add_up_to_the_desired_state(history in history()) {
        let mut cache = Cache::new(NODE);
        let (mut programmed, mut health_checks) = (Programmed::new(), HealthChecks::new());
        let (mut node, mut cidrs) = (Default::default(), Vec::new());
        for (update, look) in history.into_iter().map(|(update, look)| (Some(update), look)).chain([(None, true)]) {
            update.into_iter().for_each(|update| cache.apply(update));
            if !look {
                continue;
            }
            let delta = cache.take_delta();
            program(&delta, &mut programmed, &mut health_checks);
            node = delta.node.map_or(node, |node| (*node).clone());
            cidrs = delta.service_cidrs.map_or(cidrs, |cidrs| cidrs.to_vec());
            let ports: Vec<_> = programmed.values().cloned().collect();
            prop_assert_eq!(seen(&cache), (ports, node.clone(), cidrs.clone()));
        }
        prop_assert!(cache.take_delta().is_empty());
    }

    #[test]
    fn health_checks_forget_their_history(history in history()) {
        let told = |updates: Vec<(Update, bool)>| {
            let mut cache = Cache::new(NODE);
            let mut health_checks = HealthChecks::new();
            for (update, look) in updates.into_iter().map(|(u, look)| (Some(u), look)).chain([(None, true)]) {
                update.into_iter().for_each(|update| cache.apply(update));
                if look {
                    program(&Delta { changes: Vec::new(), ..cache.take_delta() }, &mut Programmed::new(), &mut health_checks);
                }
            }
            health_checks
        };
        let updates: Vec<_> = history.iter().map(|(update, _)| update.clone()).collect();
        let fresh = final_objects(&updates).into_iter().map(|update| (update, false)).collect();
        prop_assert_eq!(told(history), told(fresh));
    }

    #[test]
    fn frontends_are_shared_out_by_age(history in contention()) {
        let mut cache = Cache::new(NODE);
        let (mut programmed, mut health_checks) = (Programmed::new(), HealthChecks::new());
        let mut services: BTreeMap<String, Claiming> = BTreeMap::new();
        for (service, gone, look) in history {
            if gone {
                cache.apply(deleted(Kind::Service, &service.name));
                services.remove(&service.name);
            } else {
                cache.apply(Update::Service(service.service()));
                services.insert(service.name.clone(), service);
            }
            if look {
                program(&cache.take_delta(), &mut programmed, &mut health_checks);
                let got: BTreeSet<_> = programmed.values().map(|port| gets(port)).collect();
                let services: Vec<_> = services.values().cloned().collect();
                let expected = oracle::share_out(&services).into_iter().map(|(name, mut external, node_port)| {
                    external.sort();
                    (name, external, node_port)
                });
                prop_assert_eq!(got, expected.collect::<BTreeSet<_>>());
            }
        }
    }

    #[test]
    fn endpoints_are_those_the_rules_tell(
        slices in slices(),
        zone in prop_oneof![Just(None), select(&["a", "b", "c"][..]).prop_map(Some)],
        backwards in any::<bool>(),
    ) {
        let policies = json!({"spec": {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}});
        let mut updates = vec![load_balancer("web", policies)];
        updates.extend(zone.map(node_in));
        updates.extend(slices.iter().cloned().map(Update::EndpointSlice));
        if backwards {
            updates.reverse();
        }
        let web = Proxy::with(updates).v4("ns/web");
        let chosen = [&web.cluster_endpoints, &web.local_endpoints, &web.serving_endpoints].map(|list| places(list));
        prop_assert_eq!(chosen, oracle::choose(&slices, NODE, zone));
    }
}
