//! An EndpointSlice as the cache keeps it: checked, parsed and small.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::address::parse_address;
use crate::field::{excerpt, port_number, read_protocol, read_usable};
use crate::intern::Interner;
use crate::object::{Conditions, EndpointSlice, Hint, SliceEndpoint};
use crate::problem::Findings;
use crate::select::{Candidate, NodeHint};
use crate::{Endpoint, Family, Protocol};

/// The label that names the Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Slices of headless Services have this label, with whatever value.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// What is kept of an EndpointSlice.
#[derive(Debug, PartialEq)]
pub(crate) struct CompactSlice {
    endpoints: Endpoints,
    ports: Box<[CompactPort]>,
    /// The distinct sets of zones that endpoints are hinted for.
    zone_sets: Box<[Box<[Arc<str>]>]>,
    /// The distinct nodes that endpoints are on.
    nodes: Box<[Arc<str>]>,
}

/// All addresses of a slice are of one family, so each need only be as long as the family's.
#[derive(Debug, PartialEq)]
enum Endpoints {
    V4(Box<[CompactEndpoint<Ipv4Addr>]>),
    V6(Box<[CompactEndpoint<Ipv6Addr>]>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct CompactEndpoint<A> {
    address: A,
    state: State,
    /// Index into `zone_sets` plus one; 0 for no zone hint.
    zone_set: u16,
    /// Index into `nodes` plus one; 0 for none that is known.
    node: u16,
}

/// Conditions, place and node hint, a bit each.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State(u8);

#[derive(Debug, PartialEq)]
struct CompactPort {
    name: Arc<str>,
    protocol: Protocol,
    number: u16,
}

impl CompactSlice {
    /// Reads a slice of the Service it names; `None` if it is of no use to a proxy.
    pub(crate) fn read<'a>(
        slice: &'a EndpointSlice,
        node_name: &str,
        loopback: bool,
        interner: &mut Interner,
        findings: &mut Findings,
    ) -> Option<(&'a str, Self)> {
        let labels = &slice.metadata.labels;
        let service = labels.get(SERVICE_NAME).filter(|name| !name.is_empty())?;
        if labels.contains_key(HEADLESS) {
            return None;
        }
        let (mut zones, mut nodes) = (ZoneSets::default(), Nodes::default());
        let mut found = Vec::new();
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            "FQDN" => return None,
            unknown => {
                let reason = format!("{} is no known address type: the slice is left out.", excerpt(unknown));
                findings.add("addressType", reason);
                return None;
            }
        };
        for (index, endpoint) in slice.endpoints.iter().enumerate() {
            if let Some(address) = read_address(index, endpoint, family, loopback, findings) {
                let zone_set = zones.index(&endpoint.hints.for_zones, interner);
                let node = nodes.index(endpoint.node_name.as_deref(), interner);
                found.push(CompactEndpoint {
                    address,
                    state: State::read(endpoint, node_name),
                    zone_set,
                    node,
                });
            }
        }
        let (zone_sets, nodes) = (zones.0.into(), nodes.0.into());
        let ports = read_ports(slice, interner, findings);
        Some((service, Self { endpoints: Endpoints::new(family, &found), ports, zone_sets, nodes }))
    }

    pub(crate) fn family(&self) -> Family {
        match self.endpoints {
            Endpoints::V4(_) => Family::V4,
            Endpoints::V6(_) => Family::V6,
        }
    }

    /// Whether the own node's zone can matter to it.
    pub(crate) fn has_zone_hints(&self) -> bool {
        !self.zone_sets.is_empty()
    }

    /// How many endpoints it has.
    pub(crate) fn len(&self) -> usize {
        match &self.endpoints {
            Endpoints::V4(all) => all.len(),
            Endpoints::V6(all) => all.len(),
        }
    }

    /// Every endpoint, for no port in particular, and the node that it is on.
    pub(crate) fn entries(&self) -> Vec<(Candidate<'_>, Option<&Arc<str>>)> {
        match &self.endpoints {
            Endpoints::V4(all) => all.iter().map(|e| (self.candidate(e, 0), self.node(e.node))).collect(),
            Endpoints::V6(all) => all.iter().map(|e| (self.candidate(e, 0), self.node(e.node))).collect(),
        }
    }

    /// The numbers that a service port has on this slice's endpoints: one, as a rule.
    pub(crate) fn numbers(&self, port: &str, protocol: Protocol) -> Vec<u16> {
        let wanted = self.ports.iter().filter(|p| p.protocol == protocol && *p.name == *port);
        wanted.map(|port| port.number).collect()
    }

    fn node(&self, index: u16) -> Option<&Arc<str>> {
        usize::from(index).checked_sub(1).and_then(|at| self.nodes.get(at))
    }

    /// Adds what this slice offers for a service port.
    pub(crate) fn candidates<'a>(&'a self, port: &str, protocol: Protocol, to: &mut Vec<Candidate<'a>>) {
        for port in self.ports.iter().filter(|p| p.protocol == protocol && *p.name == *port) {
            match &self.endpoints {
                Endpoints::V4(endpoints) => {
                    to.extend(endpoints.iter().map(|e| self.candidate(e, port.number)));
                }
                Endpoints::V6(endpoints) => {
                    to.extend(endpoints.iter().map(|e| self.candidate(e, port.number)));
                }
            }
        }
    }

    /// Addresses on this node that are ready, for any port.
    pub(crate) fn local_ready(&self, to: &mut Vec<IpAddr>) {
        if self.ports.is_empty() {
            return;
        }
        let wanted = State::LOCAL | State::READY;
        match &self.endpoints {
            Endpoints::V4(all) => {
                to.extend(all.iter().filter(|e| e.state.all(wanted)).map(|e| IpAddr::V4(e.address)));
            }
            Endpoints::V6(all) => {
                to.extend(all.iter().filter(|e| e.state.all(wanted)).map(|e| IpAddr::V6(e.address)));
            }
        }
    }

    fn candidate<A: Copy + Into<IpAddr>>(&self, endpoint: &CompactEndpoint<A>, port: u16) -> Candidate<'_> {
        let state = endpoint.state;
        let zones = usize::from(endpoint.zone_set).checked_sub(1).and_then(|at| self.zone_sets.get(at));
        Candidate {
            endpoint: Endpoint { address: endpoint.address.into(), port, local: state.all(State::LOCAL) },
            ready: state.all(State::READY),
            serving: state.all(State::SERVING),
            terminating: state.all(State::TERMINATING),
            node_hint: state.node_hint(),
            zones: zones.map_or(&[], |zones| zones),
        }
    }
}

impl Endpoints {
    fn new(family: Family, endpoints: &[CompactEndpoint<IpAddr>]) -> Self {
        let v4 = |e: &CompactEndpoint<IpAddr>| match e.address {
            IpAddr::V4(address) => Some(e.at(address)),
            IpAddr::V6(_) => None,
        };
        let v6 = |e: &CompactEndpoint<IpAddr>| match e.address {
            IpAddr::V6(address) => Some(e.at(address)),
            IpAddr::V4(_) => None,
        };
        match family {
            Family::V4 => Self::V4(endpoints.iter().filter_map(v4).collect()),
            Family::V6 => Self::V6(endpoints.iter().filter_map(v6).collect()),
        }
    }
}

impl CompactEndpoint<IpAddr> {
    /// The same with its address in another form.
    fn at<A>(&self, address: A) -> CompactEndpoint<A> {
        CompactEndpoint { address, state: self.state, zone_set: self.zone_set, node: self.node }
    }
}

impl State {
    const READY: u8 = 1;
    const SERVING: u8 = 1 << 1;
    const TERMINATING: u8 = 1 << 2;
    const LOCAL: u8 = 1 << 3;
    const NODE_HINTED: u8 = 1 << 4;
    const HINTED_HERE: u8 = 1 << 5;

    fn read(endpoint: &SliceEndpoint, node_name: &str) -> Self {
        let Conditions { ready, serving, terminating } = endpoint.conditions;
        let for_nodes = &endpoint.hints.for_nodes;
        let bits = [
            (Self::READY, ready.unwrap_or(true)),
            (Self::SERVING, serving.unwrap_or(true)),
            (Self::TERMINATING, terminating.unwrap_or(false)),
            (Self::LOCAL, endpoint.node_name.as_deref() == Some(node_name)),
            (Self::NODE_HINTED, !for_nodes.is_empty()),
            (Self::HINTED_HERE, for_nodes.iter().any(|hint| hint.name == node_name)),
        ];
        Self(bits.into_iter().filter(|(_, set)| *set).fold(0, |all, (bit, _)| all | bit))
    }

    fn all(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    fn node_hint(self) -> NodeHint {
        if self.all(Self::HINTED_HERE) {
            NodeHint::Here
        } else if self.all(Self::NODE_HINTED) {
            NodeHint::Elsewhere
        } else {
            NodeHint::None
        }
    }
}

/// Numbers the distinct nodes of a slice.
#[derive(Default)]
struct Nodes(Vec<Arc<str>>);

impl Nodes {
    /// The node's index plus one; 0 for none, and for those past the 65,535th.
    fn index(&mut self, name: Option<&str>, interner: &mut Interner) -> u16 {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return 0 };
        let name = interner.get(name);
        let known = self.0.iter().position(|known| Arc::ptr_eq(known, &name));
        let Ok(number) = u16::try_from(known.unwrap_or(self.0.len()) + 1) else { return 0 };
        if known.is_none() {
            self.0.push(name);
        }
        number
    }
}

/// Numbers the distinct sets of zones of a slice.
#[derive(Default)]
struct ZoneSets(Vec<Box<[Arc<str>]>>);

impl ZoneSets {
    /// The set's index plus one; 0 for none. Past 65,535 distinct sets (the API allows 1,000 endpoints a slice)
    /// further hints are not kept.
    fn index(&mut self, hints: &[Hint], interner: &mut Interner) -> u16 {
        if hints.is_empty() {
            return 0;
        }
        let same = |set: &[Arc<str>]| set.iter().map(|zone| &**zone).eq(hints.iter().map(|hint| &*hint.name));
        if let Some(at) = self.0.iter().position(|set| same(set)) {
            return u16::try_from(at + 1).unwrap_or(0);
        }
        let Ok(number) = u16::try_from(self.0.len() + 1) else { return 0 };
        self.0.push(hints.iter().map(|hint| interner.get(&hint.name)).collect());
        number
    }
}

fn read_address(
    index: usize,
    endpoint: &SliceEndpoint,
    family: Family,
    loopback: bool,
    findings: &mut Findings,
) -> Option<IpAddr> {
    let text = endpoint.addresses.first()?;
    let field = format!("endpoints[{index}].addresses[0]");
    let own = parse_address(text).filter(|address| loopback && address.is_loopback());
    let address = own.or_else(|| read_usable(text, &field, findings))?;
    if Family::of(address) == family {
        return Some(address);
    }
    findings.add(field, format!("{address} is not of the slice's address type, {family}: left out."));
    None
}

fn read_ports(slice: &EndpointSlice, interner: &mut Interner, findings: &mut Findings) -> Box<[CompactPort]> {
    let mut ports = Vec::new();
    for (index, port) in slice.ports.iter().enumerate() {
        let Some(number) = port.port else { continue };
        let field = format!("ports[{index}]");
        match (port_number(number), read_protocol(&port.protocol)) {
            (Some(number), Some(protocol)) => {
                let name = interner.get(port.name.as_deref().unwrap_or_default());
                ports.push(CompactPort { name, protocol, number });
            }
            (None, _) => findings
                .add(field + ".port", format!("{number} is not within 1 to 65535: the port is left out.")),
            (_, None) => findings.add(
                field + ".protocol",
                format!("{} is no known protocol: the port is left out.", excerpt(&port.protocol)),
            ),
        }
    }
    ports.into()
}
