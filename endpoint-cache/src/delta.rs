//! What changed, and the whole of what should be.

use std::sync::Arc;

use ipnet::IpNet;

use crate::object::{ObjectName, ObjectRef};
use crate::publish::identity;
use crate::{HealthCheck, NodeState, ServicePort, Trigger};

/// One service port in one family, before and after; never both `None`, never equal.
#[derive(Clone, Debug)]
pub struct Change {
    /// What the last delta left; `None` if the service port is new in this family.
    pub before: Option<Arc<ServicePort>>,
    /// What it should be now; `None` if it is to be removed.
    pub after: Option<Arc<ServicePort>>,
}

/// All that changed since the last delta. Programming it takes a mode from the state before to the state after.
///
/// Removals stand first, then changes, then additions, so that what is added finds its frontends free. Two *changes* may
/// swap a frontend, which no order can untangle: take away all that goes before adding what comes.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Service ports that changed, one entry per service port and family.
    pub changes: Vec<Change>,
    /// The own Node's state, if it changed.
    pub node: Option<Arc<NodeState>>,
    /// The ranges that ClusterIPs are allocated from, if they changed.
    pub service_cidrs: Option<Arc<[IpNet]>>,
    /// Services whose health-check responder changed; `None` when it is to go.
    pub health_checks: Vec<(ObjectName, Option<HealthCheck>)>,
    /// What could not be used, and why.
    pub problems: Vec<Problem>,
    /// What led to changes of endpoints, in no particular order.
    pub triggers: Vec<Trigger>,
}

impl Delta {
    /// Whether there is nothing to program (problems and triggers may still be there to report).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.node.is_none()
            && self.service_cidrs.is_none()
            && self.health_checks.is_empty()
    }

    /// Whether something changed that rules for every service may depend on.
    #[must_use]
    pub fn changes_node(&self) -> bool {
        self.node.is_some() || self.service_cidrs.is_some()
    }
}

/// Everything that should be programmed.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Every service port in every family, sorted by name and family.
    pub service_ports: Vec<Arc<ServicePort>>,
    /// The own Node's state.
    pub node: Arc<NodeState>,
    /// The ranges that ClusterIPs are allocated from.
    pub service_cidrs: Arc<[IpNet]>,
}

/// Something in an object that cannot be used. The rest of the object stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object at fault.
    pub object: ObjectRef,
    /// Path of the field, as `kubectl explain` writes it: `spec.externalIPs[2]`.
    pub field: String,
    /// What is wrong and what was done about it, one sentence.
    pub reason: String,
}

/// Removals, then changes, then additions; each by name and family.
pub(crate) fn sort_changes(changes: &mut [Change]) {
    let phase = |change: &Change| match (&change.before, &change.after) {
        (_, None) => 0,
        (Some(_), Some(_)) => 1,
        (None, Some(_)) => 2,
    };
    let key = |change: &Change| change.after.clone().or_else(|| change.before.clone());
    changes.sort_by(|a, b| {
        phase(a).cmp(&phase(b)).then_with(|| match (key(a), key(b)) {
            (Some(a), Some(b)) => identity(&a, &b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        })
    });
}
