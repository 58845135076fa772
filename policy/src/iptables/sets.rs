//! The sets that rules look addresses and ports up in.

use std::collections::BTreeSet;
use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::ipset::{Entry, Kind, Set};

use super::names;
use crate::enforcer::Error;
use crate::program::{Member, Profile, Program, SetKey};

/// Members that a set may have at most; memory is taken as they come.
const MOST: usize = 1 << 20;

/// What it means for connections that an address comes into a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// More is allowed.
    Allows,
    /// Less is.
    Isolates,
}

/// A set as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilledSet {
    pub(super) set: Set,
    pub(super) purpose: Purpose,
    pub(super) entries: BTreeSet<Entry>,
}

impl FilledSet {
    fn new(
        name: String,
        kind: Kind,
        family: Family,
        purpose: Purpose,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Self {
        let max_entries = u32::try_from(MOST).unwrap_or(u32::MAX);
        let set = Set { name, kind, ipv6: family == Family::V6, max_entries };
        Self { set, purpose, entries: entries.into_iter().collect() }
    }

    /// All known pods of the node.
    pub(super) fn pods(program: &Program, family: Family) -> Self {
        let pods = program.pods.keys().filter(|pod| Family::of(**pod) == family).map(|pod| Entry::Ip(*pod));
        Self::new(names::pods_set(family), Kind::HashIp, family, Purpose::Allows, pods)
    }

    /// The ranges of the node's pods.
    pub(super) fn ranges(ranges: &[IpNet], family: Family) -> Self {
        let (name, entries) = (names::ranges_set(family), range_entries(ranges, family));
        Self::new(name, Kind::HashNet, family, Purpose::Isolates, entries)
    }

    /// The pods of a profile.
    pub(super) fn subjects(
        profile: &Profile,
        pods: impl IntoIterator<Item = IpAddr>,
        family: Family,
    ) -> Self {
        let pods = pods.into_iter().filter(|pod| Family::of(*pod) == family).map(Entry::Ip);
        Self::new(names::subjects_set(profile, family), Kind::HashIp, family, Purpose::Isolates, pods)
    }

    /// What clauses refer to, filled as in the program.
    ///
    /// # Errors
    /// When it has more members than a set takes.
    pub(super) fn members(key: &SetKey, program: &Program, family: Family) -> Result<Self, Error> {
        check_size(key, program)?;
        let kind = match key {
            SetKey::Pods(_) => Kind::HashIp,
            SetKey::Ports(..) => Kind::HashIpPort,
            SetKey::Block(_) => Kind::HashNet,
        };
        let members = program.sets.get(key).into_iter().flat_map(|members| members.keys());
        let entries = members.flat_map(|member| entries(member, family));
        Ok(Self::new(names::members_set(key, family), kind, family, Purpose::Allows, entries))
    }
}

/// Whether a set is of any use in a family: pods may come, but blocks are what they are.
pub(super) fn exists(key: &SetKey, family: Family) -> bool {
    match key {
        SetKey::Pods(_) | SetKey::Ports(..) => true,
        SetKey::Block(ranges) => ranges.iter().any(|range| Family::of(range.addr()) == family),
    }
}

/// Whether the kernel would take all members.
///
/// # Errors
/// When it would not.
pub(super) fn check_size(key: &SetKey, program: &Program) -> Result<(), Error> {
    match program.sets.get(key).is_some_and(|members| members.len() > MOST) {
        true => Err(Error::TooMany { what: key.to_string(), most: MOST }),
        false => Ok(()),
    }
}

/// A member in the kernel's words, if it is of a family.
pub(super) fn entries(member: &Member, family: Family) -> Vec<Entry> {
    if Family::of(member.address()) != family {
        return Vec::new();
    }
    match *member {
        Member::Address(address) => vec![Entry::Ip(address)],
        Member::Port(address, protocol, port) => {
            vec![Entry::IpPort { address, protocol: protocol.number(), port }]
        }
        Member::Range(range) => net_entries(range),
    }
}

/// Ranges in the kernel's words, those of a family.
pub(super) fn range_entries(ranges: &[IpNet], family: Family) -> BTreeSet<Entry> {
    let here = ranges.iter().filter(|range| Family::of(range.addr()) == family);
    here.flat_map(|range| net_entries(*range)).collect()
}

/// The kernel takes no range of all addresses, but both halves of it.
fn net_entries(range: IpNet) -> Vec<Entry> {
    let entry = |range: IpNet| Entry::Net { net: range.network(), prefix: range.prefix_len() };
    match range.prefix_len() {
        0 => range.subnets(1).into_iter().flatten().map(entry).collect(),
        _ => vec![entry(range)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_two_halves() {
        let nets = |text: &str, family| {
            let entries = range_entries(&[text.parse().unwrap()], family);
            entries.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(nets("0.0.0.0/0", Family::V4), ["0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!(nets("::/0", Family::V6), ["::/1", "8000::/1"]);
        assert_eq!(nets("10.0.0.1/8", Family::V4), ["10.0.0.0/8"]);
        assert_eq!(nets("10.0.0.1/8", Family::V6), [""; 0]);
    }
}
