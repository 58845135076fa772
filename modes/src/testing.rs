//! Made-up service ports for the modes' tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use endpoint_cache::{
    Change, Endpoint, Family, NodeState, Protocol, ServicePort, ServicePortName, TrafficPolicy,
};
use proptest::prelude::*;

use crate::{DetectLocal, Settings};

/// What rules depend on besides services.
pub(crate) fn surroundings() -> (Settings, NodeState) {
    let settings = Settings {
        detect_local: DetectLocal::ClusterCidr(vec![
            "10.0.0.0/8".parse().unwrap(),
            "fd00:10::/32".parse().unwrap(),
        ]),
        ..Settings::default()
    };
    let node = NodeState { addresses: vec!["192.168.0.2".parse().unwrap()], ..NodeState::default() };
    (settings, node)
}

/// A choice for each of a few service ports.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    present: bool,
    endpoints: BTreeSet<u8>,
    node_port: bool,
    internal: TrafficPolicy,
    external: TrafficPolicy,
    affinity_seconds: Option<u32>,
    restricted: bool,
    cluster_ip: u8,
}

/// How many service ports there may be.
pub(crate) const PORTS: usize = 3;

fn choice() -> impl Strategy<Value = Choice> {
    let policy = || prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)];
    let endpoints = proptest::collection::btree_set(0u8..12, 0..6);
    let affinity = proptest::option::weighted(0.3, prop_oneof![Just(60u32), Just(10_800)]);
    (any::<bool>(), endpoints, any::<bool>(), policy(), policy(), affinity, any::<bool>(), 0u8..2).prop_map(
        |(present, endpoints, node_port, internal, external, affinity_seconds, restricted, cluster_ip)| {
            Choice {
                present,
                endpoints,
                node_port,
                internal,
                external,
                affinity_seconds,
                restricted,
                cluster_ip,
            }
        },
    )
}

/// A state of the cluster: a choice for each service port, and who owns each external address and node port.
pub(crate) fn state() -> impl Strategy<Value = (Vec<Choice>, Vec<usize>)> {
    (proptest::collection::vec(choice(), PORTS), proptest::collection::vec(0..=PORTS, 4))
}

pub(crate) fn services((choices, owners): &(Vec<Choice>, Vec<usize>)) -> BTreeMap<usize, Arc<ServicePort>> {
    let service = |(index, choice): (usize, &Choice)| {
        choice.present.then(|| (index, Arc::new(service_port(index, choice, owners))))
    };
    choices.iter().enumerate().filter_map(service).collect()
}

pub(crate) fn service_port(index: usize, choice: &Choice, owners: &[usize]) -> ServicePort {
    // The last one is IPv6, so that families are kept apart.
    let family = if index == PORTS - 1 { Family::V6 } else { Family::V4 };
    let address = |kind: u8, number: u8| -> IpAddr {
        match family {
            Family::V4 => [10, kind, 0, number].into(),
            Family::V6 => {
                Ipv6Addr::from([0xfd00, 0x10, u16::from(kind), 0, 0, 0, 0, u16::from(number)]).into()
            }
        }
    };
    let owned = |range: std::ops::Range<u8>| -> Box<[IpAddr]> {
        range
            .filter(|number| owners[usize::from(*number)] == index)
            .map(|number| address(3, number))
            .collect()
    };
    let number = u8::try_from(index).unwrap();
    let endpoints: Arc<[Endpoint]> = choice
        .endpoints
        .iter()
        .map(|number| Endpoint { address: address(1, *number), port: 8080, local: number % 3 == 0 })
        .collect();
    let local = endpoints.iter().copied().filter(|endpoint| endpoint.local).collect();
    ServicePort {
        name: Arc::new(ServicePortName {
            namespace: "test".into(),
            name: format!("s{index}").into(),
            port: "http".into(),
            protocol: Protocol::Tcp,
        }),
        family,
        cluster_ip: address(2, number + 10 * choice.cluster_ip),
        port: 80,
        node_port: choice.node_port.then_some(30_000 + u16::from(number)),
        external_ips: owned(0..2),
        load_balancer_ips: owned(2..4),
        health_check_node_port: choice.restricted.then_some(32_000),
        source_ranges: choice
            .restricted
            .then(|| Box::from([format!("{}/24", address(4, 0)).parse().unwrap()])),
        affinity_seconds: choice.affinity_seconds,
        internal_policy: choice.internal,
        external_policy: choice.external,
        proxy_protocol: false,
        cluster_endpoints: Arc::clone(&endpoints),
        local_endpoints: local,
        serving_endpoints: endpoints,
    }
}

pub(crate) fn changes(
    before: &BTreeMap<usize, Arc<ServicePort>>,
    after: &BTreeMap<usize, Arc<ServicePort>>,
) -> Vec<Change> {
    (0..PORTS)
        .map(|index| Change { before: before.get(&index).cloned(), after: after.get(&index).cloned() })
        .filter(|change| change.before != change.after)
        .collect()
}

/// A service port with nothing but a ClusterIP.
pub(crate) fn plain(endpoints: impl IntoIterator<Item = u8>) -> Arc<ServicePort> {
    let choice = Choice {
        present: true,
        endpoints: endpoints.into_iter().collect(),
        node_port: false,
        internal: TrafficPolicy::Cluster,
        external: TrafficPolicy::Cluster,
        affinity_seconds: None,
        restricted: false,
        cluster_ip: 0,
    };
    Arc::new(service_port(0, &choice, &[PORTS; 4]))
}
