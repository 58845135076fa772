//! What one service port contributes to the rules. A pure function: two states of a service port are compared by
//! comparing what it gives for each.

use std::net::IpAddr;

use endpoint_cache::{Protocol, ServicePort, Traffic, TrafficPolicy};
use ipnet::IpNet;

use super::base::Shared;
use super::context::Context;
use super::endpoints;
use super::layout::MARK_MASQ;
use super::names::{ChainName, Kind, Names};
use super::rule::{Is, Rule, reject};

/// Everything that is in the kernel for a service port.
#[derive(Debug, Default)]
pub(super) struct Contribution {
    /// Chains of its own, in an order in which each leads only to those before it.
    pub(super) chains: Vec<OwnChain>,
    /// Rules in chains that all service ports share.
    pub(super) shared: Vec<(Shared, String)>,
}

/// A chain of a service port's own, in table `nat`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnChain {
    pub(super) name: ChainName,
    pub(super) rules: Vec<String>,
}

impl Contribution {
    /// How many rules are in chains of its own.
    pub(super) fn own_rules(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }
}

/// What a service port contributes.
pub(super) fn of(service: &ServicePort, context: &Context) -> Contribution {
    let name = service.name.to_string();
    let mut writer =
        Writer { service, context, name, names: Names::new(&service.name), out: Contribution::default() };
    writer.cluster_ip();
    writer.external_addresses();
    writer.node_port();
    writer.health_check();
    endpoints::write(service, context, &writer.name, &writer.names, &mut writer.out.chains);
    if let Some(rule) = writer.masquerade_internal() {
        let chain = writer.names.of(policy_chain(service.internal_policy));
        writer.out.chains.iter_mut().filter(|own| own.name == chain).for_each(|own| {
            own.rules.insert(0, rule.clone());
        });
    }
    if writer.has_external_chain() {
        writer.external_chain();
        writer.firewall_chain();
    }
    writer.out
}

/// The chain that chooses among the endpoints of a policy.
pub(super) fn policy_chain(policy: TrafficPolicy) -> Kind {
    match policy {
        TrafficPolicy::Cluster => Kind::Svc,
        TrafficPolicy::Local => Kind::Svl,
    }
}

struct Writer<'a> {
    service: &'a ServicePort,
    context: &'a Context,
    name: String,
    names: Names,
    out: Contribution,
}

impl<'a> Writer<'a> {
    fn cluster_ip(&mut self) {
        let frontend = |comment: &str| self.frontend(self.service.cluster_ip, comment);
        let (chain, rule) = match self.service.internal_traffic() {
            Traffic::To(_) => {
                let chain = self.names.of(policy_chain(self.service.internal_policy));
                (Shared::Services, frontend("cluster IP").jump(chain))
            }
            Traffic::Reject => {
                (Shared::FilterServices, frontend("has no endpoints").jump(reject(self.context.family())))
            }
            Traffic::Drop => (Shared::FilterServices, frontend("has no local endpoints").jump("DROP")),
        };
        self.share(chain, rule);
    }

    /// External and load-balancer addresses that are not the ClusterIP itself.
    fn external_addresses(&mut self) {
        let service = self.service;
        for ip in service.external_addresses().filter(|ip| *ip != service.cluster_ip) {
            let balanced = service.external_ips.binary_search(&ip).is_err();
            if self.has_external_chain() {
                let (comment, kind) = match balanced {
                    true if self.has_firewall() => ("loadbalancer IP", Kind::Fw),
                    true => ("loadbalancer IP", Kind::Ext),
                    false => ("external IP", Kind::Ext),
                };
                self.share(Shared::Services, self.frontend(ip, comment).jump(self.names.of(kind)));
            }
            if let Some((comment, target)) = self.fate_without_endpoints() {
                self.share(Shared::ExternalServices, self.frontend(ip, comment).jump(target));
            }
        }
        if self.has_firewall() {
            for ip in self.load_balancer_ips() {
                let comment = format!("traffic not accepted by {}", self.names.of(Kind::Fw));
                self.share(Shared::ProxyFirewall, self.frontend(ip, &comment).jump("DROP"));
            }
        }
    }

    fn node_port(&mut self) {
        let (Some(port), protocol) = (self.service.node_port, self.service.name.protocol) else { return };
        if self.has_external_chain() {
            let rule = Rule::new().comment(&self.name).port(protocol, port);
            self.share(Shared::NodePorts, rule.jump(self.names.of(Kind::Ext)));
        }
        if let Some((comment, target)) = self.fate_without_endpoints() {
            let rule = Rule::new().comment(format_args!("{} {comment}", self.name));
            let rule = rule.with("-m addrtype --dst-type LOCAL").port(protocol, port);
            self.share(Shared::ExternalServices, rule.jump(target));
        }
    }

    /// Whoever asks for a node's health must get through to it.
    fn health_check(&mut self) {
        if let Some(port) = self.service.health_check_node_port {
            let rule = Rule::new().comment(format_args!("{} health check node port", self.name));
            self.share(Shared::HealthCheckNodePorts, rule.port(Protocol::Tcp, port).jump("ACCEPT"));
        }
    }

    /// Traffic to the ClusterIP that does not come from this node's pods must find its way back through this node.
    fn masquerade_internal(&self) -> Option<String> {
        if !matches!(self.service.internal_traffic(), Traffic::To(_)) {
            return None;
        }
        let rule = self.frontend(self.service.cluster_ip, "cluster IP");
        match self.context.common.masquerade_all {
            true => Some(rule),
            false => self.context.told_from_pods(Is::Not, rule),
        }
        .map(|rule| rule.jump(MARK_MASQ))
    }

    fn external_chain(&mut self) {
        let about =
            |what: &str| Rule::new().comment(format_args!("{what} for {} external destinations", self.name));
        let mut rules = Vec::new();
        match self.service.external_policy {
            TrafficPolicy::Cluster => rules.push(about("masquerade traffic").jump(MARK_MASQ)),
            TrafficPolicy::Local => {
                const LOCAL: &str = "-m addrtype --src-type LOCAL";
                let any = self.names.of(Kind::Svc);
                let from_pods = self.context.told_from_pods(Is::Yes, about("pod traffic"));
                let routed = from_pods.into_iter().map(|rule| rule.jump(any));
                let masqueraded = about("masquerade LOCAL traffic").with(LOCAL).jump(MARK_MASQ);
                let local = about("route LOCAL traffic").with(LOCAL).jump(any);
                if !self.service.cluster_endpoints.is_empty() {
                    rules.extend(routed.chain([masqueraded, local]));
                }
            }
        }
        if let Traffic::To(_) = self.service.external_traffic() {
            rules.push(Rule::new().jump(self.names.of(policy_chain(self.service.external_policy))));
        }
        self.out.chains.push(OwnChain { name: self.names.of(Kind::Ext), rules });
    }

    fn firewall_chain(&mut self) {
        if !self.has_firewall() {
            return;
        }
        let ranges = self.service.source_ranges.as_deref().unwrap_or_default();
        // A node that holds the address itself may use it as its source.
        let nodes = &self.context.common.node_addresses;
        let node_allowed = nodes.iter().any(|node| ranges.iter().any(|range| range.contains(node)));
        let own = self.load_balancer_ips().map(IpNet::from).filter(|_| node_allowed);
        let allowed = ranges.iter().copied().chain(own).map(|range| {
            let rule = Rule::new().comment(format_args!("{} loadbalancer IP", self.name));
            rule.from(Is::Yes, range).jump(self.names.of(Kind::Ext))
        });
        let rest = format!("other traffic to {} will be dropped by KUBE-PROXY-FIREWALL", self.name);
        let rules = allowed.chain([Rule::new().comment(rest).done()]).collect();
        self.out.chains.push(OwnChain { name: self.names.of(Kind::Fw), rules });
    }

    /// Load-balancer addresses that lead here as such.
    fn load_balancer_ips(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let service = self.service;
        service.load_balancer_ips.iter().copied().filter(|ip| *ip != service.cluster_ip)
    }

    fn has_endpoints(&self) -> bool {
        !self.service.cluster_endpoints.is_empty() || !self.service.local_endpoints.is_empty()
    }

    fn has_external_chain(&self) -> bool {
        self.has_endpoints() && self.service.externally_reachable()
    }

    fn has_firewall(&self) -> bool {
        let guarded = self.service.source_ranges.is_some() && self.load_balancer_ips().next().is_some();
        guarded && self.has_endpoints()
    }

    /// What becomes of outside traffic that no endpoint may have, and the comment that says why.
    fn fate_without_endpoints(&self) -> Option<(&'static str, &'static str)> {
        match self.service.external_traffic() {
            Traffic::To(_) => None,
            Traffic::Reject => Some(("has no endpoints", reject(self.context.family()))),
            Traffic::Drop => Some(("has no local endpoints", "DROP")),
        }
    }

    /// Matches on an address with the service's port.
    fn frontend(&self, ip: IpAddr, comment: &str) -> Rule {
        let rule = Rule::new().to(Is::Yes, ip).comment(format_args!("{} {comment}", self.name));
        rule.port(self.service.name.protocol, self.service.port)
    }

    fn share(&mut self, chain: Shared, rule: String) {
        self.out.shared.push((chain, rule));
    }
}
