//! Elements of sets: keys in registers' layout, every field padded to four bytes.

use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::{Family, Protocol};
use ipnet::IpNet;
use kernel::nft::{Bytes, Data, Element, Verdict};

use super::layout::profile_chain;
use crate::program::{Member, Profile, SetKey};

pub(super) fn address(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::from_slice(&v6.octets()),
    }
}

fn port(at: IpAddr, protocol: Protocol, port: u16) -> Bytes {
    let [high, low] = port.to_be_bytes();
    let mut key = address(at);
    key.extend_from_slice(&[protocol.number(), 0, 0, 0, high, low, 0, 0]);
    key
}

pub(super) fn plain(key: Bytes) -> Element {
    Element { key, ..Element::default() }
}

/// A pod that reaches itself.
pub(super) fn itself(pod: IpAddr) -> Element {
    let mut key = address(pod);
    key.extend_from_slice(&address(pod));
    plain(key)
}

pub(super) fn generation(mark: u32) -> Element {
    plain(Bytes::from_slice(&mark.to_ne_bytes()))
}

pub(super) fn subject(pod: IpAddr, profile: &Arc<Profile>) -> Element {
    let data = Data::Verdict(Verdict::Goto(profile_chain(profile)));
    Element { key: address(pod), data, ..Element::default() }
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
        Member::Address(at) => plain(address(*at)),
        Member::Port(at, protocol, number) => plain(port(*at, *protocol, *number)),
        Member::Range(range) => plain(address(range.network())),
    };
    here.map(element).collect()
}

/// Disjoint ranges as the kernel has them: where each begins, and the first address beyond it, unless there is none.
pub(super) fn ranges(nets: &[IpNet], family: Family) -> Vec<Element> {
    let mut here: Vec<IpNet> = nets.iter().copied().filter(|net| Family::of(net.addr()) == family).collect();
    here = IpNet::aggregate(&here);
    here.sort_unstable();
    let mut elements: Vec<Element> = Vec::new();
    for net in here {
        let begin = address(net.network());
        // What begins where the one before ends goes on with it.
        if elements.last().is_some_and(|end| end.interval_end && end.key == begin) {
            elements.pop();
        } else {
            elements.push(plain(begin));
        }
        elements
            .extend(next(net.broadcast()).map(|end| Element { interval_end: true, ..plain(address(end)) }));
    }
    elements
}

/// The address after another.
fn next(after: IpAddr) -> Option<IpAddr> {
    match after {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}
