//! Keys and values of set elements, in registers' layout: every field padded to four bytes.

use std::net::IpAddr;

use endpoint_cache::{Endpoint, Family, Protocol, ServicePort};
use kernel::nft::{Bytes, octets};

/// Appends fields one after the other.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Key(Bytes);

impl Key {
    pub(crate) fn address(mut self, ip: IpAddr) -> Self {
        self.0.extend_from_slice(&octets(ip));
        self
    }

    pub(crate) fn protocol(mut self, protocol: Protocol) -> Self {
        self.0.extend_from_slice(&[protocol.number(), 0, 0, 0]);
        self
    }

    /// A port, network order.
    pub(crate) fn port(mut self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.0.extend_from_slice(&[high, low, 0, 0]);
        self
    }

    /// A slot, host order, as `numgen` produces it.
    pub(crate) fn slot(self, slot: u32) -> Self {
        self.number(slot)
    }

    /// A number in host order, as the packet mark has it.
    pub(crate) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    pub(crate) fn endpoint(self, endpoint: &Endpoint) -> Self {
        self.address(endpoint.address).port(endpoint.port)
    }

    pub(crate) fn bytes(self) -> Bytes {
        self.0
    }
}

/// An address frontend: address, protocol, port.
pub(crate) fn frontend(ip: IpAddr, service: &ServicePort) -> Key {
    Key::default().address(ip).protocol(service.name.protocol).port(service.port)
}

/// The ClusterIP frontend field by field, unpadded: constants of rules.
pub(crate) fn identity_fields(service: &ServicePort) -> [Bytes; 3] {
    [
        Key::default().address(service.cluster_ip).bytes(),
        Bytes::from_slice(&[service.name.protocol.number()]),
        Bytes::from_slice(&service.port.to_be_bytes()),
    ]
}

/// A node port: protocol, port.
pub(crate) fn node_port(port: u16, service: &ServicePort) -> Key {
    Key::default().protocol(service.name.protocol).port(port)
}

/// The endpoint that a value holds.
pub(crate) fn read_endpoint(value: &[u8], family: Family) -> Option<(IpAddr, u16)> {
    let (address, port) = match family {
        Family::V4 => (IpAddr::from(*value.first_chunk::<4>()?), value.get(4..6)?),
        Family::V6 => (IpAddr::from(*value.first_chunk::<16>()?), value.get(16..18)?),
    };
    Some((address, u16::from_be_bytes(port.try_into().ok()?)))
}
