//! What a trace is made of: a packet that asks, and the ways that it may take.

use std::net::{IpAddr, SocketAddr};

use endpoint_cache::Protocol;
use serde::{Deserialize, Serialize};

/// The first packet of a connection that might be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Who sends it. Its port is not known.
    pub(crate) source: IpAddr,
    /// Where it is sent.
    pub(crate) destination: SocketAddr,
    /// By what.
    pub(crate) protocol: Protocol,
    /// Where the node's rules meet it first.
    pub(crate) origin: Origin,
}

/// Where a packet comes from, as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A process on this node sends it: hook output.
    Node,
    /// It comes in by an interface, from a pod of this node or from outside: hook prerouting.
    Interface {
        /// The interface's name.
        name: String,
        /// Its number.
        index: u32,
    },
}

/// What a mode's rules in the kernel do with a packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Walk {
    /// All ways that it may take; their shares add up to 1.
    pub(crate) ways: Vec<Way>,
    /// What could not be evaluated, such as a rule of somebody else's in our chains; a sentence each.
    pub(crate) unknown: Vec<String>,
}

/// One way through the rules.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Way {
    /// How probable it is, from 0 to 1.
    pub(crate) share: f64,
    /// What is met on it, in order.
    pub(crate) steps: Vec<Step>,
    /// Where it ends.
    pub(crate) end: End,
}

/// Something that a packet meets, in the words of the mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    /// The chain, map or virtual server: `nat-prerouting`, `KUBE-SVC-TCOU7JCQXEZGVUNU`, `10.96.0.10:53/udp rr`.
    pub(crate) place: String,
    /// The rule or element as the mode's own tool prints it, or what happens there.
    pub(crate) what: String,
}

/// Where a way ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is translated, and goes to an endpoint (or, in userspace mode, to the forwarder).
    Endpoint {
        /// Where.
        to: SocketAddr,
        /// Whether the endpoint sees the node's address instead of the source's.
        masquerade: bool,
    },
    /// Nothing translates it: it goes where it is addressed to, as if there were no Services.
    Untranslated {
        /// Whether its source is translated all the same.
        masquerade: bool,
    },
    /// It is answered with an error, such as ICMP port unreachable.
    Rejected,
    /// It is dropped without an answer.
    Dropped,
}

/// What rules ask of the node besides the packet.
pub(crate) trait Surroundings {
    /// Whether an address is one of this node's own (`fib daddr type local`, `addrtype --dst-type LOCAL`).
    fn is_local(&self, address: IpAddr) -> bool;
    /// The name and number of the interface by which packets to an address leave.
    fn interface_towards(&self, address: IpAddr) -> Option<(String, u32)>;
}
