//! The iptables rules: the same on every node, whatever the services, since they look everything up in sets.

use endpoint_cache::{Family, Protocol};
use ipnet::IpNet;
use kernel::iptables::Table;

use crate::context::Context;
use crate::iptables::layout::{FixedChain, Hook, Layout, MARK_MASQ, POSTROUTING};
use crate::iptables::rule::{Is, Rule, mark, masquerade_marked, reject, told_from_pods};

use super::sets::SetName;

const SERVICES: &str = "KUBE-SERVICES";
const NODE_PORT: &str = "KUBE-NODE-PORT";
const LOAD_BALANCER: &str = "KUBE-LOAD-BALANCER";
const FORWARD: &str = "KUBE-FORWARD";
const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
const SOURCE_RANGES_FIREWALL: &str = "KUBE-SOURCE-RANGES-FIREWALL";
const IPVS_FILTER: &str = "KUBE-IPVS-FILTER";
const IPVS_OUT_FILTER: &str = "KUBE-IPVS-OUT-FILTER";

/// All chains and how packets come to them. `mangle` has what keeps the node's own packets away from a virtual server:
/// when `filter` sees them IPVS has translated them already.
pub(super) fn layout(context: &Context) -> Layout {
    let rules = Rules { context };
    let chain = |table, name, rules| FixedChain { table, name, rules };
    // Each leads only to those before it.
    let chains = vec![
        chain(Table::Nat, MARK_MASQ, vec![rules.set_mark()]),
        chain(Table::Nat, NODE_PORT, rules.node_port()),
        chain(Table::Nat, LOAD_BALANCER, rules.load_balancer()),
        chain(Table::Nat, SERVICES, rules.services()),
        chain(Table::Nat, POSTROUTING, rules.postrouting()),
        chain(Table::Filter, FORWARD, rules.forward()),
        chain(Table::Filter, NODE_PORT, vec![rules.health_check()]),
        chain(Table::Filter, SOURCE_RANGES_FIREWALL, rules.source_ranges()),
        chain(Table::Filter, PROXY_FIREWALL, vec![rules.to_source_ranges()]),
        chain(Table::Filter, IPVS_FILTER, rules.filter()),
        chain(Table::Mangle, SOURCE_RANGES_FIREWALL, rules.source_ranges()),
        chain(Table::Mangle, IPVS_OUT_FILTER, rules.out_filter()),
    ];
    Layout { chains, hooks: hooks() }
}

/// In the order in which missing ones are put in front.
fn hooks() -> Vec<Hook> {
    let hook = |table, chain, new: bool, comment: &str, target: &str| {
        let rule = if new { Rule::new().with("-m conntrack --ctstate NEW") } else { Rule::new() };
        Hook { table, chain, rule: rule.comment(comment).jump(target) }
    };
    let (portals, access) = ("kubernetes service portals", "kubernetes ipvs access filter");
    let firewall = "kube-proxy firewall rules";
    vec![
        hook(Table::Nat, "OUTPUT", false, portals, SERVICES),
        hook(Table::Nat, "PREROUTING", false, portals, SERVICES),
        hook(Table::Nat, "POSTROUTING", false, "kubernetes postrouting rules", POSTROUTING),
        hook(Table::Filter, "FORWARD", false, "kubernetes forwarding rules", FORWARD),
        hook(Table::Filter, "INPUT", true, access, IPVS_FILTER),
        hook(Table::Filter, "INPUT", true, firewall, PROXY_FIREWALL),
        hook(Table::Filter, "FORWARD", true, firewall, PROXY_FIREWALL),
        hook(Table::Filter, "INPUT", false, "kubernetes health check rules", NODE_PORT),
        hook(Table::Mangle, "OUTPUT", true, access, IPVS_OUT_FILTER),
    ]
}

/// Every chain of this mode, and kube-proxy's of the same mode.
const CHAINS: [(Table, &str); 13] = [
    (Table::Nat, MARK_MASQ),
    (Table::Nat, NODE_PORT),
    (Table::Nat, LOAD_BALANCER),
    (Table::Nat, SERVICES),
    (Table::Nat, POSTROUTING),
    (Table::Filter, FORWARD),
    (Table::Filter, NODE_PORT),
    (Table::Filter, SOURCE_RANGES_FIREWALL),
    (Table::Filter, PROXY_FIREWALL),
    (Table::Filter, IPVS_FILTER),
    (Table::Filter, IPVS_OUT_FILTER),
    (Table::Mangle, SOURCE_RANGES_FIREWALL),
    (Table::Mangle, IPVS_OUT_FILTER),
];

/// Whether a chain is one of this mode's.
pub(crate) fn has_chain(table: Table, chain: &str) -> bool {
    CHAINS.contains(&(table, chain))
}

struct Rules<'a> {
    context: &'a Context,
}

impl Rules<'_> {
    /// What is to be masqueraded: what would not find its way back through this node otherwise.
    fn services(&self) -> Vec<String> {
        let loopback = match self.context.family {
            Family::V4 => IpNet::new_assert([127, 0, 0, 0].into(), 8),
            Family::V6 => IpNet::from(std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
        };
        let early = Rule::new().from(Is::Yes, loopback).jump("RETURN");
        let balanced = "Kubernetes service lb portal";
        let balanced = self.within(SetName::LoadBalancer, balanced).jump(LOAD_BALANCER);
        let external = "Kubernetes service external ip + port for masquerade and filter purpose";
        let external = self.within(SetName::ExternalIp, external).jump(MARK_MASQ);
        let own = self.within(SetName::ExternalIpLocal, OWN).with(FROM_NODE).jump(MARK_MASQ);
        // Addresses on our device are local too.
        let not_ours = self.matching(Rule::new(), Is::Not, SetName::IpvsIps, "dst");
        let to_node = not_ours.with("-m addrtype --dst-type LOCAL").jump(NODE_PORT);
        vec![early, balanced, self.cluster_ip(), external, own, to_node]
    }

    fn cluster_ip(&self) -> String {
        let rule = Rule::new().comment("Kubernetes service cluster ip + port for masquerade purpose");
        let within = |directions| self.matching(rule.clone(), Is::Yes, SetName::ClusterIp, directions);
        let told = told_from_pods(self.context, Is::Not, within("dst,dst"));
        let rule = match (self.context.masquerade_all, told) {
            (true, _) => within("dst,dst"),
            (false, Some(rule)) => rule,
            // The node itself can always be told: the kernel takes the address that it connects to as the source.
            (false, None) => within("src,dst"),
        };
        rule.jump(MARK_MASQ)
    }

    fn load_balancer(&self) -> Vec<String> {
        let local = "Kubernetes service load balancer ip + port with externalTrafficPolicy=local";
        vec![
            self.within(SetName::LoadBalancerLocal, OWN).with(FROM_NODE).jump(MARK_MASQ),
            self.within(SetName::LoadBalancerLocal, local).jump("RETURN"),
            Rule::new().jump(MARK_MASQ),
        ]
    }

    fn node_port(&self) -> Vec<String> {
        let each = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().flat_map(|protocol| {
            let name = protocol.to_string().to_uppercase();
            let directions = if protocol == Protocol::Sctp { "dst,dst" } else { "dst" };
            let rule = |set, about: &str| {
                let rule = Rule::new()
                    .protocol(protocol)
                    .comment(format_args!("Kubernetes nodeport {name} {about}"));
                self.matching(rule, Is::Yes, set, directions)
            };
            let local = "port with externalTrafficPolicy=local";
            let purpose = "port for masquerade purpose";
            [
                rule(SetName::NodePortLocal(protocol), OWN).with(FROM_NODE).jump(MARK_MASQ),
                rule(SetName::NodePortLocal(protocol), local).jump("RETURN"),
                rule(SetName::NodePort(protocol), purpose).jump(MARK_MASQ),
            ]
        });
        each.collect()
    }

    fn postrouting(&self) -> Vec<String> {
        let hairpin =
            Rule::new().comment("Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose");
        let hairpin = self.matching(hairpin, Is::Yes, SetName::LoopBack, "dst,dst,src");
        let hairpin = hairpin.jump("MASQUERADE");
        std::iter::once(hairpin).chain(masquerade_marked(self.context)).collect()
    }

    fn set_mark(&self) -> String {
        format!("-j MARK --set-xmark {}", mark(self.context))
    }

    fn forward(&self) -> Vec<String> {
        let marked = Rule::new().comment("kubernetes forwarding rules");
        let related = Rule::new().comment("kubernetes forwarding conntrack rule");
        vec![
            marked.with(format_args!("-m mark --mark {}", mark(self.context))).jump("ACCEPT"),
            related.with("-m conntrack --ctstate RELATED,ESTABLISHED").jump("ACCEPT"),
        ]
    }

    fn health_check(&self) -> String {
        let rule = Rule::new().protocol(Protocol::Tcp).comment("Kubernetes health check node port");
        self.matching(rule, Is::Yes, SetName::HealthCheckNodePort, "dst").jump("ACCEPT")
    }

    fn to_source_ranges(&self) -> String {
        let about = "Kubernetes service load balancer ip + port for load balancer with sourceRange";
        self.within(SetName::LoadBalancerFw, about).jump(SOURCE_RANGES_FIREWALL)
    }

    /// Who may not use a load-balancer address.
    fn source_ranges(&self) -> Vec<String> {
        let let_in = |set| self.matching(Rule::new(), Is::Yes, set, "dst,dst,src").jump("RETURN");
        let ranges = let_in(SetName::LoadBalancerSourceCidr);
        vec![ranges, let_in(SetName::LoadBalancerSourceIp), Rule::new().jump("DROP")]
    }

    /// What comes in for addresses of ours: what policy Local keeps away, and ports that no service has, where programs
    /// of the node may listen.
    fn filter(&self) -> Vec<String> {
        let mut rules = vec![self.no_local_internal()];
        let outsiders = self.within(SetName::NoLocalExternal, "has no local endpoints");
        let outsiders = told_from_pods(self.context, Is::Not, outsiders.clone()).unwrap_or(outsiders);
        rules.push(outsiders.with("-m addrtype ! --src-type LOCAL").jump("DROP"));
        let known =
            [SetName::LoadBalancer, SetName::ClusterIp, SetName::ExternalIp, SetName::ExternalIpLocal];
        let pass = |set| self.matching(Rule::new(), Is::Yes, set, "dst,dst").jump("RETURN");
        rules.extend(known.map(pass));
        let health = Rule::new().protocol(Protocol::Tcp);
        rules.push(self.matching(health, Is::Yes, SetName::HealthCheckNodePort, "dst").jump("RETURN"));
        let rest = self.matching(Rule::new(), Is::Yes, SetName::IpvsIps, "dst");
        rules.push(rest.jump(reject(self.context.family)));
        rules
    }

    fn out_filter(&self) -> Vec<String> {
        vec![self.no_local_internal(), self.to_source_ranges()]
    }

    fn no_local_internal(&self) -> String {
        self.within(SetName::NoLocalInternal, "has no local endpoints").jump("DROP")
    }

    /// Matches on destination and port.
    fn within(&self, set: SetName, comment: &str) -> Rule {
        self.matching(Rule::new().comment(comment), Is::Yes, set, "dst,dst")
    }

    fn matching(&self, rule: Rule, is: Is, set: SetName, directions: &str) -> Rule {
        let name = set.name(self.context.family);
        rule.with(format_args!("-m set {is}--match-set {name} {directions}"))
    }
}

/// Others are not masqueraded.
const OWN: &str = "the own connections of the node under externalTrafficPolicy=local";

/// What this node sends itself.
const FROM_NODE: &str = "-m addrtype --src-type LOCAL";
