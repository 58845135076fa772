//! What a service port asks of the forwarder, and what is left for the kernel to do.
//!
//! The kernel goes on to decide who may connect to which frontend, and by which policy. It is told of one endpoint for
//! each policy, which is where the forwarder listens.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use endpoint_cache::{Endpoint, Protocol, ServicePort, TrafficPolicy};

use super::forward::TargetKey;

const POLICIES: [TrafficPolicy; 2] = [TrafficPolicy::Cluster, TrafficPolicy::Local];

/// Whose own addresses endpoints may see, if answers come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nobody's.
    Nobody,
    /// Those of this node's pods.
    Pods,
    /// Everybody's.
    Everybody,
}

/// A target that a service port takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) key: TargetKey,
    /// Never empty.
    pub(crate) endpoints: Arc<[Endpoint]>,
    pub(crate) serving: Arc<[Endpoint]>,
    pub(crate) affinity_seconds: Option<u32>,
    pub(crate) proxy_protocol: bool,
    pub(crate) kept: Kept,
}

/// Whether the forwarder can carry it.
pub(crate) fn is_carried(service: &ServicePort) -> bool {
    service.name.protocol != Protocol::Sctp
}

/// The targets of a service port: one for each policy that a frontend has and that leads anywhere.
pub(crate) fn of(service: &ServicePort, masquerade_all: bool) -> impl Iterator<Item = Wanted> + '_ {
    let in_use =
        |policy: &TrafficPolicy| is_carried(service) && !service.endpoints_in_use(*policy).is_empty();
    POLICIES.into_iter().filter(in_use).map(move |policy| Wanted {
        key: TargetKey { name: Arc::clone(&service.name), family: service.family, policy },
        endpoints: Arc::clone(endpoints(service, policy)),
        serving: Arc::clone(&service.serving_endpoints),
        affinity_seconds: service.affinity_seconds,
        proxy_protocol: service.proxy_protocol,
        kept: kept(service, policy, masquerade_all),
    })
}

fn endpoints(service: &ServicePort, policy: TrafficPolicy) -> &Arc<[Endpoint]> {
    match policy {
        TrafficPolicy::Cluster => &service.cluster_endpoints,
        TrafficPolicy::Local => &service.local_endpoints,
    }
}

/// Rules masquerade outsiders but for policy Local, and pods that use external frontends of policy Cluster. These come
/// to the same place as pods that use the ClusterIP, which are not masqueraded, and need not be either.
fn kept(service: &ServicePort, policy: TrafficPolicy, masquerade_all: bool) -> Kept {
    let external_local = service.externally_reachable() && service.external_policy == TrafficPolicy::Local;
    let pods = service.internal_policy == policy || external_local;
    match policy {
        TrafficPolicy::Local if external_local => Kept::Everybody,
        _ if masquerade_all || !pods => Kept::Nobody,
        _ => Kept::Pods,
    }
}

/// The service port as the kernel is to have it: where there are endpoints, the place that `listens` gives for them is
/// the only one. Without a place, clients are refused.
pub(crate) fn for_kernel(
    service: &ServicePort,
    listens: impl Fn(&TargetKey) -> Option<SocketAddr>,
) -> ServicePort {
    let place = |policy| {
        let key = TargetKey { name: Arc::clone(&service.name), family: service.family, policy };
        let at = listens(&key)?;
        Some(Endpoint { address: at.ip(), port: at.port(), local: true })
    };
    let [cluster, local] = POLICIES.map(|policy| {
        let endpoints = if is_carried(service) { service.endpoints_in_use(policy) } else { &[] };
        if endpoints.is_empty() { None } else { place(policy) }
    });
    let mut serving: Vec<Endpoint> = cluster.into_iter().chain(local).collect();
    serving.sort_unstable();
    ServicePort {
        affinity_seconds: None,
        cluster_endpoints: cluster.or(elsewhere(service, local)).into_iter().collect(),
        local_endpoints: local.into_iter().collect(),
        serving_endpoints: serving.into(),
        ..service.clone()
    }
}

/// The service port as the kernel is to have it when there is no forwarder. Without one, endpoints that expect the PROXY
/// protocol would take a client's first bytes for it.
pub(crate) fn without_forwarder(service: &Arc<ServicePort>) -> Arc<ServicePort> {
    match is_carried(service) && !service.proxy_protocol {
        true => Arc::clone(service),
        false => Arc::new(for_kernel(service, |_| None)),
    }
}

/// Whether there are endpoints on other nodes is told by the endpoints of policy Cluster, even if no frontend leads there:
/// then clients are dropped instead of refused.
fn elsewhere(service: &ServicePort, local: Option<Endpoint>) -> Option<Endpoint> {
    let unused = service.endpoints_in_use(TrafficPolicy::Cluster).is_empty();
    let nowhere = || Endpoint { address: service.cluster_ip, port: service.port, local: false };
    (is_carried(service) && unused && !service.cluster_endpoints.is_empty())
        .then(|| local.unwrap_or_else(nowhere))
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = match self.policy {
            TrafficPolicy::Cluster => "Cluster",
            TrafficPolicy::Local => "Local",
        };
        write!(f, "{}/{} ({}, {policy})", self.name, self.name.protocol, self.family)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use endpoint_cache::{Family, ServicePortName, Traffic};
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn listens(key: &TargetKey) -> Option<SocketAddr> {
        let address: IpAddr = match key.family {
            Family::V4 => [169, 254, 0, 1].into(),
            Family::V6 => [0xfd70, 0, 0, 0, 0, 0, 0, 1].into(),
        };
        Some((address, if key.policy == TrafficPolicy::Local { 1000 } else { 2000 }).into())
    }

    /// What becomes of a client, whoever serves it.
    #[derive(Debug, PartialEq, Eq)]
    enum Fate {
        Served(TrafficPolicy),
        Rejected,
        Dropped,
    }

    fn fate(traffic: Traffic<'_>, policy: TrafficPolicy) -> Fate {
        match traffic {
            Traffic::To(_) => Fate::Served(policy),
            Traffic::Reject => Fate::Rejected,
            Traffic::Drop => Fate::Dropped,
        }
    }

    fn with_protocol(service: &ServicePort, protocol: Protocol) -> ServicePort {
        let name = ServicePortName { protocol, ..(*service.name).clone() };
        ServicePort { name: Arc::new(name), ..service.clone() }
    }

    proptest! {
        #[test]
        fn everybody_comes_to_the_target_of_his_policy(state in testing::state()) {
            for service in testing::services(&state).values() {
                let wanted: Vec<_> = of(service, false).collect();
                let kernel = for_kernel(service, listens);
                for (before, after, policy) in [
                    (service.internal_traffic(), kernel.internal_traffic(), service.internal_policy),
                    (service.external_traffic(), kernel.external_traffic(), service.external_policy),
                ] {
                    let reachable = policy == service.internal_policy || service.externally_reachable();
                    prop_assert!(!reachable || fate(before, policy) == fate(after, policy));
                }
                for policy in POLICIES {
                    let target = wanted.iter().find(|wanted| wanted.key.policy == policy);
                    let in_use = service.endpoints_in_use(policy);
                    prop_assert_eq!(target.map(|target| &*target.endpoints).unwrap_or_default(), in_use);
                    let place = target.and_then(|target| listens(&target.key));
                    let led: Vec<_> = kernel.endpoints_in_use(policy).iter()
                        .map(|to| SocketAddr::new(to.address, to.port)).collect();
                    prop_assert_eq!(led, Vec::from_iter(place));
                }
                prop_assert!(kernel.serving_endpoints.is_sorted() && kernel.affinity_seconds.is_none());
            }
        }

        #[test]
        fn what_cannot_be_carried_is_refused(state in testing::state()) {
            for service in testing::services(&state).values() {
                let sctp = with_protocol(service, Protocol::Sctp);
                prop_assert_eq!(of(&sctp, false).count(), 0);
                let kernel = for_kernel(&sctp, listens);
                prop_assert_eq!(kernel.internal_traffic(), Traffic::Reject);
                prop_assert_eq!(kernel.external_traffic(), Traffic::Reject);
                prop_assert!(kernel.serving_endpoints.is_empty());
            }
        }

        #[test]
        fn which_endpoints_there_are_is_none_of_the_kernel_s_business(
            state in testing::state(),
            more in proptest::collection::vec(any::<bool>(), 1..4),
        ) {
            for service in testing::services(&state).values() {
                let endpoints: Arc<[Endpoint]> = (1u16..).zip(&more).map(|(port, local)| {
                    Endpoint { address: service.cluster_ip, port, local: *local }
                }).collect();
                let other = |had: &Arc<[Endpoint]>| match had.is_empty() {
                    true => Arc::clone(had),
                    false => Arc::clone(&endpoints),
                };
                let changed = ServicePort {
                    cluster_endpoints: other(&service.cluster_endpoints),
                    local_endpoints: other(&service.local_endpoints),
                    serving_endpoints: Arc::clone(&endpoints),
                    affinity_seconds: Some(1),
                    ..(**service).clone()
                };
                prop_assert_eq!(for_kernel(service, listens), for_kernel(&changed, listens));
            }
        }
    }

    #[test]
    fn without_a_place_clients_are_refused() {
        let service = testing::plain([1, 2]);
        assert_eq!(for_kernel(&service, |_| None).internal_traffic(), Traffic::Reject);
    }

    #[test]
    fn addresses_are_kept_as_rules_keep_them() {
        use TrafficPolicy::{Cluster, Local};
        let service = |internal_policy, external_policy, node_port| ServicePort {
            internal_policy,
            external_policy,
            node_port,
            local_endpoints: testing::plain([3]).cluster_endpoints.clone(),
            ..(*testing::plain([2, 3])).clone()
        };
        let node_port = Some(30_000);
        for (service, masquerade_all, expected) in [
            (service(Cluster, Cluster, None), false, vec![(Cluster, Kept::Pods)]),
            (service(Cluster, Cluster, None), true, vec![(Cluster, Kept::Nobody)]),
            (service(Cluster, Cluster, node_port), false, vec![(Cluster, Kept::Pods)]),
            (
                service(Cluster, Local, node_port),
                false,
                vec![(Cluster, Kept::Pods), (Local, Kept::Everybody)],
            ),
            (
                service(Cluster, Local, node_port),
                true,
                vec![(Cluster, Kept::Nobody), (Local, Kept::Everybody)],
            ),
            (service(Local, Local, None), false, vec![(Local, Kept::Pods)]),
            (service(Local, Cluster, node_port), false, vec![(Cluster, Kept::Nobody), (Local, Kept::Pods)]),
        ] {
            let kept: Vec<_> = of(&service, masquerade_all).map(|it| (it.key.policy, it.kept)).collect();
            assert_eq!(kept, expected, "{service:?}");
        }
    }
}
