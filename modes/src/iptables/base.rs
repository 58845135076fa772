//! The rules that every node has, whatever the services, and the chains that all service ports share.

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::iptables::Table;

use crate::context::NodePortRanges;

use super::context::Context;
use super::layout::{FixedChain, Hook, Layout, MARK_MASQ, POSTROUTING};
use super::rule::{Is, Rule, masquerade_marked};

/// In each table; when it is gone, everything of ours is suspected to be. Other tools look for it too.
const CANARY: &str = "KUBE-PROXY-CANARY";
const FORWARD: &str = "KUBE-FORWARD";
/// The kubelet has it too, with the same rule.
pub(super) const FIREWALL: &str = "KUBE-FIREWALL";

/// A chain to which service ports add rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shared {
    /// Leads by address.
    Services,
    /// Leads by node port.
    NodePorts,
    /// What becomes of traffic to ClusterIPs without endpoints.
    FilterServices,
    /// What becomes of outside traffic without endpoints.
    ExternalServices,
    /// Lets health checks through.
    HealthCheckNodePorts,
    /// Drops what source ranges exclude.
    ProxyFirewall,
}

impl Shared {
    pub(super) const ALL: [Self; 6] = [
        Self::Services,
        Self::NodePorts,
        Self::FilterServices,
        Self::ExternalServices,
        Self::HealthCheckNodePorts,
        Self::ProxyFirewall,
    ];

    pub(super) fn table(self) -> Table {
        match self {
            Self::Services | Self::NodePorts => Table::Nat,
            _ => Table::Filter,
        }
    }

    pub(super) fn chain(self) -> &'static str {
        match self {
            Self::Services | Self::FilterServices => "KUBE-SERVICES",
            Self::NodePorts | Self::HealthCheckNodePorts => "KUBE-NODEPORTS",
            Self::ExternalServices => "KUBE-EXTERNAL-SERVICES",
            Self::ProxyFirewall => "KUBE-PROXY-FIREWALL",
        }
    }

    /// The rules that stand behind those of service ports.
    pub(super) fn tail(self, context: &Context) -> Vec<String> {
        match self {
            Self::Services => to_node_ports(context),
            _ => Vec::new(),
        }
    }
}

/// All of them. Nobody else needs them.
const FIXED: [(Table, &str); 6] = [
    (Table::Filter, FORWARD),
    (Table::Filter, CANARY),
    (Table::Nat, MARK_MASQ),
    (Table::Nat, POSTROUTING),
    (Table::Nat, CANARY),
    (Table::Mangle, CANARY),
];

/// What there is on every node, whatever the services.
pub(super) fn layout(context: &Context) -> Layout {
    Layout { chains: fixed_chains(context), hooks: hooks(context) }
}

fn fixed_chains(context: &Context) -> Vec<FixedChain> {
    let rules = |name| match name {
        FORWARD => forward(context),
        MARK_MASQ => vec![format!("-j MARK --set-xmark {}", context.mark())],
        POSTROUTING => masquerade_marked(&context.common).into(),
        _ => Vec::new(),
    };
    FIXED.into_iter().map(|(table, name)| FixedChain { table, name, rules: rules(name) }).collect()
}

/// How many rules of a table do not depend on services.
pub(super) fn count(context: &Context, table: Table) -> usize {
    let Layout { chains, hooks } = layout(context);
    let in_chains: usize =
        chains.iter().filter(|chain| chain.table == table).map(|chain| chain.rules.len()).sum();
    let tails: usize = Shared::ALL
        .iter()
        .filter(|shared| shared.table() == table)
        .map(|shared| shared.tail(context).len())
        .sum();
    let guard = localhost_guard(context);
    in_chains + tails + hooks.iter().chain(&guard).filter(|hook| hook.table == table).count()
}

/// Whether a chain outside of service ports' own is one of this mode's, which nobody else needs.
pub(super) fn is_of_this_mode(table: Table, chain: &str) -> bool {
    FIXED.contains(&(table, chain))
        || Shared::ALL.iter().any(|shared| (shared.table(), shared.chain()) == (table, chain))
}

/// Whether a chain outside of service ports' own is one that this mode or ipvs has, which nobody else needs.
pub(super) fn is_ours(table: Table, chain: &str) -> bool {
    is_of_this_mode(table, chain) || crate::ipvs::has_chain(table, chain)
}

/// How packets come to our chains, in the order in which missing ones are put in front.
fn hooks(context: &Context) -> Vec<Hook> {
    let new = || Rule::new().with("-m conntrack --ctstate NEW");
    let any = Rule::new;
    let mut hooks: Vec<Hook> = Vec::new();
    let mut hook = |table, chain, rule: Rule, comment: &str, target: &str| {
        hooks.push(Hook { table, chain, rule: rule.comment(comment).jump(target) });
    };
    let outside = Shared::ExternalServices.chain();
    for chain in ["INPUT", "FORWARD"] {
        hook(Table::Filter, chain, new(), "kubernetes externally-visible service portals", outside);
    }
    let node_ports = Shared::HealthCheckNodePorts.chain();
    hook(Table::Filter, "INPUT", any(), "kubernetes health check service ports", node_ports);
    let services = Shared::Services.chain();
    for chain in ["FORWARD", "OUTPUT"] {
        hook(Table::Filter, chain, new(), "kubernetes service portals", services);
    }
    hook(Table::Filter, "FORWARD", any(), "kubernetes forwarding rules", FORWARD);
    let firewall = Shared::ProxyFirewall.chain();
    for chain in ["INPUT", "OUTPUT", "FORWARD"] {
        hook(Table::Filter, chain, new(), "kubernetes load balancer firewall", firewall);
    }
    for chain in ["OUTPUT", "PREROUTING"] {
        hook(Table::Nat, chain, any(), "kubernetes service portals", services);
    }
    hook(Table::Nat, "POSTROUTING", any(), "kubernetes postrouting rules", POSTROUTING);
    if context.localhost_node_ports {
        let jump = |chain| Hook { table: Table::Filter, chain, rule: Rule::new().jump(FIREWALL) };
        hooks.extend([jump("INPUT"), jump("OUTPUT")]);
    }
    hooks
}

/// Packets that come for 127.0.0.1 from elsewhere are dropped: that node ports answer there takes `route_localnet`,
/// which lets them in. The chain may hold rules of others.
pub(super) fn localhost_guard(context: &Context) -> Option<Hook> {
    let loopback = loopback(Family::V4);
    let rule = Rule::new().from(Is::Not, loopback).to(Is::Yes, loopback);
    let rule = rule.comment("block incoming localnet connections");
    let rule = rule.with("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT").jump("DROP");
    context.localhost_node_ports.then_some(Hook { table: Table::Filter, chain: FIREWALL, rule })
}

/// Whether node ports answer on loopback, for which the kernel must route it.
pub(super) fn serves_localhost(context: &Context) -> bool {
    let overlaps = |range: &IpNet| range.contains(&loopback(Family::V4)) || is_loopback(range);
    context.localhost_node_ports
        && match &context.common.node_port_ranges {
            NodePortRanges::All => true,
            NodePortRanges::Within(ranges) => ranges.iter().any(overlaps),
        }
}

fn to_node_ports(context: &Context) -> Vec<String> {
    let (loopback, localhost) = (loopback(context.family()), context.localhost_node_ports);
    let local = |rule: Rule| {
        let rule = rule
            .comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
            .with("-m addrtype --dst-type LOCAL");
        rule.jump(Shared::NodePorts.chain())
    };
    match &context.common.node_port_ranges {
        NodePortRanges::All if localhost => vec![local(Rule::new())],
        NodePortRanges::All => vec![local(Rule::new().to(Is::Not, loopback))],
        NodePortRanges::Within(ranges) => {
            let keep_out =
                Rule::new().to(Is::Yes, loopback).comment("no node ports on loopback").jump("RETURN");
            let keep_out = (!localhost).then_some(keep_out);
            let leads = ranges.iter().map(|range| local(Rule::new().to(Is::Yes, *range)));
            keep_out.into_iter().chain(leads).collect()
        }
    }
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::new_assert([127, 0, 0, 0].into(), 8),
        Family::V6 => IpNet::from(std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
    }
}

fn is_loopback(range: &IpNet) -> bool {
    loopback(Family::V4).contains(range)
}

fn forward(context: &Context) -> Vec<String> {
    // What conntrack takes for invalid was not translated, and would make the other side reset the connection.
    let invalid = context.drop_invalid.then(|| "-m conntrack --ctstate INVALID -j DROP".to_owned());
    let marked = Rule::new().comment("kubernetes forwarding rules");
    let related = Rule::new().comment("kubernetes forwarding conntrack rule");
    let accepted = [
        marked.with(format_args!("-m mark --mark {}", context.mark())).jump("ACCEPT"),
        related.with("-m conntrack --ctstate RELATED,ESTABLISHED").jump("ACCEPT"),
    ];
    invalid.into_iter().chain(accepted).collect()
}
