//! What the cache knows of a Service, for people: every endpoint, also those that are not used, and why.
//!
//! Nothing is kept for it. It is worked out when somebody asks, from what is kept anyway.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::object::ObjectName;
use crate::publish::Entry;
use crate::select::Candidate;
use crate::service::{CompactPort, CompactService};
use crate::slice::CompactSlice;
use crate::why_not::{Asked, Judge, Local, Verdict};
use crate::{Family, Problem, Protocol, TrafficPolicy, WhyNot};

/// A Service as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portrait {
    /// Its namespace and name.
    pub name: ObjectName,
    /// What it asks for, if it is for this proxy to serve.
    pub spec: Result<SpecPortrait, Unserved>,
    /// What of it, and of its slices, cannot be used.
    pub problems: Vec<Problem>,
}

/// What a Service asks for, as far as a proxy minds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the Service's fields")]
pub struct SpecPortrait {
    pub service_type: ServiceType,
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    pub source_ranges: Vec<IpNet>,
    pub internal_policy: TrafficPolicy,
    pub external_policy: TrafficPolicy,
    pub affinity_seconds: Option<u32>,
    pub health_check_node_port: Option<u16>,
    pub proxy_protocol: bool,
    pub distribution: Option<Distribution>,
    pub publishes_not_ready: bool,
    /// By their order in the Service.
    pub ports: Vec<PortPortrait>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPortrait {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port that clients connect to.
    pub port: u16,
    /// The port on every node.
    pub node_port: Option<u16>,
    /// By slice, in each in its order.
    pub endpoints: Vec<EndpointPortrait>,
}

/// An endpoint of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPortrait {
    /// The pod's address.
    pub address: IpAddr,
    /// The port on the pod; 0 if its slice does not have the Service's.
    pub port: u16,
    /// The node that it is on, if the slice says.
    pub node: Option<Arc<str>>,
    /// Whether that is this node.
    pub local: bool,
    /// Its condition `ready`.
    pub ready: bool,
    /// Its condition `serving`.
    pub serving: bool,
    /// Its condition `terminating`.
    pub terminating: bool,
    /// The name of the slice.
    pub slice: Arc<str>,
    /// Whether traffic of policy Cluster may be sent to it.
    pub used_by_cluster: bool,
    /// Whether traffic of policy Local may.
    pub used_by_local: bool,
    /// Why it is not used, or not by all traffic of the port.
    pub why_not: Option<WhyNot>,
}

/// `spec.type` of a Service that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Kubernetes' own names")]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        })
    }
}

/// Why a Service is not for this proxy to serve. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// It has no ClusterIP.
    Headless,
    /// It is another name for a host.
    ExternalName,
    /// It has the label of another proxy.
    OtherProxy,
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Headless => {
                "headless (spec.clusterIP is None or not set): its name leads to the pods themselves, and no \
                 proxy has to do with it"
            }
            Self::ExternalName => {
                "of type ExternalName: its name is another name for a host, and no proxy has to do with it"
            }
            Self::OtherProxy => {
                "another proxy's to serve: it has the label service.kubernetes.io/service-proxy-name"
            }
        })
    }
}

/// `spec.trafficDistribution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// `PreferSameZone`, and `PreferClose`, its older name.
    SameZone,
    /// `PreferSameNode`.
    SameNode,
    /// What came later.
    Other,
}

impl Distribution {
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "PreferSameZone" | "PreferClose" => Some(Self::SameZone),
            "PreferSameNode" => Some(Self::SameNode),
            _ => Some(Self::Other),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameZone => "PreferSameZone",
            Self::SameNode => "PreferSameNode",
            Self::Other => "of a kind that is not known",
        })
    }
}

/// What a Service that is served asks for.
pub(crate) fn portray(service: &CompactService, entry: &Entry, zone: Option<&str>) -> SpecPortrait {
    let mut ports: Vec<_> = service.ports.iter().collect();
    ports.sort_by_key(|port| port.index);
    let both = Family::BOTH.into_iter();
    SpecPortrait {
        service_type: service.service_type,
        cluster_ips: both.clone().filter_map(|family| service.cluster_ip(family)).collect(),
        external_ips: both.clone().flat_map(|family| service.external_ips(family)).collect(),
        load_balancer_ips: both.flat_map(|family| service.load_balancer_ips(family)).collect(),
        source_ranges: service.written_source_ranges().to_vec(),
        internal_policy: service.internal_policy,
        external_policy: service.external_policy,
        affinity_seconds: service.affinity_seconds,
        health_check_node_port: service.health_check_port,
        proxy_protocol: service.proxy_protocol,
        distribution: service.distribution,
        publishes_not_ready: service.publishes_not_ready,
        ports: ports.into_iter().map(|port| portray_port(service, port, entry, zone)).collect(),
    }
}

fn portray_port(
    service: &CompactService,
    port: &CompactPort,
    entry: &Entry,
    zone: Option<&str>,
) -> PortPortrait {
    let of_family = |family| family_endpoints(service, port, entry, family, zone);
    PortPortrait {
        name: Arc::clone(&port.name.port),
        protocol: port.name.protocol,
        port: port.port,
        node_port: port.node_port,
        endpoints: Family::BOTH.into_iter().flat_map(of_family).collect(),
    }
}

fn asked(service: &CompactService, port: &CompactPort, family: Family) -> Asked {
    let external = port.node_port.is_some()
        || service.external_ips(family).next().is_some()
        || service.load_balancer_ips(family).next().is_some();
    let local = Local {
        internal: service.internal_policy == TrafficPolicy::Local,
        external: external && service.external_policy == TrafficPolicy::Local,
    };
    // External policy Local still sends pods and the node itself to any endpoint.
    Asked { cluster: !local.internal || external, local }
}

/// An endpoint of one slice.
struct Named<'a> {
    slice: &'a Arc<str>,
    candidate: Candidate<'a>,
    node: Option<&'a Arc<str>>,
}

impl Named<'_> {
    fn portrait(&self, verdict: Verdict) -> EndpointPortrait {
        let Candidate { endpoint, ready, serving, terminating, .. } = self.candidate;
        EndpointPortrait {
            address: endpoint.address,
            port: endpoint.port,
            node: self.node.cloned(),
            local: endpoint.local,
            ready,
            serving,
            terminating,
            slice: Arc::clone(self.slice),
            used_by_cluster: verdict.cluster,
            used_by_local: verdict.local,
            why_not: verdict.why_not,
        }
    }
}

/// All endpoints of a port in a family, and what became of each.
fn family_endpoints(
    service: &CompactService,
    port: &CompactPort,
    entry: &Entry,
    family: Family,
    zone: Option<&str>,
) -> Vec<EndpointPortrait> {
    let unused = |why_not| Verdict { cluster: false, local: false, why_not: Some(why_not) };
    let (mut named, mut portraits) = (Vec::new(), Vec::new());
    for (slice, compact) in entry.slices.iter().filter(|(_, slice)| slice.family() == family) {
        let found = of_slice(slice, compact, port);
        if found.is_empty() {
            let (name, protocol) = (Arc::clone(&port.name.port), port.name.protocol);
            let why_not = WhyNot::NoPort { name, protocol, slice: Arc::clone(slice) };
            let without_port = compact.entries().into_iter();
            portraits.extend(
                without_port.map(|(candidate, node)| {
                    Named { slice, candidate, node }.portrait(unused(why_not.clone()))
                }),
            );
        }
        named.extend(found);
    }
    if service.cluster_ip(family).is_none() {
        let why_not = || unused(WhyNot::OtherFamily(family));
        return named.iter().map(|named| named.portrait(why_not())).chain(portraits).collect();
    }
    let candidates: Vec<_> = named.iter().map(|named| named.candidate.clone()).collect();
    let judge = Judge::new(&candidates, zone, asked(service, port, family));
    let counts = without_copies(&named);
    portraits.extend(named.iter().zip(counts).map(|(copy, counts)| {
        let verdict = match counts {
            None => judge.verdict(&copy.candidate),
            Some(at) => unused(WhyNot::Copy { slice: Arc::clone(named[at].slice) }),
        };
        copy.portrait(verdict)
    }));
    portraits
}

/// What a slice has for a port.
fn of_slice<'a>(slice: &'a Arc<str>, compact: &'a CompactSlice, port: &CompactPort) -> Vec<Named<'a>> {
    let numbers = compact.numbers(&port.name.port, port.name.protocol).into_iter();
    numbers
        .flat_map(|number| {
            compact.entries().into_iter().map(move |(mut candidate, node)| {
                candidate.endpoint.port = number;
                Named { slice, candidate, node }
            })
        })
        .collect()
}

/// For each, where the one stands that counts in its place, if it is a copy.
fn without_copies(named: &[Named<'_>]) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..named.len()).collect();
    order.sort_by_key(|at| named[*at].candidate.rank());
    let mut counts = vec![None; named.len()];
    let mut first: Option<usize> = None;
    for at in order {
        match first {
            Some(one) if named[one].candidate.place() == named[at].candidate.place() => {
                counts[at] = Some(one);
            }
            _ => first = Some(at),
        }
    }
    counts
}
