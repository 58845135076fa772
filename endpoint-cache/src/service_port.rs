//! What a mode is told to program: one service port in one address family.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::object::ObjectName;

/// Transport protocol of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The lower-case name, as netfilter and kube-proxy's chain hashes write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The IP protocol number (IANA), as conntrack and `meta l4proto` hold it.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An IP address family. Each is programmed on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both families.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The unit that is programmed: a port of a Service, known by its *name* (not its number) and protocol.
///
/// Mirrors kube-proxy's `ServicePortName`; displays as kube-proxy does, `namespace/name:port` or `namespace/name`
/// for an unnamed port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortName {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub name: Arc<str>,
    /// Name of the port; empty for the single unnamed one.
    pub port: Arc<str>,
    /// Protocol of the port.
    pub protocol: Protocol,
}

impl ServicePortName {
    /// The Service that it is a port of.
    #[must_use]
    pub fn service(&self) -> ObjectName {
        ObjectName { namespace: Arc::clone(&self.namespace), name: Arc::clone(&self.name) }
    }
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// One place that traffic may be sent to. Ordered by address, then port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Pod address.
    pub address: IpAddr,
    /// Port on the pod (the resolved `targetPort`).
    pub port: u16,
    /// Whether the pod runs on this node.
    pub local: bool,
}

/// `internalTrafficPolicy` or `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum TrafficPolicy {
    /// Any endpoint of the cluster.
    #[default]
    Cluster,
    /// Only endpoints on this node.
    Local,
}

/// What happens to traffic that reaches a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic<'a> {
    /// Spread over these endpoints (never empty).
    To(&'a [Endpoint]),
    /// Refused with an ICMP error: the service has no usable endpoint anywhere.
    Reject,
    /// Dropped silently: the policy is Local, and endpoints exist on other nodes only.
    Drop,
}

/// A service port in one address family, with everything a mode needs to program it.
///
/// Frontends that another Service claimed first (same address, protocol and port; same node port) are left out, so
/// no two service ports of a [`Delta`](crate::Delta)'s resulting state share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Which service port this is.
    pub name: Arc<ServicePortName>,
    /// Family of every address below.
    pub family: Family,
    /// The ClusterIP; with `port` and the protocol it identifies the service port in the kernel.
    pub cluster_ip: IpAddr,
    /// The port clients connect to (not the node port, not the target port).
    pub port: u16,
    /// Node port, if one is allocated.
    pub node_port: Option<u16>,
    /// `spec.externalIPs` of this family, sorted, unique.
    pub external_ips: Box<[IpAddr]>,
    /// `status.loadBalancer.ingress` addresses of this family with `ipMode: VIP` or none, sorted, unique.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// Where load balancers ask whether this node has ready endpoints (`spec.healthCheckNodePort`).
    pub health_check_node_port: Option<u16>,
    /// Clients that may use the load-balancer addresses; `None` when anyone may. Sorted, disjoint.
    pub source_ranges: Option<Box<[IpNet]>>,
    /// Session affinity by client address: its timeout in seconds.
    pub affinity_seconds: Option<u32>,
    /// Which endpoints the ClusterIP may use.
    pub internal_policy: TrafficPolicy,
    /// Which endpoints node port, external IPs and load-balancer IPs may use for traffic from outside.
    pub external_policy: TrafficPolicy,
    /// Whether connections to endpoints begin with a PROXY protocol header, version 2 (annotation
    /// `pointsman.dev/proxy-protocol: v2`; TCP only). Only userspace mode can do that.
    pub proxy_protocol: bool,
    /// Endpoints for traffic policy Cluster (topology applied). Sorted by address and port, unique.
    pub cluster_endpoints: Arc<[Endpoint]>,
    /// Endpoints for traffic policy Local. Empty where no frontend has that policy. Sorted, unique.
    pub local_endpoints: Arc<[Endpoint]>,
    /// Every endpoint that still serves, whatever policy or topology say: established flows to these stay.
    /// Sorted, unique.
    pub serving_endpoints: Arc<[Endpoint]>,
}

impl ServicePort {
    /// Whether anything but the ClusterIP leads to this service port.
    #[must_use]
    pub fn externally_reachable(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// External and load-balancer addresses, each once, sorted within its kind.
    pub fn external_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let shared = |ip: &&IpAddr| self.external_ips.binary_search(ip).is_err();
        self.external_ips.iter().chain(self.load_balancer_ips.iter().filter(shared)).copied()
    }

    /// What happens to traffic to the ClusterIP.
    #[must_use]
    pub fn internal_traffic(&self) -> Traffic<'_> {
        self.traffic(self.internal_policy)
    }

    /// What happens to traffic from outside to the node port and the external and load-balancer addresses.
    #[must_use]
    pub fn external_traffic(&self) -> Traffic<'_> {
        self.traffic(self.external_policy)
    }

    /// The endpoints of a policy, if any frontend leads to them.
    #[must_use]
    pub fn endpoints_in_use(&self, policy: TrafficPolicy) -> &[Endpoint] {
        let external = self.externally_reachable();
        let external_local = external && self.external_policy == TrafficPolicy::Local;
        match policy {
            // External policy Local still sends pods and the node itself to any endpoint.
            TrafficPolicy::Cluster if self.internal_policy == TrafficPolicy::Cluster || external => {
                &self.cluster_endpoints
            }
            TrafficPolicy::Local if self.internal_policy == TrafficPolicy::Local || external_local => {
                &self.local_endpoints
            }
            TrafficPolicy::Cluster | TrafficPolicy::Local => &[],
        }
    }

    fn traffic(&self, policy: TrafficPolicy) -> Traffic<'_> {
        let endpoints = match policy {
            TrafficPolicy::Cluster => &self.cluster_endpoints,
            TrafficPolicy::Local => &self.local_endpoints,
        };
        match (endpoints.is_empty(), self.cluster_endpoints.is_empty()) {
            (false, _) => Traffic::To(endpoints),
            (true, true) => Traffic::Reject,
            (true, false) => Traffic::Drop,
        }
    }
}

/// What the own Node object says that programming depends on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeState {
    /// Addresses of type InternalIP, then ExternalIP, in the object's order.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs` (or `spec.podCIDR`).
    pub pod_cidrs: Vec<IpNet>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
}

/// What a `healthCheckNodePort` answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Port to listen on.
    pub port: u16,
    /// Distinct addresses of *ready* endpoints on this node.
    pub local_ready: usize,
}
