//! Writing messages.

use std::net::IpAddr;

use super::types::{Edit, Entry, Kind, Set};
use super::uapi::{AF_INET, AF_INET6, AF_UNSPEC, LIST_HEADER, NET_BYTEORDER, attr, cmd, data};
use crate::netlink::{NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, Writer};

/// Writes messages in one version of the protocol.
#[derive(Clone, Copy)]
pub(super) struct Language {
    pub(super) protocol: u8,
}

impl Language {
    /// A message alone that the kernel acknowledges. It refuses to make a set that exists: left to compare the two, it
    /// takes sets of different families for the same.
    pub(super) fn command(self, kind: u16, sequence: u32, body: impl FnOnce(&mut Writer)) -> Writer {
        let mut writer = Writer::default();
        self.message(&mut writer, kind, NLM_F_ACK | NLM_F_EXCL, sequence, body);
        writer
    }

    /// A request to list one set with its entries, or the headers of all.
    pub(super) fn list(self, set: Option<&str>, sequence: u32) -> Writer {
        let mut writer = Writer::default();
        // Without a request for an acknowledgement: the kernel would refuse a name it does not know twice.
        self.message(&mut writer, cmd::LIST, NLM_F_DUMP, sequence, |w| match set {
            Some(name) => w.string(attr::SETNAME, name),
            None => w.be32(attr::FLAGS | NET_BYTEORDER, LIST_HEADER),
        });
        writer
    }

    /// A change. Only its refusal is answered.
    pub(super) fn edit(self, w: &mut Writer, sequence: u32, edit: &Edit) {
        let kind = if edit.add { cmd::ADD } else { cmd::DEL };
        // Without NLM_F_EXCL: what is there may be added, and what is not may be removed.
        self.message(w, kind, 0, sequence, |w| {
            w.string(attr::SETNAME, &edit.set);
            w.nest(attr::DATA, |w| entry(w, &edit.entry));
        });
    }

    fn message(self, w: &mut Writer, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Writer)) {
        w.message(kind, NLM_F_REQUEST | flags, sequence, (AF_INET, 0), |w| {
            w.attribute(attr::PROTOCOL, &[self.protocol]);
            body(w);
        });
    }
}

/// Which family a set is made for.
pub(super) fn family(kind: Kind, ipv6: bool) -> u8 {
    match (kind, ipv6) {
        (Kind::BitmapPort, _) => AF_UNSPEC,
        (_, false) => AF_INET,
        (_, true) => AF_INET6,
    }
}

/// What makes a set, once the revision of its type is settled.
pub(super) fn definition(w: &mut Writer, set: &Set, revision: u8) {
    w.string(attr::SETNAME, &set.name);
    w.string(attr::TYPENAME, set.kind.name());
    w.attribute(attr::REVISION, &[revision]);
    w.attribute(attr::FAMILY, &[family(set.kind, set.ipv6)]);
    w.nest(attr::DATA, |w| match set.kind {
        Kind::BitmapPort => {
            be16(w, data::PORT, 0);
            be16(w, data::PORT_TO, u16::MAX);
        }
        _ => w.be32(data::MAXELEM | NET_BYTEORDER, set.max_entries),
    });
}

pub(super) fn entry(w: &mut Writer, entry: &Entry) {
    match *entry {
        Entry::Ip(address) => ip(w, data::IP, address),
        Entry::IpPort { address, protocol, port } => ip_port(w, address, protocol, port),
        Entry::IpPortIp { address, protocol, port, other } => {
            ip_port(w, address, protocol, port);
            ip(w, data::IP2, other);
        }
        Entry::IpPortNet { address, protocol, port, net, prefix } => {
            ip_port(w, address, protocol, port);
            ip(w, data::IP2, net);
            w.attribute(data::CIDR2, &[prefix]);
        }
        Entry::Net { net, prefix } => {
            ip(w, data::IP, net);
            w.attribute(data::CIDR, &[prefix]);
        }
        Entry::Port(port) => be16(w, data::PORT, port),
    }
}

fn ip_port(w: &mut Writer, address: IpAddr, protocol: u8, port: u16) {
    ip(w, data::IP, address);
    be16(w, data::PORT, port);
    w.attribute(data::PROTO, &[protocol]);
}

fn ip(w: &mut Writer, kind: u16, address: IpAddr) {
    w.nest(kind, |w| match address {
        IpAddr::V4(address) => w.attribute(data::IPADDR_IPV4 | NET_BYTEORDER, &address.octets()),
        IpAddr::V6(address) => w.attribute(data::IPADDR_IPV6 | NET_BYTEORDER, &address.octets()),
    });
}

fn be16(w: &mut Writer, kind: u16, value: u16) {
    w.attribute(kind | NET_BYTEORDER, &value.to_be_bytes());
}
