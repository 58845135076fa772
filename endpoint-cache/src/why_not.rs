//! Why an endpoint is not used, for people who look for it. What is used is decided in `select`, and only told here.

use std::fmt;
use std::sync::Arc;

use crate::select::{Candidate, Hints, NodeHint, Selection, select, without_copies};
use crate::{Endpoint, Family, Protocol};

/// Why traffic is not sent to an endpoint from this node. Displays as half a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The Service has no ClusterIP of its family.
    OtherFamily(Family),
    /// Its slice has no such port.
    NoPort {
        /// The port's name; may be empty.
        name: Arc<str>,
        /// Its protocol.
        protocol: Protocol,
        /// The slice's name.
        slice: Arc<str>,
    },
    /// The same address and port is in another slice, or in the same one once more, and that counts.
    Copy {
        /// The other slice's name.
        slice: Arc<str>,
    },
    /// It is not ready.
    NotReady,
    /// It is on its way out, and others are ready.
    Terminating,
    /// It is on its way out, and answers no longer.
    Gone,
    /// Other zones' traffic is for it.
    HintedAtZones(Box<[Arc<str>]>),
    /// Other nodes' traffic is for it.
    HintedAtOtherNodes,
    /// It is on another node, and policy Local is not for those.
    Elsewhere(Local),
}

/// Which of the policies are Local.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// `internalTrafficPolicy`.
    pub internal: bool,
    /// `externalTrafficPolicy`, and something leads here from outside.
    pub external: bool,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherFamily(family) => write!(f, "another family: the Service has no {family} ClusterIP"),
            Self::NoPort { name, protocol, slice } if name.is_empty() => {
                write!(f, "no {protocol} port without a name in slice {slice}")
            }
            Self::NoPort { name, protocol, slice } => {
                write!(f, "no {protocol} port named {name} in slice {slice}")
            }
            Self::Copy { slice } => write!(f, "named once more, and what slice {slice} says of it counts"),
            Self::NotReady => f.write_str("not ready"),
            Self::Terminating => f.write_str("terminating while others are ready"),
            Self::Gone => f.write_str("terminating, and serving no longer"),
            Self::HintedAtZones(zones) => {
                write!(f, "hinted at zone{} {}", if zones.len() > 1 { "s" } else { "" }, zones.join(", "))
            }
            Self::HintedAtOtherNodes => f.write_str("hinted at other nodes"),
            Self::Elsewhere(Local { internal: true, external: true }) => {
                f.write_str("on another node, and both traffic policies are Local")
            }
            Self::Elsewhere(Local { internal: true, external: false }) => {
                f.write_str("on another node, and the internal traffic policy is Local")
            }
            Self::Elsewhere(_) => f.write_str("on another node, and the external traffic policy is Local"),
        }
    }
}

/// Whose traffic may use an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) cluster: bool,
    pub(crate) local: bool,
    pub(crate) why_not: Option<WhyNot>,
}

/// Which policies frontends of a service port have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Whether some traffic may use endpoints anywhere.
    pub(crate) cluster: bool,
    pub(crate) local: Local,
}

/// The endpoints of a service port in one family, as they were chosen among.
pub(crate) struct Judge<'a> {
    asked: Asked,
    hints: Hints<'a>,
    selection: Selection,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(candidates: &[Candidate<'a>], zone: Option<&'a str>, asked: Asked) -> Self {
        let hints = Hints::that_apply(&without_copies(candidates.to_vec()), zone);
        Self { asked, hints, selection: select(candidates.to_vec(), zone) }
    }

    /// What became of a candidate that is no copy of another.
    pub(crate) fn verdict(&self, candidate: &Candidate<'_>) -> Verdict {
        let among = |list: &[Endpoint]| list.binary_search(&candidate.endpoint).is_ok();
        let (cluster, local) = (among(&self.selection.cluster), among(&self.selection.local));
        let Asked { cluster: asks_cluster, local: policy } = self.asked;
        let why_not = if asks_cluster && !cluster {
            Some(self.not_by_cluster(candidate))
        } else if (policy.internal || policy.external) && !local {
            let elsewhere = !candidate.endpoint.local;
            Some(if elsewhere { WhyNot::Elsewhere(policy) } else { condition(candidate) })
        } else {
            None
        };
        Verdict { cluster, local, why_not }
    }

    fn not_by_cluster(&self, candidate: &Candidate<'_>) -> WhyNot {
        match self.hints {
            Hints::Zone(_) if candidate.ready => WhyNot::HintedAtZones(candidate.zones.into()),
            Hints::Node if candidate.ready && candidate.node_hint != NodeHint::Here => {
                WhyNot::HintedAtOtherNodes
            }
            _ => condition(candidate),
        }
    }
}

/// What keeps an endpoint from use that nothing else does.
fn condition(candidate: &Candidate<'_>) -> WhyNot {
    match (candidate.terminating, candidate.serving) {
        (true, true) => WhyNot::Terminating,
        (true, false) => WhyNot::Gone,
        (false, _) => WhyNot::NotReady,
    }
}
