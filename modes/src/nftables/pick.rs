//! The chains that choose an endpoint. There is one for each *distinct number* of endpoints (and variant), not for
//! each service: which service a packet is for stays in the packet's own address and port, which key the maps.

use std::fmt;

use endpoint_cache::{Family, TrafficPolicy};
use kernel::nft::expr::{Expr, FibFlags, Load, Register};
use kernel::nft::{Bytes, Rule};

use super::layout::SetName;
use super::rules::{self, When, rule};
use crate::context::Context;

/// By what kind of frontend a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// A ClusterIP, external or load-balancer address.
    Address,
    /// A node port.
    NodePort,
}

/// Which endpoints may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Those of traffic policy Cluster.
    Cluster,
    /// Those of traffic policy Local.
    Local,
}

impl Scope {
    /// The traffic policy whose endpoints these are.
    pub(crate) fn policy(self) -> TrafficPolicy {
        match self {
            Self::Cluster => TrafficPolicy::Cluster,
            Self::Local => TrafficPolicy::Local,
        }
    }

    pub(crate) const BOTH: [Self; 2] = [Self::Cluster, Self::Local];

    /// The map in which endpoints of this scope stand.
    pub(crate) fn endpoints(self, entry: Entry) -> SetName {
        match (self, entry) {
            (Self::Cluster, Entry::Address) => SetName::Endpoints,
            (Self::Local, Entry::Address) => SetName::LocalEndpoints,
            (Self::Cluster, Entry::NodePort) => SetName::NodePortEndpoints,
            (Self::Local, Entry::NodePort) => SetName::LocalNodePortEndpoints,
        }
    }
}

/// A chain that is shared by all services of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pick {
    pub(crate) entry: Entry,
    pub(crate) kind: PickKind,
    /// Among how many endpoints it chooses.
    pub(crate) count: u32,
}

/// What a [`Pick`] does besides choosing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PickKind {
    /// Nothing.
    Plain(Scope),
    /// Marks for masquerading.
    Masquerade,
    /// External policy Local: traffic from pods and the node itself may go to any endpoint, other traffic only to one
    /// of `count` local ones. Where that is 0 it drops out, and the packet is dropped in `no-endpoint-*`.
    LocalPolicy,
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = match self.entry {
            Entry::Address => "",
            Entry::NodePort => "nodeport-",
        };
        match self.kind {
            PickKind::Plain(Scope::Cluster) => write!(f, "{entry}pick-{}", self.count),
            PickKind::Plain(Scope::Local) => write!(f, "{entry}pick-{}-local", self.count),
            PickKind::Masquerade => write!(f, "{entry}pick-{}-masq", self.count),
            PickKind::LocalPolicy => write!(f, "{entry}local-policy-{}", self.count),
        }
    }
}

/// Bits of a chain's number that say among how many endpoints it chooses; what is left, but for the highest bit, says
/// which kind it is.
const COUNT_BITS: u32 = 28;

impl Pick {
    /// A choice among as many endpoints as that (or 268 million).
    pub(crate) fn new(entry: Entry, kind: PickKind, count: usize) -> Self {
        const MOST: u32 = (1 << COUNT_BITS) - 1;
        Self { entry, kind, count: u32::try_from(count).unwrap_or(MOST).min(MOST) }
    }

    /// The number by which frontends are led to the chain; no other has it.
    pub(crate) fn number(&self) -> u32 {
        let entry = match self.entry {
            Entry::Address => 0,
            Entry::NodePort => 4,
        };
        let kind = match self.kind {
            PickKind::Plain(Scope::Cluster) => 0,
            PickKind::Plain(Scope::Local) => 1,
            PickKind::Masquerade => 2,
            PickKind::LocalPolicy => 3,
        };
        (entry + kind) << COUNT_BITS | self.count
    }

    /// The verdict maps in which the number stands. A chain that leads on, as those for external policy Local do, must
    /// not be among those it leads to, or the kernel would see a loop.
    pub(crate) fn signposts(&self) -> &'static [SetName] {
        match self.kind {
            PickKind::Plain(Scope::Cluster) => &[SetName::Picks, SetName::LocalPolicyPicks],
            PickKind::Plain(Scope::Local) | PickKind::Masquerade | PickKind::LocalPolicy => &[SetName::Picks],
        }
    }

    /// The chain's rules.
    pub(crate) fn rules(&self, context: &Context) -> Vec<Rule> {
        let choose = |scope| if self.count > 0 { self.choose(context.family, scope) } else { Vec::new() };
        match self.kind {
            PickKind::Plain(scope) => choose(scope),
            PickKind::Masquerade => {
                let mark = rule("", [rules::set_mark(context.masquerade_mark)]);
                [vec![mark], choose(Scope::Cluster)].concat()
            }
            PickKind::LocalPolicy => {
                let anywhere = || match self.entry {
                    Entry::Address => {
                        let picks = SetName::LocalPolicyPicks;
                        rules::frontend_lead(context.family, SetName::LocalPolicyIps, picks)
                    }
                    Entry::NodePort => {
                        rules::node_port_lead(SetName::LocalPolicyNodePorts, SetName::LocalPolicyPicks)
                    }
                };
                [shortcut(context, anywhere), choose(Scope::Local)].concat()
            }
        }
    }

    /// Translates to the endpoint in a slot drawn at random.
    ///
    /// The kernel looks each map up in the state of that very moment. A packet that was led here just before a
    /// transaction took the last slot away may draw that slot just after; the first slot then serves.
    fn choose(&self, family: Family, scope: Scope) -> Vec<Rule> {
        let drawn = |into| Expr::Load(Load::Random { modulus: self.count, into });
        let first = |into| Expr::Load(Load::Immediate { value: Bytes::from_slice(&[0; 4]), into });
        let chosen = self.translate(family, scope, drawn);
        vec![rule("", [chosen]), rule("the slot has just gone", [self.translate(family, scope, first)])]
    }

    fn translate(&self, family: Family, scope: Scope, load_slot: impl Fn(Register) -> Expr) -> Vec<Expr> {
        let frontend = Register::new(0);
        let (mut parts, width) = match self.entry {
            Entry::Address => (rules::frontend(family, frontend), rules::frontend_width(family)),
            Entry::NodePort => (rules::protocol_and_port(frontend), rules::PROTOCOL_AND_PORT_WIDTH),
        };
        // The endpoint takes the place of the slot that it was found by.
        let slot = frontend.after(width);
        parts.push(load_slot(slot));
        parts.push(rules::lookup(scope.endpoints(self.entry), frontend, slot));
        parts.push(rules::dnat(family, slot));
        parts
    }
}

/// External policy Local: traffic from pods and from this node goes on `anywhere`, as if it had used the ClusterIP.
pub(crate) fn shortcut(context: &Context, anywhere: impl Fn() -> Vec<Expr>) -> Vec<Rule> {
    let from_pods = rules::from_local_pods(context, When::Is)
        .map(|from_pods| rule("pods may use any endpoint", [from_pods, anywhere()]));
    let from_node = || rules::is_local_address(FibFlags::Saddr);
    from_pods
        .into_iter()
        .chain([
            rule("", [from_node(), rules::set_mark(context.masquerade_mark)]),
            rule("this node may use any endpoint", [from_node(), anywhere()]),
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_say_what_the_chain_does() {
        let pick = |entry, kind| Pick::new(entry, kind, 3).to_string();
        assert_eq!(pick(Entry::Address, PickKind::Plain(Scope::Cluster)), "pick-3");
        assert_eq!(pick(Entry::Address, PickKind::Masquerade), "pick-3-masq");
        assert_eq!(pick(Entry::NodePort, PickKind::Plain(Scope::Local)), "nodeport-pick-3-local");
        assert_eq!(pick(Entry::NodePort, PickKind::LocalPolicy), "nodeport-local-policy-3");
    }

    #[test]
    fn every_chain_has_a_number_of_its_own() {
        let kinds = [
            PickKind::Plain(Scope::Cluster),
            PickKind::Plain(Scope::Local),
            PickKind::Masquerade,
            PickKind::LocalPolicy,
        ];
        let picks = [Entry::Address, Entry::NodePort].into_iter().flat_map(|entry| {
            kinds.into_iter().flat_map(move |kind| [0, 1, 10].map(|count| Pick::new(entry, kind, count)))
        });
        let numbers: BTreeSet<_> = picks.clone().map(|pick| pick.number()).collect();
        assert_eq!(numbers.len(), picks.count());
        assert_eq!(Pick::new(Entry::Address, PickKind::Plain(Scope::Cluster), 10).number(), 10);
    }
}
