//! The ipsets that rules look addresses and ports up in: kube-proxy's, so that people and scripts find them.

use std::sync::Arc;

use endpoint_cache::{Family, Protocol};
use kernel::ipset::{Kind, Set};

/// Entries that a set may have at most; memory is taken as they come.
pub(super) const MOST: u32 = 1 << 20;

/// Bytes of a name (`IPSET_MAXNAMELEN` less the terminating zero).
const LONGEST: usize = 31;

/// How the names of our sets begin, in either family.
const PREFIX: &str = "KUBE-";
const PREFIX_V6: &str = "KUBE-6-";

/// A set, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum SetName {
    /// ClusterIPs with their ports.
    ClusterIp,
    /// External addresses of policy Cluster.
    ExternalIp,
    /// External addresses of policy Local.
    ExternalIpLocal,
    /// Load-balancer addresses.
    LoadBalancer,
    /// Those of policy Local among them.
    LoadBalancerLocal,
    /// Those that have source ranges among them.
    LoadBalancerFw,
    /// Which clients these let in.
    LoadBalancerSourceCidr,
    /// The address itself as a client, where the node may be one: the kernel takes it as the source.
    LoadBalancerSourceIp,
    /// Node ports.
    NodePort(Protocol),
    /// Those of policy Local among them.
    NodePortLocal(Protocol),
    /// Where load balancers ask for a node's health.
    HealthCheckNodePort,
    /// Endpoints of this node, each as its own client.
    LoopBack,
    /// Every address on our device.
    IpvsIps,
    /// ClusterIPs of policy Local without an endpoint here.
    NoLocalInternal,
    /// What outsiders come to of policy Local without an endpoint here.
    NoLocalExternal,
}

impl SetName {
    pub(super) const ALL: [Self; 19] = [
        Self::ClusterIp,
        Self::ExternalIp,
        Self::ExternalIpLocal,
        Self::LoadBalancer,
        Self::LoadBalancerLocal,
        Self::LoadBalancerFw,
        Self::LoadBalancerSourceCidr,
        Self::LoadBalancerSourceIp,
        Self::NodePort(Protocol::Tcp),
        Self::NodePort(Protocol::Udp),
        Self::NodePort(Protocol::Sctp),
        Self::NodePortLocal(Protocol::Tcp),
        Self::NodePortLocal(Protocol::Udp),
        Self::NodePortLocal(Protocol::Sctp),
        Self::HealthCheckNodePort,
        Self::LoopBack,
        Self::IpvsIps,
        Self::NoLocalInternal,
        Self::NoLocalExternal,
    ];

    /// What follows the prefix.
    fn stem(self) -> &'static str {
        match self {
            Self::ClusterIp => "CLUSTER-IP",
            Self::ExternalIp => "EXTERNAL-IP",
            Self::ExternalIpLocal => "EXTERNAL-IP-LOCAL",
            Self::LoadBalancer => "LOAD-BALANCER",
            Self::LoadBalancerLocal => "LOAD-BALANCER-LOCAL",
            Self::LoadBalancerFw => "LOAD-BALANCER-FW",
            Self::LoadBalancerSourceCidr => "LOAD-BALANCER-SOURCE-CIDR",
            Self::LoadBalancerSourceIp => "LOAD-BALANCER-SOURCE-IP",
            Self::NodePort(Protocol::Tcp) => "NODE-PORT-TCP",
            Self::NodePort(Protocol::Udp) => "NODE-PORT-UDP",
            Self::NodePort(Protocol::Sctp) => "NODE-PORT-SCTP-HASH",
            Self::NodePortLocal(Protocol::Tcp) => "NODE-PORT-LOCAL-TCP",
            Self::NodePortLocal(Protocol::Udp) => "NODE-PORT-LOCAL-UDP",
            Self::NodePortLocal(Protocol::Sctp) => "NODE-PORT-LOCAL-SCTP-HASH",
            Self::HealthCheckNodePort => "HEALTH-CHECK-NODE-PORT",
            Self::LoopBack => "LOOP-BACK",
            Self::IpvsIps => "IPVS-IPS",
            Self::NoLocalInternal => "NO-LOCAL-INTERNAL",
            Self::NoLocalExternal => "NO-LOCAL-EXTERNAL",
        }
    }

    /// Its name in the kernel, cut where kube-proxy cuts it.
    pub(super) fn name(self, family: Family) -> Arc<str> {
        let prefix = if family == Family::V6 { PREFIX_V6 } else { PREFIX };
        let mut name = format!("{prefix}{}", self.stem());
        name.truncate(LONGEST);
        name.into()
    }

    /// The set that has this name in the kernel.
    pub(super) fn parse(name: &str) -> Option<(Self, Family)> {
        let all = Family::BOTH.into_iter().flat_map(|family| Self::ALL.map(|set| (set, family)));
        all.into_iter().find(|(set, family)| *set.name(*family) == *name)
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::LoopBack | Self::LoadBalancerSourceIp => Kind::HashIpPortIp,
            Self::LoadBalancerSourceCidr => Kind::HashIpPortNet,
            Self::IpvsIps => Kind::HashIp,
            Self::HealthCheckNodePort => Kind::BitmapPort,
            Self::NodePort(protocol) | Self::NodePortLocal(protocol) if protocol != Protocol::Sctp => {
                Kind::BitmapPort
            }
            _ => Kind::HashIpPort,
        }
    }

    /// What it takes to make it.
    pub(super) fn set(self, family: Family) -> Set {
        let name = self.name(family).to_string();
        Set { name, kind: self.kind(), ipv6: family == Family::V6, max_entries: MOST }
    }
}

/// Sets that kube-proxy has had at some time and this mode has not.
const RETIRED: [&str; 2] = ["KUBE-LOAD-BALANCER-MASQ", "KUBE-6-LOAD-BALANCER-MASQ"];

/// Whether a set is one that only this mode or kube-proxy's has.
pub(super) fn is_ours(name: &str) -> bool {
    SetName::parse(name).is_some() || RETIRED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_are_read_back() {
        for set in SetName::ALL {
            for family in Family::BOTH {
                let name = set.name(family);
                assert!(name.len() <= 31, "{name}");
                assert_eq!(SetName::parse(&name), Some((set, family)));
                assert!(is_ours(&name));
            }
        }
        assert!(is_ours("KUBE-6-LOAD-BALANCER-MASQ"));
        assert!(!is_ours("KUBE-CLUSTER-IPS") && !is_ours("CLUSTER-IP") && !is_ours("KUBE-SRC-POD"));
    }
}
