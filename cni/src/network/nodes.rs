//! The Nodes of the cluster, and what follows from them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use endpoint_cache::object::{Kind, Node, ObjectRef};
use endpoint_cache::{Family, Problem};
use ipnet::IpNet;

use super::desired::{Delta, Desired, Way};
use super::settings::Settings;
use super::uplink::Uplink;

/// What the model is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A Node as it is now.
    Node(Box<Node>),
    /// This object is gone.
    Deleted(ObjectRef),
    /// All objects of a kind follow, those that are known among them.
    ListBegins(Kind),
    /// They have: whatever was known and did not follow is gone. Without a beginning, nothing is.
    ListEnds(Kind),
    /// The devices that lead to the other nodes, all of them.
    Uplinks(BTreeMap<Family, Uplink>),
    /// What BIRD has learned, all of it.
    Learned {
        /// Routes, each by a gateway ([`Way::Gateway`]).
        routes: BTreeMap<IpNet, Way>,
        /// Whether BIRD has been up for long enough to have learned all there is: until then nodes are reached as
        /// without it, and the own Node goes on to announce the backend that it had.
        settled: bool,
    },
}

/// The Nodes of the cluster, and what follows from them for one.
pub struct Nodes {
    name: String,
    settings: Settings,
    desired: Desired,
    delta: Delta,
}

impl Nodes {
    /// No Nodes yet; this node's is the one of this name.
    #[must_use]
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        Self { name: name.into(), settings, desired: Desired::default(), delta: Delta::default() }
    }

    /// Takes in what is new; returns the problems that were not there before, those of other objects among them.
    pub fn apply(&mut self, update: Update) -> Vec<Problem> {
        let _ = (&self.name, &self.settings, update);
        Vec::new()
    }

    /// All problems that stand, by object.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// What is to be now.
    #[must_use]
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What changed since the last call.
    pub fn take_delta(&mut self) -> Delta {
        std::mem::take(&mut self.delta)
    }

    /// The `InternalIP`s of the own Node, for [`Applier::uplinks`](super::Applier::uplinks).
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    /// Other settings, from now on: the delta tells what is to change.
    pub fn set(&mut self, settings: Settings) -> Vec<Problem> {
        self.settings = settings;
        Vec::new()
    }
}
