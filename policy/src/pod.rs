//! A Pod, as far as policies see it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::object::Metadata;
use endpoint_cache::{Protocol, parse_address};
use serde::{Deserialize, Serialize};

use crate::object::{ContainerPort, Pod as Written};
use crate::selector::Labels;

/// A pod with a network of its own, that runs or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pod {
    pub(crate) labels: Labels,
    /// In ascending order.
    pub(crate) addresses: Vec<IpAddr>,
    /// The ports that it has names for.
    pub(crate) ports: BTreeSet<NamedPort>,
    /// Whether it runs on the own node.
    pub(crate) is_local: bool,
    /// When it was created, as written (RFC 3339, which sorts).
    pub(crate) created: String,
    /// By which UIDs the kubelet may call it; none if that is not known, and of other nodes' pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) uids: Vec<String>,
}

/// A port by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct NamedPort {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
}

impl Pod {
    /// `None` for pods that no policy knows: those with the node's network, and those that have ended (whose address may be
    /// somebody else's by now). One that runs soon has no address yet. Without a node's name, all are local.
    pub(crate) fn read(from: &Written, node_name: Option<&str>) -> Option<Self> {
        let ended = matches!(from.status.phase.as_str(), "Succeeded" | "Failed");
        if ended || from.spec.host_network {
            return None;
        }
        let listed = from.status.pod_ips.iter().map(|listed| listed.ip.as_str());
        let written = listed.chain([from.status.pod_ip.as_str()]);
        let addresses: BTreeSet<IpAddr> = written.filter_map(parse_address).collect();
        let containers = from.spec.containers.iter().chain(&from.spec.init_containers);
        let is_local = node_name.is_none_or(|own| from.spec.node_name.to_lowercase() == own);
        let metadata = &from.metadata;
        Some(Self {
            labels: metadata.labels.clone(),
            addresses: addresses.into_iter().collect(),
            ports: containers.flat_map(|container| &container.ports).filter_map(NamedPort::read).collect(),
            is_local,
            created: metadata.creation_timestamp.clone().unwrap_or_default(),
            uids: if is_local { uids(metadata) } else { Vec::new() },
        })
    }

    /// Whether it may be the one with this UID, not another of the same name.
    pub(crate) fn may_be(&self, uid: Option<&str>) -> bool {
        uid.is_none_or(|uid| self.uids.is_empty() || self.uids.iter().any(|own| own == uid))
    }
}

/// The API server's, and for a pod that the kubelet has from a file, and only shows there, the kubelet's own.
fn uids(metadata: &Metadata) -> Vec<String> {
    const OF_FILE: &str = "kubernetes.io/config.hash";
    let of_file = metadata.annotations.get(OF_FILE);
    metadata.uid.iter().flat_map(|uid| [Some(uid), of_file]).flatten().cloned().collect()
}

impl NamedPort {
    fn read(from: &ContainerPort) -> Option<Self> {
        let protocol = match from.protocol.as_str() {
            "" | "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => return None,
        };
        let number = u16::try_from(from.container_port).ok().filter(|number| *number > 0)?;
        let name = Some(from.name.as_str()).filter(|name| !name.is_empty())?;
        Some(Self { name: name.into(), protocol, number })
    }
}
