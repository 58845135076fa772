//! What a compiler knows, handed to whoever has questions that need not keep it from its work.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::Protocol;
use endpoint_cache::object::ObjectName;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::compiler::Compiler;
use crate::pod::Pod;
use crate::policy::Policy;
use crate::selector::Labels;

/// The namespaces, pods and policies of a cluster, as far as policies see them, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub(crate) namespaces: BTreeMap<Arc<str>, Labels>,
    /// By name, in ascending order.
    pub(crate) pods: Vec<(ObjectName, Pod)>,
    /// By name, in ascending order.
    pub(crate) policies: Vec<Policy>,
    pub(crate) ranges: Vec<IpNet>,
}

/// A pod, as far as a question about it needs.
#[derive(Clone, Copy, Debug)]
pub struct PodFacts<'a> {
    /// Namespace and name.
    pub name: &'a ObjectName,
    /// In ascending order; at least one.
    pub addresses: &'a [IpAddr],
    /// Whether it runs on the node whose snapshot this is.
    pub is_local: bool,
    pod: &'a Pod,
}

impl PodFacts<'_> {
    /// The ports that its containers name: the name, the protocol and the number.
    pub fn ports(&self) -> impl Iterator<Item = (&str, Protocol, u16)> {
        self.pod.ports.iter().map(|port| (&*port.name, port.protocol, port.number))
    }
}

impl Snapshot {
    /// A compiler of the whole cluster: every node's pods are taken for its own.
    #[must_use]
    pub fn of_every_node(&self) -> Compiler {
        Compiler::of_snapshot(self)
    }

    /// The pods that policies know, by name in ascending order.
    pub fn pods(&self) -> impl Iterator<Item = PodFacts<'_>> {
        self.pods.iter().map(|(name, pod)| PodFacts {
            name,
            addresses: &pod.addresses,
            is_local: pod.is_local,
            pod,
        })
    }

    /// A policy as it was understood.
    #[must_use]
    pub fn policy(&self, name: &ObjectName) -> Option<&Policy> {
        let at = self.policies.binary_search_by(|policy| policy.name.cmp(name)).ok()?;
        self.policies.get(at)
    }
}
