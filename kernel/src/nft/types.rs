//! Tables, chains, sets and the data types of their elements.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

/// Bytes of a key, a value or a comparison; in registers' layout, so every field padded to four bytes.
pub type Bytes = SmallVec<[u8; 32]>;

/// The address family of a table (`NFPROTO_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 and IPv6 in one table.
    Inet,
    /// IPv4
    Ip,
    /// IPv6
    Ip6,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Inet, Self::Ip, Self::Ip6].into_iter().find(|family| family.number() == number)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        })
    }
}

/// A table, by family and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Address family.
    pub family: Family,
    /// Name.
    pub name: String,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// A chain; one with a [`Hook`] is a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name, unique in its table.
    pub name: String,
    /// Where in the network stack it is called from; `None` for a chain that rules jump to.
    pub hook: Option<Hook>,
}

/// A chain as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedChain {
    /// The chain.
    pub chain: Chain,
    /// Whether it is a base chain that drops what comes to its end. Ours accept.
    pub drops: bool,
}

/// Where a base chain hangs. The policy is always to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Whether the chain filters or translates addresses.
    pub kind: ChainType,
    /// The point in the packet's path.
    pub point: HookPoint,
    /// Order among the chains of a point; lower first. `nft` prints -100 as `dstnat` and so on.
    pub priority: i32,
}

/// Type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    /// `type filter`
    Filter,
    /// `type nat`: sees only the first packet of a connection.
    Nat,
}

impl ChainType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

/// A point in the packet's path (`NF_INET_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Every packet that comes in, before routing.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets that are forwarded.
    Forward,
    /// Packets that this host sends.
    Output,
    /// Every packet that goes out, after routing.
    Postrouting,
}

impl HookPoint {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting]
            .into_iter()
            .find(|point| point.number() == number)
    }
}

/// Type of one field of a key or value, as `nft` knows it (`enum datatypes` in nftables' `datatype.h`).
///
/// The kernel sees only lengths; the type is what lets `nft list` print elements in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `ipv4_addr`, 4 bytes
    Ipv4Addr,
    /// `ipv6_addr`, 16 bytes
    Ipv6Addr,
    /// `inet_proto`, 1 byte
    InetProto,
    /// `inet_service`, 2 bytes, network order
    InetService,
    /// `mark`, 4 bytes, host order
    Mark,
}

impl DataType {
    const ALL: [Self; 5] = [Self::Ipv4Addr, Self::Ipv6Addr, Self::InetProto, Self::InetService, Self::Mark];

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Mark => 19,
        }
    }

    /// Bytes, unpadded.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::InetProto => 1,
            Self::InetService => 2,
            Self::Ipv4Addr | Self::Mark => 4,
            Self::Ipv6Addr => 16,
        }
    }

    /// Bytes it takes in registers, and in a concatenation.
    #[must_use]
    pub fn padded(self) -> usize {
        self.width().next_multiple_of(4)
    }
}

/// What a set's elements map to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapTo {
    /// Nothing: a plain set.
    Nothing,
    /// A verdict: a verdict map.
    Verdict,
    /// A value of these fields, concatenated.
    Value(Vec<DataType>),
}

/// A set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name, unique in its table.
    pub name: String,
    /// Fields of the key, concatenated.
    pub key: Vec<DataType>,
    /// What elements map to.
    pub data: MapTo,
    /// Elements are ranges (of the last field alone, where the key has several).
    pub interval: bool,
    /// Rules may add and remove elements, which may time out.
    pub dynamic: bool,
    /// Most elements it may hold; `None` for no limit. Fixes the hash table's size, so that filling it is fast.
    pub size: Option<u32>,
    /// What it is for, shown by `nft list` (1.0.1 and later).
    pub comment: String,
}

impl Set {
    /// Bytes of a key in registers' layout.
    #[must_use]
    pub fn key_len(&self) -> usize {
        width(&self.key)
    }
}

/// Bytes of a concatenation; a single field is not padded.
pub(super) fn width(fields: &[DataType]) -> usize {
    match fields {
        [single] => single.width(),
        fields => fields.iter().map(|field| field.padded()).sum(),
    }
}

/// The number by which `nft` recognises a (concatenated) type: six bits a field.
pub(super) fn type_number(fields: &[DataType]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | field.number())
}

/// The fields of a type that is recognised by its number; `None` for types that we have no name for.
pub(super) fn fields(number: u32) -> Option<Vec<DataType>> {
    const BITS: u32 = 6;
    let digits = (0..u32::BITS).step_by(BITS as usize).map(|shift| number >> shift & ((1 << BITS) - 1));
    let mut digits: Vec<u32> = digits.collect();
    digits.truncate(digits.iter().rposition(|digit| *digit != 0)? + 1);
    let named = |digit: &u32| DataType::ALL.into_iter().find(|known| known.number() == *digit);
    digits.iter().rev().map(named).collect()
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Let it pass this hook.
    Accept,
    /// Drop it without a word.
    Drop,
    /// Go on with what follows in the same rule. In a verdict map: for these keys, and for no others.
    Continue,
    /// Back to the calling chain.
    Return,
    /// To another chain, and back.
    Jump(String),
    /// To another chain for good.
    Goto(String),
}

/// As nft writes it.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Verdict {
    pub(super) fn code(&self) -> i32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Continue => -1,
            Self::Jump(_) => -3,
            Self::Goto(_) => -4,
            Self::Return => -5,
        }
    }

    pub(super) fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Continue | Self::Return => None,
        }
    }

    pub(super) fn from_parts(code: i32, chain: Option<&str>) -> Option<Self> {
        match (code, chain) {
            (0, _) => Some(Self::Drop),
            (1, _) => Some(Self::Accept),
            (-1, _) => Some(Self::Continue),
            (-5, _) => Some(Self::Return),
            (-3, Some(chain)) => Some(Self::Jump(chain.to_owned())),
            (-4, Some(chain)) => Some(Self::Goto(chain.to_owned())),
            _ => None,
        }
    }
}

/// What an element maps to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Data {
    /// Nothing: an element of a plain set.
    #[default]
    None,
    /// A value in registers' layout.
    Value(Bytes),
    /// A verdict.
    Verdict(Verdict),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Element {
    /// The key in registers' layout; the first of the range in an interval set.
    pub key: Bytes,
    /// Last key of the range, in an interval set with several fields.
    pub key_end: Option<Bytes>,
    /// In an interval set with one field: that the range begun before ends *before* this key.
    pub interval_end: bool,
    /// What it maps to.
    pub data: Data,
    /// Shown by `nft list`; only what is [`listable`](super::listable) comes back.
    pub comment: Option<String>,
}

impl Element {
    /// An element whose key is an address, and that maps to nothing.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        Self { key: octets(address), ..Self::default() }
    }

    /// Ranges of one family as an interval set has them: where each begins, and the first address beyond it, unless there
    /// is none.
    #[must_use]
    pub fn of_ranges(ranges: &[IpNet]) -> Vec<Self> {
        let mut ranges = IpNet::aggregate(&ranges.to_vec());
        ranges.sort_unstable();
        let mut elements: Vec<Self> = Vec::new();
        for range in ranges {
            let begin = Self::of_address(range.network());
            // What begins where the one before ends goes on with it.
            if elements.last().is_some_and(|end| end.interval_end && end.key == begin.key) {
                elements.pop();
            } else {
                elements.push(begin);
            }
            let beyond = address_after(range.broadcast());
            elements.extend(beyond.map(|beyond| Self { interval_end: true, ..Self::of_address(beyond) }));
        }
        elements
    }
}

/// An address as keys and comparisons have it.
#[must_use]
pub fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::from_slice(&address.octets()),
    }
}

fn address_after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn types_are_recognised_by_their_numbers(types in proptest::collection::vec(0..DataType::ALL.len(), 1..6)) {
            let types: Vec<_> = types.into_iter().map(|at| DataType::ALL[at]).collect();
            prop_assert_eq!(fields(type_number(&types)), Some(types));
        }

        #[test]
        fn any_number_is_a_type_or_none(number: u32) {
            prop_assert!(fields(number).is_none_or(|types| type_number(&types) == number));
        }
    }
}
