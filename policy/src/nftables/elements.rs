//! Elements of sets: keys in registers' layout, every field padded to four bytes.

use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::{Family, Protocol};
use ipnet::IpNet;
use kernel::nft::{Bytes, Data, Element, Verdict, octets};

use super::layout::profile_chain;
use crate::program::{Member, Profile, SetKey};

fn port(at: IpAddr, protocol: Protocol, port: u16) -> Bytes {
    let [high, low] = port.to_be_bytes();
    let mut key = octets(at);
    key.extend_from_slice(&[protocol.number(), 0, 0, 0, high, low, 0, 0]);
    key
}

fn plain(key: Bytes) -> Element {
    Element { key, ..Element::default() }
}

/// A pod that reaches itself.
pub(super) fn itself(pod: IpAddr) -> Element {
    let mut key = octets(pod);
    key.extend(octets(pod));
    plain(key)
}

pub(super) fn generation(mark: u32) -> Element {
    plain(Bytes::from_slice(&mark.to_ne_bytes()))
}

pub(super) fn subject(pod: IpAddr, profile: &Arc<Profile>) -> Element {
    let data = Data::Verdict(Verdict::Goto(profile_chain(profile)));
    Element { data, ..Element::of_address(pod) }
}

/// The elements of a set in a family.
pub(super) fn of_set<'a>(
    key: &SetKey,
    members: impl IntoIterator<Item = &'a Member>,
    family: Family,
) -> Vec<Element> {
    if let SetKey::Block(nets) = key {
        return ranges(nets, family);
    }
    let here = members.into_iter().filter(|member| Family::of(member.address()) == family);
    let element = |member: &Member| match member {
        Member::Address(at) => Element::of_address(*at),
        Member::Port(at, protocol, number) => plain(port(*at, *protocol, *number)),
        Member::Range(range) => Element::of_address(range.network()),
    };
    here.map(element).collect()
}

/// The ranges of a family.
pub(super) fn ranges(nets: &[IpNet], family: Family) -> Vec<Element> {
    let here: Vec<IpNet> = nets.iter().copied().filter(|net| Family::of(net.addr()) == family).collect();
    Element::of_ranges(&here)
}
