//! What the table holds of a pod.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use kernel::conntrack::Flow;
use kernel::nft::{Bytes, Data, Element, octets};
use kernel::route::Family;

use super::layout::{self, Kind};
use crate::attach::pod::family_of;
use crate::attach::{DataPath, Error, PortMapping, Wanted};

const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Where the addresses begin that a host has to itself.
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 0);

/// A port of the node that leads to a pod, of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) protocol: u8,
    /// `None`: of every address.
    pub(super) host_ip: Option<IpAddr>,
    pub(super) host_port: u16,
    pub(super) pod: IpAddr,
    pub(super) pod_port: u16,
    /// The addresses on the pod's own link, which it answers past the node: its own, if it is routed.
    neighbours: IpNet,
}

impl Entry {
    /// What a pod's mappings come to. A mapping without a port of the node is none.
    pub(super) fn all(wanted: &Wanted) -> Result<Vec<Self>, Error> {
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        for mapping in wanted.ports.iter().filter(|mapping| mapping.host_port != 0) {
            let protocol = protocol(mapping)?;
            if mapping.container_port == 0 {
                return Err(Error::Bad(format!("port {} of the node leads to port 0", mapping.host_port)));
            }
            if mapping.host_ip == Some(Ipv6Addr::LOCALHOST.into()) {
                let why = format!("port {} of ::1: that address cannot lead to a pod", mapping.host_port);
                return Err(Error::Bad(why));
            }
            let of_family = mapping.host_ip.map(family_of);
            let before = entries.len();
            for family in [Family::V4, Family::V6] {
                let mut addresses = wanted.addresses.iter().map(|assigned| assigned.address);
                let address = addresses.find(|address| family_of(address.addr()) == family);
                let Some(address) = address.filter(|_| of_family.is_none_or(|wanted| wanted == family))
                else {
                    continue;
                };
                let entry = Self {
                    protocol,
                    host_ip: mapping.host_ip.filter(|address| !address.is_unspecified()),
                    host_port: mapping.host_port,
                    pod: address.addr(),
                    pod_port: mapping.container_port,
                    neighbours: match wanted.path {
                        DataPath::Routed => address.addr().into(),
                        DataPath::Bridge { .. } => address.trunc(),
                    },
                };
                if !seen.insert((entry.map(), entry.key())) {
                    return Err(Error::Bad(format!("port {entry} of the node is wanted twice")));
                }
                entries.push(entry);
            }
            if let (true, Some(address)) = (entries.len() == before, mapping.host_ip) {
                let why =
                    format!("port {} of {address}: the pod has no address of that family", mapping.host_port);
                return Err(Error::Bad(why));
            }
        }
        Ok(entries)
    }

    /// As everybody writes it.
    pub(super) fn protocol_name(&self) -> &'static str {
        match self.protocol {
            TCP => "tcp",
            UDP => "udp",
            _ => "sctp",
        }
    }

    fn family(&self) -> Family {
        family_of(self.pod)
    }

    /// The map that it is in.
    pub(super) fn map(&self) -> &'static str {
        let kind = if self.host_ip.is_some() { Kind::Addressed } else { Kind::Ports };
        layout::set_name(kind, self.family())
    }

    pub(super) fn key(&self) -> Bytes {
        let mut key = Bytes::new();
        if let Some(address) = self.host_ip {
            key.extend(octets(address));
        }
        self.push_port(&mut key);
        key
    }

    pub(super) fn data(&self) -> Data {
        let mut value = Bytes::new();
        value.extend(octets(self.pod));
        push_number(&mut value, &self.pod_port.to_be_bytes());
        Data::Value(value)
    }

    pub(super) fn hairpin_set(&self) -> &'static str {
        layout::set_name(Kind::Hairpin, self.family())
    }

    /// Whose connections to the pod by this port get the node's address as their source.
    pub(super) fn hairpin_sources(&self) -> Vec<IpNet> {
        let loopback = self.is_of_loopback().then(|| IpNet::V4(Ipv4Net::new_assert(LOOPBACK, 8)));
        [self.neighbours].into_iter().chain(loopback).collect()
    }

    /// The same as elements of the set.
    pub(super) fn hairpins(&self) -> Vec<Element> {
        let element = |sources: IpNet| Element {
            key: self.hairpin(sources.network()),
            key_end: Some(self.hairpin(sources.broadcast())),
            ..Element::default()
        };
        self.hairpin_sources().into_iter().map(element).collect()
    }

    fn hairpin(&self, source: IpAddr) -> Bytes {
        let mut key = Bytes::new();
        self.push_port(&mut key);
        key.extend(octets(self.pod));
        key.extend(octets(source));
        key
    }

    fn push_port(&self, key: &mut Bytes) {
        push_number(key, &[self.protocol]);
        push_number(key, &self.host_port.to_be_bytes());
    }

    /// Whether the node reaches it at 127.0.0.1.
    pub(super) fn is_of_loopback(&self) -> bool {
        self.pod.is_ipv4() && self.host_ip.is_none_or(|address| address.is_loopback())
    }

    /// Whether it is this pod that a flow to the node's port is answered by.
    pub(super) fn answers(&self, flow: &Flow) -> bool {
        flow.replier == self.pod && flow.replier_port == self.pod_port
    }

    /// Says whose the port is, from what was found in the map.
    pub(super) fn taken(&self, found: &Element) -> Error {
        let address = match &found.data {
            Data::Value(value) => read_socket_address(value),
            Data::None | Data::Verdict(_) => None,
        };
        Error::PortTaken {
            port: self.to_string(),
            address: address.unwrap_or_else(|| "an address".to_owned()),
            owner: found.comment.clone().unwrap_or_else(|| "somebody unknown".to_owned()),
        }
    }
}

/// `8080/tcp`, `192.0.2.1:8080/tcp`
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            None => write!(f, "{}", self.host_port)?,
            Some(address) => write!(f, "{}", std::net::SocketAddr::new(address, self.host_port))?,
        }
        write!(f, "/{}", self.protocol_name())
    }
}

fn protocol(mapping: &PortMapping) -> Result<u8, Error> {
    match mapping.protocol.as_str() {
        "tcp" => Ok(TCP),
        "udp" => Ok(UDP),
        "sctp" => Ok(SCTP),
        other => {
            let port = mapping.host_port;
            Err(Error::Bad(format!("port {port} of the node: {other:?} is none of tcp, udp and sctp")))
        }
    }
}

/// Padded as registers are.
fn push_number(bytes: &mut Bytes, number: &[u8]) {
    bytes.extend_from_slice(number);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn read_socket_address(value: &[u8]) -> Option<String> {
    let (address, port): (IpAddr, _) = match value.len() {
        8 => (<[u8; 4]>::try_from(&value[..4]).ok()?.into(), &value[4..6]),
        20 => (<[u8; 16]>::try_from(&value[..16]).ok()?.into(), &value[16..18]),
        _ => return None,
    };
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some(std::net::SocketAddr::new(address, port).to_string())
}
