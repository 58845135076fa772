//! What the kernel holds, as far as it is one family's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use endpoint_cache::Protocol;
use ipnet::IpNet;
use kernel::ipset::Entry;
use kernel::ipvs::{Frontend, Server, Target};

use super::program::Shared;
use super::service::Served;
use super::sets::SetName;

/// A virtual server with its destinations' weights.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) server: Server,
    pub(super) weights: BTreeMap<Target, u32>,
    /// Whether there are connections.
    pub(super) busy: bool,
}

/// Everything that may be ours.
#[derive(Debug, Default)]
pub(super) struct Installed {
    /// Virtual servers at addresses and ports that are ours or are to be, by what they answer to; of the others nothing
    /// but that they are there.
    pub(super) servers: HashMap<Frontend, Found>,
    pub(super) entries: HashMap<SetName, HashSet<Entry>>,
    /// What is on our device.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Where node ports may be: the node's other addresses, and those that it had.
    pub(super) local: BTreeSet<IpAddr>,
    /// Where virtual servers are never removed.
    pub(super) excluded: Vec<IpNet>,
}

impl Installed {
    /// Whether a virtual server was made by this mode, or kube-proxy's: both enter it into their sets before they make
    /// it, and take it out when it has gone. Those at addresses of our own device are nobody else's either.
    pub(super) fn is_ours(&self, frontend: Frontend) -> bool {
        let Frontend::Address { address, protocol, port } = frontend else { return false };
        if self.excluded.iter().any(|range| range.contains(&address)) {
            return false;
        }
        self.addresses.contains(&address) || self.is_entered(address, protocol, port)
    }

    fn is_entered(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        const WITH_ADDRESS: [SetName; 6] = [
            SetName::ClusterIp,
            SetName::ExternalIp,
            SetName::ExternalIpLocal,
            SetName::LoadBalancer,
            SetName::NodePort(Protocol::Sctp),
            SetName::NodePortLocal(Protocol::Sctp),
        ];
        let entry = Entry::IpPort { address, protocol, port };
        let by_number = [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.number() == protocol);
        let is_node_port = |protocol| self.has(SetName::NodePort(protocol), &Entry::Port(port));
        WITH_ADDRESS.into_iter().any(|set| self.has(set, &entry))
            || (self.local.contains(&address) && by_number.is_some_and(is_node_port))
    }

    /// Virtual servers of ours that are not wanted.
    pub(super) fn stale(&self, wanted: &BTreeMap<Frontend, Served>) -> BTreeMap<Frontend, &Found> {
        let stale = self.servers.iter().filter(|(frontend, _)| !wanted.contains_key(frontend));
        stale
            .map(|(frontend, found)| (*frontend, found))
            .filter(|(frontend, _)| self.is_ours(*frontend))
            .collect()
    }

    pub(super) fn holds(&self, shared: &Shared) -> bool {
        match shared {
            Shared::Address(address) => self.addresses.contains(address),
            Shared::Entry(set, entry) => self.has(*set, entry),
        }
    }

    /// Entries of our sets, and addresses on our device.
    pub(super) fn shared(&self) -> impl Iterator<Item = Shared> + '_ {
        let of_set = |(set, entries): (&SetName, &HashSet<Entry>)| {
            let set = *set;
            entries.iter().map(move |entry| Shared::Entry(set, *entry)).collect::<Vec<_>>()
        };
        let addresses = self.addresses.iter().copied().map(Shared::Address);
        addresses.chain(self.entries.iter().flat_map(of_set))
    }

    fn has(&self, set: SetName, entry: &Entry) -> bool {
        self.entries.get(&set).is_some_and(|entries| entries.contains(entry))
    }
}
