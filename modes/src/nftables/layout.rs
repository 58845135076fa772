//! The names and shapes of everything in our table: sets, maps and base chains. The theory is told in `mod.rs`.

use endpoint_cache::Family;
use kernel::nft::{self, Chain, ChainType, DataType, Hook, HookPoint, MapTo, Set, Table};

/// Name of our table, in family `ip` and in family `ip6`.
pub(crate) const TABLE: &str = "pointsman";

/// Our table of an address family.
#[must_use]
pub fn table(family: Family) -> Table {
    let family = match family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    };
    Table { family, name: TABLE.to_owned() }
}

/// Most clients that session affinity remembers, over all services of a family; the ones beyond are spread at random.
/// Bounds kernel memory to some 30 MB however many clients there are.
const AFFINITY_SIZE: u32 = 262_144;

/// A set or map. Declared in the order in which `nft list` is best read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SetName {
    /// Every ClusterIP.
    ClusterIps,
    /// Address frontends and the number of the chain that picks an endpoint for them.
    ServiceIps,
    /// Node ports and the number of the chain that picks an endpoint for them.
    ServiceNodePorts,
    /// The chain of each number.
    Picks,
    /// Frontends with external policy Local: the number of the chain for traffic from pods and the node itself.
    LocalPolicyIps,
    /// The same for node ports.
    LocalPolicyNodePorts,
    /// The chain of each number that those may give.
    LocalPolicyPicks,
    /// Endpoints for policy Cluster, by address frontend and slot.
    Endpoints,
    /// Endpoints for policy Local, by address frontend and slot.
    LocalEndpoints,
    /// Endpoints for policy Cluster, by node port and slot.
    NodePortEndpoints,
    /// Endpoints for policy Local, by node port and slot.
    LocalNodePortEndpoints,
    /// Clients and the endpoint they are to stay with.
    Affinity,
    /// Local endpoints as client and server of the same connection.
    HairpinConnections,
    /// Address frontends to reject or drop.
    NoEndpointServices,
    /// Node ports to reject or drop.
    NoEndpointNodePorts,
    /// Load-balancer frontends that only some clients may use.
    FirewallIps,
    /// Those clients.
    FirewallSources,
}

impl SetName {
    pub(crate) const ALL: [Self; 17] = [
        Self::ClusterIps,
        Self::ServiceIps,
        Self::ServiceNodePorts,
        Self::Picks,
        Self::LocalPolicyIps,
        Self::LocalPolicyNodePorts,
        Self::LocalPolicyPicks,
        Self::Endpoints,
        Self::LocalEndpoints,
        Self::NodePortEndpoints,
        Self::LocalNodePortEndpoints,
        Self::Affinity,
        Self::HairpinConnections,
        Self::NoEndpointServices,
        Self::NoEndpointNodePorts,
        Self::FirewallIps,
        Self::FirewallSources,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::ServiceIps => "service-ips",
            Self::ServiceNodePorts => "service-nodeports",
            Self::Picks => "picks",
            Self::LocalPolicyIps => "local-policy-ips",
            Self::LocalPolicyNodePorts => "local-policy-nodeports",
            Self::LocalPolicyPicks => "local-policy-picks",
            Self::Endpoints => "endpoints",
            Self::LocalEndpoints => "local-endpoints",
            Self::NodePortEndpoints => "nodeport-endpoints",
            Self::LocalNodePortEndpoints => "local-nodeport-endpoints",
            Self::Affinity => "affinity",
            Self::HairpinConnections => "hairpin-connections",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::FirewallIps => "firewall-ips",
            Self::FirewallSources => "firewall-sources",
        }
    }

    fn comment(self) -> &'static str {
        match self {
            Self::ClusterIps => "every ClusterIP",
            Self::ServiceIps => "ClusterIPs, external and load-balancer IPs that have endpoints",
            Self::ServiceNodePorts => "node ports that have endpoints",
            Self::Picks => "the chain of each number, which the mark carries here and is restored",
            Self::LocalPolicyIps => "external policy Local: where pods and this node itself go",
            Self::LocalPolicyNodePorts => "external policy Local: where pods and this node itself go",
            Self::LocalPolicyPicks => "external policy Local: the chain of each number",
            Self::Endpoints => "the endpoint in each slot of an address",
            Self::LocalEndpoints => "traffic policy Local: the endpoint in each slot of an address",
            Self::NodePortEndpoints => "the endpoint in each slot of a node port",
            Self::LocalNodePortEndpoints => "traffic policy Local: the endpoint in each slot of a node port",
            Self::Affinity => "session affinity: which endpoint a client of a ClusterIP stays with",
            Self::HairpinConnections => "pods that reach themselves through a service",
            Self::NoEndpointServices => "addresses without endpoints, or with none on this node",
            Self::NoEndpointNodePorts => "node ports without endpoints, or with none on this node",
            Self::FirewallIps => "load-balancer IPs with source ranges",
            Self::FirewallSources => "who may use them",
        }
    }

    /// The set as the kernel is to hold it.
    pub(crate) fn definition(self, family: Family) -> Set {
        use DataType::{InetProto, InetService, Mark};
        let ip = address_type(family);
        let frontend = vec![ip, InetProto, InetService];
        let node_port = vec![InetProto, InetService];
        let slot_of = |frontend: &[DataType]| [frontend, &[Mark]].concat();
        let client_of = |frontend: &[DataType]| [&[ip], frontend].concat();
        let endpoint = MapTo::Value(vec![ip, InetService]);
        let (key, data) = match self {
            Self::ClusterIps => (vec![ip], MapTo::Nothing),
            Self::ServiceIps | Self::LocalPolicyIps => (frontend, MapTo::Value(vec![Mark])),
            Self::ServiceNodePorts | Self::LocalPolicyNodePorts => (node_port, MapTo::Value(vec![Mark])),
            Self::Picks | Self::LocalPolicyPicks => (vec![Mark], MapTo::Verdict),
            Self::NoEndpointServices => (frontend, MapTo::Verdict),
            Self::NoEndpointNodePorts => (node_port, MapTo::Verdict),
            Self::Endpoints | Self::LocalEndpoints => (slot_of(&frontend), endpoint),
            Self::NodePortEndpoints | Self::LocalNodePortEndpoints => (slot_of(&node_port), endpoint),
            Self::Affinity => (client_of(&frontend), endpoint),
            Self::HairpinConnections => (client_of(&frontend), MapTo::Nothing),
            Self::FirewallIps => (frontend, MapTo::Nothing),
            Self::FirewallSources => ([frontend.as_slice(), &[ip]].concat(), MapTo::Nothing),
        };
        Set {
            name: self.as_str().to_owned(),
            key,
            data,
            interval: self == Self::FirewallSources,
            dynamic: self == Self::Affinity,
            size: (self == Self::Affinity).then_some(AFFINITY_SIZE),
            comment: self.comment().to_owned(),
        }
    }

    /// Whether rules fill it, so that we neither write nor compare its elements.
    pub(crate) fn filled_by_rules(self) -> bool {
        self == Self::Affinity
    }

    /// Whether its elements lead to chains, with which they come and go.
    pub(crate) fn leads_to_chains(self) -> bool {
        matches!(self, Self::Picks | Self::LocalPolicyPicks)
    }

    /// Whether several service ports may contribute the same element.
    pub(crate) fn shared(self) -> bool {
        matches!(self, Self::ClusterIps | Self::HairpinConnections)
    }
}

/// The type of an address.
pub(crate) fn address_type(family: Family) -> DataType {
    match family {
        Family::V4 => DataType::Ipv4Addr,
        Family::V6 => DataType::Ipv6Addr,
    }
}

/// Names of the chains that every ruleset has.
pub(crate) mod chain {
    pub(crate) const SERVICES: &str = "services";
    pub(crate) const MASQUERADING: &str = "masquerading";
    pub(crate) const FIREWALL_CHECK: &str = "firewall-check";
    pub(crate) const SERVICE_ENDPOINTS_CHECK: &str = "service-endpoints-check";
    pub(crate) const NODE_PORT_ENDPOINTS_CHECK: &str = "nodeport-endpoints-check";
    pub(crate) const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
    pub(crate) const REJECT: &str = "reject-chain";
}

/// A base chain and the chains that it calls, in order.
pub(crate) struct BaseChain {
    pub(crate) chain: Chain,
    pub(crate) calls: &'static [&'static str],
    /// Only for the first packet of a connection. Chains of type nat see no other.
    pub(crate) new_only: bool,
}

/// Every base chain. Points and priorities are those of kube-proxy, on which administrators may rely.
pub(crate) fn base_chains() -> Vec<BaseChain> {
    use ChainType::{Filter, Nat};
    use HookPoint::{Forward, Input, Output, Postrouting, Prerouting};
    let base = |name: &str, kind, point, priority, calls| BaseChain {
        chain: Chain { name: name.to_owned(), hook: Some(Hook { kind, point, priority }) },
        calls,
        new_only: kind == Filter,
    };
    vec![
        base("filter-prerouting-pre-dnat", Filter, Prerouting, -110, &[chain::FIREWALL_CHECK]),
        base("filter-output-pre-dnat", Filter, Output, -110, &[chain::FIREWALL_CHECK]),
        base("nat-prerouting", Nat, Prerouting, -100, &[chain::SERVICES]),
        base("nat-output", Nat, Output, -100, &[chain::SERVICES]),
        base(
            "filter-input",
            Filter,
            Input,
            0,
            &[chain::NODE_PORT_ENDPOINTS_CHECK, chain::SERVICE_ENDPOINTS_CHECK],
        ),
        base(
            "filter-forward",
            Filter,
            Forward,
            0,
            &[chain::SERVICE_ENDPOINTS_CHECK, chain::CLUSTER_IPS_CHECK],
        ),
        base("filter-output", Filter, Output, 0, &[chain::SERVICE_ENDPOINTS_CHECK, chain::CLUSTER_IPS_CHECK]),
        base("nat-postrouting", Nat, Postrouting, 100, &[chain::MASQUERADING]),
    ]
}
