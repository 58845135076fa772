//! A Service as the cache keeps it: checked, parsed and small.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{disjoint, parse_range};
use crate::claims::{Claimant, Frontend};
use crate::field::{excerpt, optional_port, port_number, read_protocol, read_usable};
use crate::intern::Interner;
use crate::object::{ObjectName, Port, Service};
use crate::problem::Findings;
use crate::{Distribution, Family, Protocol, ServicePortName, ServiceType, TrafficPolicy, Unserved};

/// Another proxy serves a Service with this label, whatever its value.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Asks for a PROXY protocol header in front of each connection.
const PROXY_PROTOCOL: &str = "pointsman.dev/proxy-protocol";
/// How long a client sticks to its endpoint unless the Service says otherwise, and at most, in seconds.
const AFFINITY_DEFAULT: u32 = 3 * 60 * 60;
const AFFINITY_MOST: u32 = 24 * 60 * 60;

/// What is kept of a Service.
#[derive(Debug, PartialEq)]
pub(crate) struct CompactService {
    created: u64,
    pub(crate) service_type: ServiceType,
    cluster_v4: Option<Ipv4Addr>,
    cluster_v6: Option<Ipv6Addr>,
    /// Sorted by name, each name once.
    pub(crate) ports: Box<[CompactPort]>,
    /// Few Services have any of it.
    external: Option<Box<External>>,
    pub(crate) affinity_seconds: Option<u32>,
    pub(crate) internal_policy: TrafficPolicy,
    pub(crate) external_policy: TrafficPolicy,
    pub(crate) health_check_port: Option<u16>,
    /// For its TCP ports.
    pub(crate) proxy_protocol: bool,
    /// Nothing is programmed by it: it tells where hints come from.
    pub(crate) distribution: Option<Distribution>,
    /// Nor by this: it tells why endpoints are ready.
    pub(crate) publishes_not_ready: bool,
}

/// Addresses besides the ClusterIPs, of both families, and who may use them.
#[derive(Debug, Default, PartialEq)]
struct External {
    external_ips: Box<[IpAddr]>,
    load_balancer_ips: Box<[IpAddr]>,
    source_ranges: Option<Box<[IpNet]>>,
}

/// What is kept of one of a Service's ports.
#[derive(Debug, PartialEq)]
pub(crate) struct CompactPort {
    pub(crate) name: Arc<ServicePortName>,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
    /// Where it stands in `spec.ports`.
    pub(crate) index: u16,
}

impl CompactService {
    /// Reads a Service, unless it is not for this proxy to serve.
    pub(crate) fn read(
        service: &Service,
        name: &ObjectName,
        interner: &mut Interner,
        findings: &mut Findings,
    ) -> Result<Self, Unserved> {
        let spec = &service.spec;
        if let Some(why) = unserved(service) {
            return Err(why);
        }
        let service_type = read_type(&spec.service_type, findings);
        let (cluster_v4, cluster_v6) = read_cluster_ips(service, findings);
        let own = |ip: &IpAddr| {
            cluster_v4.is_some_and(|own| IpAddr::V4(own) == *ip)
                || cluster_v6.is_some_and(|own| IpAddr::V6(own) == *ip)
        };
        let external_policy =
            read_policy(&spec.external_traffic_policy, "spec.externalTrafficPolicy", findings);
        let balanced = service_type == ServiceType::LoadBalancer;
        let ports = read_ports(service, service_type, name, interner, findings);
        Ok(Self {
            created: read_time(service.metadata.creation_timestamp.as_deref()),
            service_type,
            distribution: Distribution::read(&spec.traffic_distribution),
            publishes_not_ready: spec.publish_not_ready_addresses,
            cluster_v4,
            cluster_v6,
            proxy_protocol: read_proxy_protocol(service, &ports, findings),
            ports,
            external: read_external(service, balanced, own, findings),
            affinity_seconds: read_affinity(service, findings),
            internal_policy: read_policy(
                &spec.internal_traffic_policy,
                "spec.internalTrafficPolicy",
                findings,
            ),
            external_policy,
            health_check_port: (balanced && external_policy == TrafficPolicy::Local)
                .then(|| {
                    optional_port(spec.health_check_node_port, "spec.healthCheckNodePort".into(), findings)
                })
                .flatten(),
        })
    }

    /// Takes over the allocations of equal names from what this replaces.
    pub(crate) fn share_names(&mut self, old: &Self) {
        for port in &mut self.ports {
            if let Ok(at) = old.ports.binary_search_by(|known| known.name.cmp(&port.name)) {
                port.name = Arc::clone(&old.ports[at].name);
            }
        }
    }

    pub(crate) fn port(&self, name: &ServicePortName) -> Option<&CompactPort> {
        let at = self.ports.binary_search_by(|port| (*port.name).cmp(name)).ok()?;
        self.ports.get(at)
    }

    pub(crate) fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.cluster_v4.map(IpAddr::V4),
            Family::V6 => self.cluster_v6.map(IpAddr::V6),
        }
    }

    pub(crate) fn external_ips(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let all = self.external.iter().flat_map(|external| &external.external_ips);
        all.copied().filter(move |ip| Family::of(*ip) == family)
    }

    pub(crate) fn load_balancer_ips(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let all = self.external.iter().flat_map(|external| &external.load_balancer_ips);
        all.copied().filter(move |ip| Family::of(*ip) == family)
    }

    /// Who may use the load balancer's addresses, of both families, as it is written.
    pub(crate) fn written_source_ranges(&self) -> &[IpNet] {
        let external = self.external.as_ref();
        external.and_then(|external| external.source_ranges.as_deref()).unwrap_or_default()
    }

    /// Who may use the load balancer's addresses; `None` for anyone.
    ///
    /// Where ranges are given, but none of this family, nobody may: leaving one family open when the user restricted
    /// the other would be the more dangerous reading. A user who lets everybody of the other family in restricts
    /// nobody, though.
    pub(crate) fn source_ranges(&self, family: Family) -> Option<Box<[IpNet]>> {
        let of_family = |range: &&IpNet| Family::of(range.addr()) == family;
        let given = self.external.as_ref()?.source_ranges.as_ref()?;
        let ranges: Box<[IpNet]> = given.iter().filter(of_family).copied().collect();
        let everybody = |ranges: &[IpNet]| ranges.iter().any(|range| range.prefix_len() == 0);
        let unrestricted = everybody(&ranges) || ranges.is_empty() && everybody(given);
        (!unrestricted).then_some(ranges)
    }

    /// Who a port is when it claims frontends.
    pub(crate) fn claimant(&self, port: &CompactPort) -> Claimant {
        Claimant { created: self.created, name: Arc::clone(&port.name) }
    }

    /// Everything a port claims in a family, its ClusterIP first. Without a ClusterIP it claims nothing.
    pub(crate) fn frontends(&self, port: &CompactPort, family: Family) -> Vec<Frontend> {
        let protocol = port.name.protocol;
        let at = |address| Frontend::Address { address, protocol, port: port.port };
        let Some(cluster_ip) = self.cluster_ip(family) else { return Vec::new() };
        let node_port = port.node_port.map(|port| Frontend::NodePort { family, protocol, port });
        let external = self.external_ips(family).chain(self.load_balancer_ips(family)).map(at);
        std::iter::once(at(cluster_ip)).chain(node_port).chain(external).collect()
    }
}

fn unserved(service: &Service) -> Option<Unserved> {
    if service.spec.service_type == "ExternalName" {
        Some(Unserved::ExternalName)
    } else if service.metadata.labels.contains_key(OTHER_PROXY) {
        Some(Unserved::OtherProxy)
    } else if matches!(service.spec.cluster_ip.as_str(), "" | "None") {
        Some(Unserved::Headless)
    } else {
        None
    }
}

fn read_type(text: &str, findings: &mut Findings) -> ServiceType {
    match text {
        "" | "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        unknown => {
            findings.add("spec.type", format!("{} is no known type: served as ClusterIP.", excerpt(unknown)));
            ServiceType::ClusterIp
        }
    }
}

fn read_policy(text: &str, field: &str, findings: &mut Findings) -> TrafficPolicy {
    match text {
        "" | "Cluster" => TrafficPolicy::Cluster,
        "Local" => TrafficPolicy::Local,
        unknown => {
            findings.add(field, format!("{} is no known policy: Cluster is used.", excerpt(unknown)));
            TrafficPolicy::Cluster
        }
    }
}

/// The first 14 digits of an RFC 3339 time as a number, which orders times of one time zone; 0 for none.
fn read_time(text: Option<&str>) -> u64 {
    let digits = text.unwrap_or_default().bytes().filter(u8::is_ascii_digit).take(14);
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn read_cluster_ips(service: &Service, findings: &mut Findings) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let spec = &service.spec;
    let first = std::slice::from_ref(&spec.cluster_ip);
    if spec.ip_families.is_empty() {
        return match read_usable(&spec.cluster_ip, "spec.clusterIP", findings) {
            Some(IpAddr::V4(ip)) => (Some(ip), None),
            Some(IpAddr::V6(ip)) => (None, Some(ip)),
            None => (None, None),
        };
    }
    let listed = if spec.cluster_ips.is_empty() { first } else { &spec.cluster_ips };
    let (mut v4, mut v6) = (None, None);
    for (index, (family, text)) in spec.ip_families.iter().zip(listed).enumerate() {
        let field = format!("spec.clusterIPs[{index}]");
        match (family.as_str(), read_usable(text, &field, findings)) {
            (_, None) => {}
            ("IPv4", Some(IpAddr::V4(ip))) if v4.is_none() => v4 = Some(ip),
            ("IPv6", Some(IpAddr::V6(ip))) if v6.is_none() => v6 = Some(ip),
            (_, Some(ip)) => {
                findings.add(
                    field,
                    format!("{ip} does not fit spec.ipFamilies[{index}], {}: left out.", excerpt(family)),
                );
            }
        }
    }
    (v4, v6)
}

fn read_external(
    service: &Service,
    balanced: bool,
    own: impl Fn(&IpAddr) -> bool,
    findings: &mut Findings,
) -> Option<Box<External>> {
    let external = External {
        external_ips: read_external_ips(&service.spec.external_ips, &own, findings),
        load_balancer_ips: if balanced { read_ingress(service, &own, findings) } else { Box::default() },
        source_ranges: read_source_ranges(&service.spec.load_balancer_source_ranges, findings),
    };
    (external != External::default()).then(|| Box::new(external))
}

fn read_external_ips(
    texts: &[String],
    own: impl Fn(&IpAddr) -> bool,
    findings: &mut Findings,
) -> Box<[IpAddr]> {
    let texts = texts.iter().enumerate().map(|(index, text)| (format!("spec.externalIPs[{index}]"), text));
    read_addresses(texts, own, findings)
}

fn read_ingress(service: &Service, own: impl Fn(&IpAddr) -> bool, findings: &mut Findings) -> Box<[IpAddr]> {
    let mut vips = Vec::new();
    for (index, ingress) in service.status.load_balancer.ingress.iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{index}]");
        match ingress.ip_mode.as_str() {
            "" | "VIP" if !ingress.ip.is_empty() => vips.push((field + ".ip", &ingress.ip)),
            "" | "VIP" | "Proxy" => {}
            unknown => {
                let reason = format!("{} is no known mode: the address is left out.", excerpt(unknown));
                findings.add(field + ".ipMode", reason);
            }
        }
    }
    read_addresses(vips.into_iter(), own, findings)
}

/// Usable addresses, sorted and unique. One that is the Service's own ClusterIP adds nothing.
fn read_addresses<'a>(
    texts: impl Iterator<Item = (String, &'a String)>,
    own: impl Fn(&IpAddr) -> bool,
    findings: &mut Findings,
) -> Box<[IpAddr]> {
    let mut addresses = Vec::new();
    for (field, text) in texts {
        match read_usable(text, &field, findings) {
            Some(ip) if own(&ip) => {
                findings.add(field, format!("{ip} is the Service's own ClusterIP: left out."));
            }
            usable => addresses.extend(usable),
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into()
}

fn read_source_ranges(texts: &[String], findings: &mut Findings) -> Option<Box<[IpNet]>> {
    let mut ranges = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match parse_range(text) {
            Some(range) => ranges.push(range),
            None => findings.add(
                format!("spec.loadBalancerSourceRanges[{index}]"),
                format!("{} is no range of addresses: it admits nobody.", excerpt(text)),
            ),
        }
    }
    (!texts.is_empty()).then(|| disjoint(&ranges).into())
}

fn read_affinity(service: &Service, findings: &mut Findings) -> Option<u32> {
    match service.spec.session_affinity.as_str() {
        "" | "None" => return None,
        "ClientIP" => {}
        unknown => {
            findings.add(
                "spec.sessionAffinity",
                format!("{} is no known affinity: none is used.", excerpt(unknown)),
            );
            return None;
        }
    }
    let Some(asked) = service.spec.session_affinity_config.client_ip.timeout_seconds else {
        return Some(AFFINITY_DEFAULT);
    };
    let seconds = u32::try_from(asked).ok().filter(|seconds| (1..=AFFINITY_MOST).contains(seconds));
    if seconds.is_none() {
        findings.add(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{asked} is not within 1 to {AFFINITY_MOST}: {AFFINITY_DEFAULT} is used."),
        );
    }
    seconds.or(Some(AFFINITY_DEFAULT))
}

fn read_proxy_protocol(service: &Service, ports: &[CompactPort], findings: &mut Findings) -> bool {
    let Some(asked) = service.metadata.annotations.get(PROXY_PROTOCOL) else { return false };
    let field = format!("metadata.annotations[{PROXY_PROTOCOL}]");
    if asked != "v2" {
        findings.add(field, format!("{} is not \"v2\": no PROXY protocol is used.", excerpt(asked)));
        return false;
    }
    let has_tcp = ports.iter().any(|port| port.name.protocol == Protocol::Tcp);
    if !has_tcp {
        findings.add(field, "\"v2\" is for TCP ports, and there is none: no PROXY protocol is used.");
    }
    has_tcp
}

fn read_ports(
    service: &Service,
    service_type: ServiceType,
    name: &ObjectName,
    interner: &mut Interner,
    findings: &mut Findings,
) -> Box<[CompactPort]> {
    let node_ports = service_type != ServiceType::ClusterIp;
    let ports = service.spec.ports.iter().enumerate();
    let mut ports: Vec<CompactPort> = ports
        .filter_map(|(index, port)| read_port(index, port, node_ports, name, interner, findings))
        .collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    ports.dedup_by(|later, earlier| {
        let same = later.name == earlier.name;
        if same {
            let reason = format!("spec.ports[{}] has the same name and protocol: left out.", earlier.index);
            findings.add(format!("spec.ports[{}]", later.index), reason);
        }
        same
    });
    ports.into()
}

fn read_port(
    index: usize,
    port: &Port,
    node_ports: bool,
    name: &ObjectName,
    interner: &mut Interner,
    findings: &mut Findings,
) -> Option<CompactPort> {
    let field = format!("spec.ports[{index}]");
    let Some(protocol) = read_protocol(&port.protocol) else {
        findings.add(
            field + ".protocol",
            format!("{} is no known protocol: the port is left out.", excerpt(&port.protocol)),
        );
        return None;
    };
    let Some(number) = port_number(port.port) else {
        findings
            .add(field + ".port", format!("{} is not within 1 to 65535: the port is left out.", port.port));
        return None;
    };
    let node_port = if node_ports { port.node_port } else { 0 };
    Some(CompactPort {
        name: Arc::new(ServicePortName {
            namespace: Arc::clone(&name.namespace),
            name: Arc::clone(&name.name),
            port: interner.get(&port.name),
            protocol,
        }),
        port: number,
        node_port: optional_port(node_port, field + ".nodePort", findings),
        index: u16::try_from(index).unwrap_or(u16::MAX),
    })
}
