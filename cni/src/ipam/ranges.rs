//! The ranges that addresses are taken from, and which one is next. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::network::Published;
use crate::spec::{Code, Error, IpamRange};

/// More than this is a mistake.
const MOST_RANGES: usize = 256;

/// A range of addresses that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The whole of it.
    pub subnet: IpNet,
    /// The first address to give away.
    pub start: IpAddr,
    /// The last one.
    pub end: IpAddr,
    /// The address that is never given away.
    pub gateway: IpAddr,
}

/// Ranges of one family, of which a pod has one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address with that number in the family of another.
fn numbered(like: IpAddr, number: u128) -> IpAddr {
    match like {
        // Numbers that are asked for lie within a range of this family.
        IpAddr::V4(_) => u32::try_from(number).map_or(like, |number| Ipv4Addr::from(number).into()),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

impl Range {
    /// A range as it is written, with what is not said filled in.
    fn of(said: &IpamRange) -> Result<Self, String> {
        let subnet = said.subnet;
        if subnet != subnet.trunc() {
            return Err(format!("{subnet} has bits set beyond its prefix: {} is meant", subnet.trunc()));
        }
        if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
            return Err(format!("{subnet} is too small to give addresses from"));
        }
        let (network, last) = (subnet.network(), subnet.broadcast());
        let first = numbered(network, number(network) + 1);
        // IPv4's last address is everybody's.
        let last = if subnet.addr().is_ipv4() { numbered(last, number(last) - 1) } else { last };
        let within = |name: &str, address: Option<IpAddr>, otherwise: IpAddr| match address {
            None => Ok(otherwise),
            Some(address) if subnet.contains(&address) => Ok(address),
            Some(address) => Err(format!("{name} {address} is not in {subnet}")),
        };
        let start = within("rangeStart", said.range_start, first)?;
        let end = within("rangeEnd", said.range_end, last)?;
        if start > end {
            return Err(format!("rangeStart {start} is after rangeEnd {end}"));
        }
        let gateway = said.gateway.unwrap_or(first);
        if gateway.is_ipv4() != subnet.addr().is_ipv4() {
            return Err(format!("gateway {gateway} and {subnet} are of different families"));
        }
        if start == end && start == gateway {
            return Err(format!("its only address {start} is the gateway"));
        }
        Ok(Self { subnet, start, end, gateway })
    }

    /// Whether it gives this address away, or would if it were free.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4() && self.start <= address && address <= self.end
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4() && self.start <= other.end && other.start <= self.end
    }

    /// How many addresses it gives away.
    fn size(&self) -> u128 {
        let gateway = u128::from(self.contains(self.gateway));
        (number(self.end) - number(self.start)).saturating_add(1) - gateway
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.subnet, self.start, self.end)
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl RangeSet {
    /// Its ranges, in the order in which they are used.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// The range that an address is given from.
    #[must_use]
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// How many addresses it gives away.
    #[must_use]
    pub fn size(&self) -> u128 {
        self.0.iter().map(Range::size).fold(0, u128::saturating_add)
    }

    /// The next free address: the first after the one that was given away last, once around.
    #[must_use]
    pub fn next(&self, last: Option<IpAddr>, is_free: impl Fn(IpAddr) -> bool) -> Option<(IpAddr, &Range)> {
        let begin =
            last.and_then(|last| self.0.iter().position(|range| range.contains(last)).map(|at| (at, last)));
        let is_good = |range: &Range, address: IpAddr| address != range.gateway && is_free(address);
        let search = |range: &'_ Range, from: u128, to: u128| {
            let mut numbers = from..=to;
            numbers.find(|at| is_good(range, numbered(range.start, *at))).map(|at| numbered(range.start, at))
        };
        let whole = |range: &Range| search(range, number(range.start), number(range.end));
        let Some((at, last)) = begin else {
            return self.0.iter().find_map(|range| Some((whole(range)?, range)));
        };
        let range = &self.0[at];
        let after = || search(range, number(last).saturating_add(1), number(range.end));
        let before = || search(range, number(range.start), number(last));
        let others =
            || self.0[at + 1..].iter().chain(&self.0[..at]).find_map(|range| Some((whole(range)?, range)));
        // The last address of all has none after it.
        let after = if last < range.end { after() } else { None };
        after.map(|found| (found, range)).or_else(others).or_else(|| before().map(|found| (found, range)))
    }
}

/// The sets of ranges that are written, or else the node's own ranges, one set a family.
pub(super) fn sets(said: &[Vec<IpamRange>], published: Option<&Published>) -> Result<Vec<RangeSet>, Error> {
    if said.is_empty() {
        return Ok(published.map(own_sets).transpose()?.unwrap_or_default());
    }
    if said.iter().map(Vec::len).sum::<usize>() > MOST_RANGES {
        return Err(refused(format!("there are more than {MOST_RANGES}")));
    }
    let sets = said
        .iter()
        .enumerate()
        .map(|(at, set)| set_of(set).map_err(|why| refused(format!("range set {at}: {why}"))));
    let sets: Vec<RangeSet> = sets.collect::<Result<_, _>>()?;
    for (at, set) in sets.iter().enumerate() {
        for (later, other) in sets.iter().enumerate().skip(at + 1) {
            if let Some((one, two)) = overlap(&set.0, &other.0) {
                return Err(refused(format!("range sets {at} and {later} overlap: {one}, and {two}")));
            }
        }
    }
    if let Some(published) = published {
        let is_ours = |range: &&Range| published.pod_cidrs.iter().any(|own| own.contains(&range.subnet));
        if let Some(range) = sets.iter().flat_map(|set| &set.0).find(|range| !is_ours(range)) {
            let own: Vec<_> = published.pod_cidrs.iter().map(ToString::to_string).collect();
            let why = format!("{} is not within this node's podCIDRs, {}", range.subnet, own.join(", "));
            return Err(refused(why));
        }
    }
    Ok(sets)
}

fn refused(why: String) -> Error {
    Error::new(Code::CONFIG, "ipam.ranges make no sense").with(why)
}

fn own_sets(published: &Published) -> Result<Vec<RangeSet>, Error> {
    let family = |is_ipv4: bool| -> Result<Option<RangeSet>, Error> {
        let own = published.pod_cidrs.iter().filter(|range| range.addr().is_ipv4() == is_ipv4);
        let said: Vec<_> = own
            .map(|subnet| IpamRange { subnet: *subnet, range_start: None, range_end: None, gateway: None })
            .collect();
        if said.is_empty() {
            return Ok(None);
        }
        set_of(&said)
            .map(Some)
            .map_err(|why| Error::new(Code::CONFIG, "this node's podCIDRs make no sense").with(why))
    };
    Ok([family(true)?, family(false)?].into_iter().flatten().collect())
}

fn set_of(said: &[IpamRange]) -> Result<RangeSet, String> {
    let ranges = said.iter().map(Range::of).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = ranges.first() else { return Err("it is empty".into()) };
    if let Some(other) = ranges.iter().find(|range| range.start.is_ipv4() != first.start.is_ipv4()) {
        return Err(format!("{} and {} are of different families", first.subnet, other.subnet));
    }
    for (at, range) in ranges.iter().enumerate() {
        if let Some((one, two)) = overlap(std::slice::from_ref(range), &ranges[at + 1..]) {
            return Err(format!("ranges overlap: {one}, and {two}"));
        }
    }
    Ok(RangeSet(ranges))
}

fn overlap<'a>(these: &'a [Range], those: &'a [Range]) -> Option<(&'a Range, &'a Range)> {
    these.iter().find_map(|one| those.iter().find(|two| one.overlaps(two)).map(|two| (one, two)))
}

#[cfg(test)]
mod tests;
