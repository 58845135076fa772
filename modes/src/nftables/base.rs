//! The rules that every ruleset has, whatever the services.

use std::net::{Ipv4Addr, Ipv6Addr};

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::nft::expr::{Action, Expr, FibFlags, Register, RejectWith};
use kernel::nft::{Chain, Rule, Verdict};

use super::layout::{SetName, base_chains, chain};
use super::rules::{self, When, rule};
use crate::context::{Context, NodePortRanges};

/// Every base chain and every chain they call, with its rules. Chains stand before those that call them.
pub(crate) fn chains(context: &Context) -> Vec<(Chain, Vec<Rule>)> {
    let called = [
        (chain::REJECT, vec![reject(context)]),
        (chain::FIREWALL_CHECK, vec![firewall(context)]),
        (chain::SERVICES, services(context)),
        (chain::SERVICE_ENDPOINTS_CHECK, vec![service_endpoints(context)]),
        (chain::NODE_PORT_ENDPOINTS_CHECK, node_port_rules(context, node_port_endpoints)),
        (chain::CLUSTER_IPS_CHECK, cluster_ips(context)),
        (chain::MASQUERADING, masquerading(context)),
    ];
    let called = called.map(|(name, rules)| (Chain { name: name.to_owned(), hook: None }, rules));
    let base = base_chains().into_iter().map(|base| {
        let condition = || if base.new_only { rules::new_connection() } else { Vec::new() };
        let calls = base.calls.iter().map(|name| rule("", [condition(), rules::jump(name)])).collect();
        (base.chain, calls)
    });
    called.into_iter().chain(base).collect()
}

/// Dispatches a connection to the chain that picks its endpoint.
fn services(context: &Context) -> Vec<Rule> {
    let by_address = rule("", [rules::frontend_lead(context.family, SetName::ServiceIps, SetName::Picks)]);
    let by_node_port = || rules::node_port_lead(SetName::ServiceNodePorts, SetName::Picks);
    let mut chain: Vec<Rule> = masquerade_mark(context).into_iter().collect();
    chain.push(by_address);
    chain.extend(node_port_rules(context, by_node_port));
    chain
}

/// Traffic to a ClusterIP that does not come from this node's pods must find its way back through this node.
fn masquerade_mark(context: &Context) -> Option<Rule> {
    let register = Register::new(0);
    let to_cluster_ip = vec![
        rules::destination_address(context.family, register),
        rules::contains(SetName::ClusterIps, register, When::Is),
    ];
    let mark = rules::set_mark(context.masquerade_mark);
    if context.masquerade_all {
        return Some(rule("masquerade all traffic to ClusterIPs", [to_cluster_ip, mark]));
    }
    let foreign = rules::from_local_pods(context, When::IsNot)?;
    Some(rule("masquerade traffic to ClusterIPs that is not from pods", [to_cluster_ip, foreign, mark]))
}

/// What becomes of packets to a node port: one rule for each range of addresses that answers.
fn node_port_rules(context: &Context, fate: impl Fn() -> Vec<Expr>) -> Vec<Rule> {
    let guarded = |range: Option<&IpNet>| {
        let within = range.map(|range| rules::to_range(context.family, *range, When::Is));
        rule(
            "",
            [
                rules::to_range(context.family, loopback(context.family), When::IsNot),
                within.unwrap_or_default(),
                rules::is_local_address(FibFlags::Daddr),
                fate(),
            ],
        )
    };
    match &context.node_port_ranges {
        NodePortRanges::All => vec![guarded(None)],
        NodePortRanges::Within(ranges) => ranges.iter().map(|range| guarded(Some(range))).collect(),
    }
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::new_assert(Ipv4Addr::LOCALHOST.into(), 8),
        Family::V6 => IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128),
    }
}

/// Only the clients in `firewall-sources` may use a load-balancer address in `firewall-ips`.
fn firewall(context: &Context) -> Rule {
    let frontend = Register::new(0);
    let client = frontend.after(rules::address_width(context.family)).after(8);
    rule(
        "loadBalancerSourceRanges",
        [
            rules::frontend(context.family, frontend),
            vec![
                rules::contains(SetName::FirewallIps, frontend, When::Is),
                rules::source_address(context.family, client),
                rules::contains(SetName::FirewallSources, frontend, When::IsNot),
            ],
            rules::action(Action::Counter),
            rules::verdict(Verdict::Drop),
        ],
    )
}

fn service_endpoints(context: &Context) -> Rule {
    rule("", [rules::frontend_verdict(context.family, SetName::NoEndpointServices), go_to_reject()])
}

fn node_port_endpoints() -> Vec<Expr> {
    [rules::node_port_verdict(SetName::NoEndpointNodePorts), go_to_reject()].concat()
}

/// Only frontends whose verdict is to continue come so far.
fn go_to_reject() -> Vec<Expr> {
    rules::verdict(Verdict::Goto(chain::REJECT.to_owned()))
}

/// What still goes to a ClusterIP here was not translated: its port is not one of the service's, or the address
/// belongs to no service.
fn cluster_ips(context: &Context) -> Vec<Rule> {
    let register = Register::new(0);
    let to_cluster_ip = vec![
        rules::destination_address(context.family, register),
        rules::contains(SetName::ClusterIps, register, When::Is),
    ];
    let undefined_port = rule("no such port", [to_cluster_ip, reject_actions(context)]);
    let unallocated = context.service_cidrs.iter().map(|range| {
        let to_range = rules::to_range(context.family, *range, When::Is);
        rule("no such ClusterIP", [to_range, rules::action(Action::Counter), rules::verdict(Verdict::Drop)])
    });
    [undefined_port].into_iter().chain(unallocated).collect()
}

fn reject(context: &Context) -> Rule {
    rule("", [reject_actions(context)])
}

fn reject_actions(context: &Context) -> Vec<Expr> {
    let code = match context.family {
        Family::V4 => RejectWith::PortUnreachable,
        Family::V6 => RejectWith::PortUnreachable6,
    };
    [rules::action(Action::Counter), rules::action(Action::Reject(code))].concat()
}

fn masquerading(context: &Context) -> Vec<Rule> {
    let mark = context.masquerade_mark;
    let marked = [rules::has_mark(mark), rules::clear_mark(mark), rules::action(Action::Masquerade)];
    vec![rule("", marked), hairpin(context)]
}

/// A pod that reaches itself through a service must see another address than its own, or it would answer directly.
fn hairpin(context: &Context) -> Rule {
    let client = Register::new(0);
    let server = client.after(rules::address_width(context.family));
    rule(
        "a pod that reaches itself",
        [
            rules::destination_was_translated(),
            vec![rules::source_address(context.family, client)],
            rules::frontend(context.family, server),
            vec![rules::contains(SetName::HairpinConnections, client, When::Is)],
            rules::action(Action::Masquerade),
        ],
    )
}
