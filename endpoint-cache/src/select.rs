//! Which endpoints traffic may use.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use crate::Endpoint;

/// An endpoint of a service port, with all that decides whether it is used.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) endpoint: Endpoint,
    /// Takes new traffic.
    pub(crate) ready: bool,
    /// Answers, though it may be on its way out.
    pub(crate) serving: bool,
    /// On its way out.
    pub(crate) terminating: bool,
    pub(crate) node_hint: NodeHint,
    /// Zones whose traffic it should take; empty if it has no such hint.
    pub(crate) zones: &'a [Arc<str>],
}

/// Which nodes' traffic an endpoint should take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeHint {
    /// No hint.
    None,
    /// Other nodes'.
    Elsewhere,
    /// This node's.
    Here,
}

/// The endpoints each kind of traffic may use, each list sorted and unique.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Under traffic policy Cluster.
    pub(crate) cluster: Vec<Endpoint>,
    /// Under traffic policy Local.
    pub(crate) local: Vec<Endpoint>,
    /// For flows that are established already.
    pub(crate) serving: Vec<Endpoint>,
}

/// Chooses among all endpoints of a service port.
///
/// New traffic goes to ready endpoints: those that the hints mean for this node or its zone under policy Cluster, the
/// local ones (hints or not) under Local. Where no ready one is left, those that still serve while terminating help
/// out; that is decided for each policy on its own.
pub(crate) fn select(candidates: Vec<Candidate<'_>>, zone: Option<&str>) -> Selection {
    let candidates = without_copies(candidates);
    let hints = Hints::that_apply(&candidates, zone);
    Selection {
        cluster: ready_or_draining(&candidates, |c| hints.admit(c)),
        local: ready_or_draining(&candidates, |c| c.endpoint.local),
        serving: endpoints(&candidates, |c| c.serving || c.ready),
    }
}

/// One candidate per address and port, in that order. Of copies (a slice being replaced, a pod address used again) the
/// one not terminating counts, then the one that is ready, then the one that serves, then the first.
pub(crate) fn without_copies(mut candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    candidates.sort_by_key(Candidate::rank);
    candidates.dedup_by_key(|c| c.place());
    candidates
}

impl Candidate<'_> {
    /// What copies have in common.
    pub(crate) fn place(&self) -> (IpAddr, u16) {
        (self.endpoint.address, self.endpoint.port)
    }

    /// Orders by place, and copies by which of them counts.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        (self.place(), self.terminating, Reverse(self.ready), Reverse(self.serving))
    }
}

/// Hints never bear on the draining ones: they are followed only if some ready endpoint is meant for us.
fn ready_or_draining(candidates: &[Candidate<'_>], admit: impl Fn(&Candidate<'_>) -> bool) -> Vec<Endpoint> {
    let ready = endpoints(candidates, |c| c.ready && admit(c));
    if !ready.is_empty() {
        return ready;
    }
    endpoints(candidates, |c| c.serving && c.terminating && admit(c))
}

fn endpoints(candidates: &[Candidate<'_>], admit: impl Fn(&Candidate<'_>) -> bool) -> Vec<Endpoint> {
    candidates.iter().filter(|c| admit(c)).map(|c| c.endpoint).collect()
}

/// The hints that are followed. Only those of ready endpoints count, and a kind of hint is followed only if every ready
/// endpoint has one of that kind and at least one is meant for us: otherwise part of the endpoints would get no traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints<'a> {
    /// None: all endpoints are for everybody.
    None,
    /// Those at nodes.
    Node,
    /// Those at zones; this is the own one.
    Zone(&'a str),
}

impl<'a> Hints<'a> {
    pub(crate) fn that_apply(candidates: &[Candidate<'_>], zone: Option<&'a str>) -> Self {
        let followed = |hinted: &dyn Fn(&Candidate<'_>) -> bool, hints: Self| {
            let mut ready = candidates.iter().filter(|c| c.ready);
            ready.clone().all(hinted) && ready.any(|c| hints.admit(c))
        };
        if followed(&|c| c.node_hint != NodeHint::None, Self::Node) {
            return Self::Node;
        }
        match zone.map(Self::Zone) {
            Some(zone) if followed(&|c| !c.zones.is_empty(), zone) => zone,
            _ => Self::None,
        }
    }

    /// Whether an endpoint is meant for this node.
    pub(crate) fn admit(self, candidate: &Candidate<'_>) -> bool {
        match self {
            Self::None => true,
            Self::Node => candidate.node_hint == NodeHint::Here,
            Self::Zone(own) => candidate.zones.iter().any(|zone| **zone == *own),
        }
    }
}
