//! The chains that choose an endpoint. There is one for each *distinct number* of endpoints (and variant), not for
//! each service: which service a packet is for stays in the packet's own address and port, which key the maps.

use std::fmt;

use endpoint_cache::Family;
use kernel::nft::Rule;
use kernel::nft::expr::{DynsetOp, Expr, FibFlags, Load, Register, SetAccess};

use super::context::Context;
use super::layout::SetName;
use super::rules::{self, When, rule};

/// By what kind of frontend a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Entry {
    /// The ClusterIP, under which the endpoints stand.
    ClusterIp,
    /// An external or load-balancer address.
    ExternalIp,
    /// A node port.
    NodePort,
}

/// Which endpoints may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Those of traffic policy Cluster.
    Cluster,
    /// Those of traffic policy Local.
    Local,
}

impl Scope {
    pub(crate) fn endpoints(self) -> SetName {
        match self {
            Self::Cluster => SetName::Endpoints,
            Self::Local => SetName::LocalEndpoints,
        }
    }

    pub(crate) fn sticky(self) -> SetName {
        match self {
            Self::Cluster => SetName::StickyEndpoints,
            Self::Local => SetName::StickyLocalEndpoints,
        }
    }
}

/// A chain that chooses among `count` endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pick {
    pub(crate) entry: Entry,
    pub(crate) scope: Scope,
    pub(crate) count: u32,
    /// Session affinity: seconds after which an idle client is forgotten.
    pub(crate) affinity: Option<u32>,
    pub(crate) masquerade: bool,
}

/// A chain that verdict maps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ServiceChain {
    /// Chooses an endpoint at once.
    Pick(Pick),
    /// External policy Local: traffic from pods and the node itself may go to any endpoint, other traffic only to
    /// local ones. The `Pick` is for the latter; with a count of 0 it drops out and the packet is dropped later.
    LocalPolicy(Pick),
}

impl fmt::Display for ServiceChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, pick) = match self {
            Self::Pick(pick) => ("pick", pick),
            Self::LocalPolicy(pick) => ("local-policy", pick),
        };
        write!(f, "{prefix}-{}", pick.count)?;
        f.write_str(match pick.entry {
            Entry::ClusterIp => "",
            Entry::ExternalIp => "-external",
            Entry::NodePort => "-nodeport",
        })?;
        if pick.scope == Scope::Local && matches!(self, Self::Pick(_)) {
            f.write_str("-local")?;
        }
        if pick.masquerade {
            f.write_str("-masq")?;
        }
        pick.affinity.map_or(Ok(()), |seconds| write!(f, "-sticky-{seconds}s"))
    }
}

impl ServiceChain {
    /// The chain's rules.
    pub(crate) fn rules(&self, context: &Context) -> Vec<Rule> {
        match self {
            Self::Pick(pick) => pick.rules(context),
            Self::LocalPolicy(pick) => {
                let mut chain = shortcut(context, pick.entry);
                if pick.count > 0 {
                    chain.extend(pick.rules(context));
                }
                chain
            }
        }
    }
}

/// Traffic from pods and from this node goes to any endpoint, as if it had used the ClusterIP.
fn shortcut(context: &Context, entry: Entry) -> Vec<Rule> {
    let anywhere = || match entry {
        Entry::NodePort => rules::node_port_verdict(SetName::LocalPolicyNodePorts),
        Entry::ClusterIp | Entry::ExternalIp => {
            rules::frontend_verdict(context.family, SetName::LocalPolicyIps)
        }
    };
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

/// Where things stand while an endpoint is chosen: `client . identity . endpoint`, the slot first where the endpoint
/// goes afterwards. So `client . identity` and `identity . endpoint` are both keys as they stand.
struct Registers {
    client: Register,
    identity: Register,
    endpoint: Register,
}

impl Registers {
    fn new(family: Family) -> Self {
        let address = rules::address_width(family);
        let client = Register::new(0);
        let identity = client.after(address);
        Self { client, identity, endpoint: identity.after(address + 8) }
    }
}

impl Pick {
    fn rules(&self, context: &Context) -> Vec<Rule> {
        let mark = self.masquerade.then(|| rule("", [rules::set_mark(context.masquerade_mark)]));
        let choice = match self.affinity {
            None => vec![rule("", [self.choose(context.family), dnat(context.family)])],
            Some(seconds) => self.sticky_rules(context.family, u64::from(seconds) * 1000),
        };
        mark.into_iter().chain(choice).collect()
    }

    /// Back to the client's endpoint while it lives; else a new one, remembered unless the map is full.
    fn sticky_rules(&self, family: Family, timeout_ms: u64) -> Vec<Rule> {
        let registers = Registers::new(family);
        let client = || vec![rules::source_address(family, registers.client)];
        let remembered = vec![
            rules::lookup(SetName::Affinity, registers.client, registers.endpoint),
            rules::contains(self.scope.sticky(), registers.identity, When::Is),
        ];
        let forget = vec![remember(&registers, DynsetOp::Delete, None)];
        let refresh = || vec![remember(&registers, DynsetOp::Update, Some(timeout_ms))];
        vec![
            rule("stay", [client(), self.identity(family), remembered, refresh(), dnat(family)]),
            rule("choose", [client(), self.choose(family), forget, refresh(), dnat(family)]),
            rule("too many clients to remember", [self.choose(family), dnat(family)]),
        ]
    }

    /// Puts the ClusterIP frontend of the packet's service where it belongs.
    fn identity(&self, family: Family) -> Vec<Expr> {
        let into = Registers::new(family).identity;
        match self.entry {
            Entry::ClusterIp => rules::frontend(family, into),
            Entry::ExternalIp => {
                let mut parts = rules::frontend(family, into);
                parts.push(rules::lookup(SetName::ExternalIps, into, into));
                parts
            }
            Entry::NodePort => {
                let mut parts = rules::protocol_and_port(into);
                parts.push(rules::lookup(SetName::NodePortServices, into, into));
                parts
            }
        }
    }

    /// Puts an endpoint chosen at random where it belongs.
    fn choose(&self, family: Family) -> Vec<Expr> {
        let registers = Registers::new(family);
        let mut parts = self.identity(family);
        parts.push(Expr::Load(Load::Random { modulus: self.count, into: registers.endpoint }));
        parts.push(rules::lookup(self.scope.endpoints(), registers.identity, registers.endpoint));
        parts
    }
}

fn dnat(family: Family) -> Vec<Expr> {
    vec![rules::dnat(family, Registers::new(family).endpoint)]
}

fn remember(registers: &Registers, op: DynsetOp, timeout_ms: Option<u64>) -> Expr {
    Expr::Set(SetAccess::Dynset {
        set: SetName::Affinity.as_str().to_owned(),
        op,
        key: registers.client,
        data: Some(registers.endpoint),
        timeout_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_the_chain_does() {
        let pick = Pick {
            entry: Entry::ClusterIp,
            scope: Scope::Cluster,
            count: 3,
            affinity: None,
            masquerade: false,
        };
        let external = Pick { entry: Entry::ExternalIp, masquerade: true, ..pick };
        let local = Pick { entry: Entry::NodePort, scope: Scope::Local, ..pick };
        let names = [
            ServiceChain::Pick(pick),
            ServiceChain::Pick(Pick { affinity: Some(10_800), ..external }),
            ServiceChain::Pick(local),
            ServiceChain::LocalPolicy(local),
        ];
        assert_eq!(
            names.map(|name| name.to_string()),
            [
                "pick-3",
                "pick-3-external-masq-sticky-10800s",
                "pick-3-nodeport-local",
                "local-policy-3-nodeport"
            ]
        );
    }
}
