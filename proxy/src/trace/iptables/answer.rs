//! Whether a rule matches a packet.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::super::model::Surroundings;
use super::kept::Kept;
use super::matches::{Match, Ports, Recent, Side, Test};
use super::traveller::Headers;

/// What there is to know besides the packet and the rule.
#[derive(Clone, Copy)]
pub(in crate::trace) struct World<'a> {
    pub(in crate::trace) around: &'a dyn Surroundings,
    pub(in crate::trace) kept: &'a dyn Kept,
}

/// What is to be said to a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// It matches with this probability: 1 if it does, 0 if it does not.
    Chance(f64),
    /// It would depend on this, as far as the rest is concerned.
    Unknown(String),
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        Self::Chance(f64::from(u8::from(yes)))
    }
}

impl Answer {
    fn negated(self, negated: bool) -> Self {
        match self {
            Self::Chance(chance) if negated => Self::Chance(1.0 - chance),
            same => same,
        }
    }
}

/// The ports that clients get on Linux if nobody changed that.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

impl World<'_> {
    /// Whether a packet matches all of this. `leaves` where it is known which interface it will leave by.
    pub(super) fn answer(
        &self,
        matches: &[Match],
        packet: &Headers,
        leaves: bool,
    ) -> Result<Answer, kernel::Error> {
        let (mut chance, mut unknown) = (1.0, None);
        for Match { negated, test } in matches {
            match self.test(test, packet, leaves)?.negated(*negated) {
                Answer::Chance(0.0) => return Ok(false.into()),
                Answer::Chance(one) => chance *= one,
                Answer::Unknown(what) => drop(unknown.get_or_insert(what)),
            }
        }
        Ok(unknown.map_or(Answer::Chance(chance), Answer::Unknown))
    }

    fn test(&self, test: &Test, packet: &Headers, leaves: bool) -> Result<Answer, kernel::Error> {
        Ok(match test {
            Test::Net(side, net) => net.contains(&address(packet, *side)).into(),
            Test::Between(side, from, to) => (*from..=*to).contains(&address(packet, *side)).into(),
            Test::AskedNet(net) => net.contains(&packet.asked.ip()).into(),
            Test::Input(pattern) => is_named(packet.input.as_deref().unwrap_or_default(), pattern).into(),
            Test::Output(pattern) => self.leaves_by(pattern, packet, leaves),
            Test::Protocol(protocol) => (*protocol == Some(packet.protocol)).into(),
            Test::Port(Side::Destination, ports) => has(ports, packet.destination.port()).into(),
            Test::Port(Side::Source, ports) => from_port(ports),
            Test::EitherPort(ports) if has(ports, packet.destination.port()) => true.into(),
            Test::EitherPort(ports) => from_port(ports),
            Test::AskedPort(ports) => has(ports, packet.asked.port()).into(),
            Test::State(states) => states.iter().any(|state| is_in_state(packet, state)).into(),
            Test::Type(side, types) => self.is_of_type(address(packet, *side), types),
            Test::Mark(value, mask) => (packet.mark & mask == *value).into(),
            Test::ConnectionMark(value, mask) => (packet.connection_mark & mask == *value).into(),
            Test::Chance(chance) => Answer::Chance(*chance),
            Test::Recent(recent) => self.was_seen(recent, packet)?.into(),
            Test::Set(name, sides) => {
                let found = self.kept.set(name)?.and_then(|set| set.contains(sides, packet));
                found.map_or_else(|| Answer::Unknown(format!("--match-set {name}")), Answer::from)
            }
            Test::ToItself => (packet.source == packet.destination.ip()).into(),
            Test::Constant(yes) => (*yes).into(),
            Test::Unknown(what) => Answer::Unknown(what.clone()),
        })
    }

    fn leaves_by(&self, pattern: &str, packet: &Headers, leaves: bool) -> Answer {
        let to = packet.destination.ip();
        if !leaves {
            return is_named("", pattern).into();
        }
        if self.around.is_local(to) {
            return is_named("lo", pattern).into();
        }
        match self.around.interface_towards(to) {
            Some((name, _)) => is_named(&name, pattern).into(),
            None => Answer::Unknown(format!("-o {pattern}, and there is no route to {to}")),
        }
    }

    fn is_of_type(&self, address: IpAddr, types: &[String]) -> Answer {
        let broadcast = address == IpAddr::from([0xff; 4]);
        let (local, multicast) = (self.around.is_local(address), address.is_multicast());
        let is = |kind: &str| match kind {
            "LOCAL" => Some(local),
            "BROADCAST" => Some(broadcast),
            "MULTICAST" => Some(multicast),
            "UNICAST" => Some(!(local || broadcast || multicast)),
            "UNSPEC" => Some(address.is_unspecified()),
            // Routes say so, and nobody has such to Services.
            _ => None,
        };
        match types.iter().map(|kind| is(kind).ok_or(kind)).collect::<Result<Vec<_>, _>>() {
            Ok(found) => found.contains(&true).into(),
            Err(kind) => Answer::Unknown(format!("an address of type {kind}")),
        }
    }

    fn was_seen(&self, recent: &Recent, packet: &Headers) -> Result<bool, kernel::Error> {
        let whole = address(packet, recent.side);
        let looked_up = recent.mask.map_or(whole, |mask| under(whole, mask));
        let ago = self.kept.last_seen(&recent.list, looked_up)?;
        Ok(ago.is_some_and(|ago| recent.seconds.is_none_or(|seconds| ago.as_secs() < seconds)))
    }
}

fn address(packet: &Headers, side: Side) -> IpAddr {
    match side {
        Side::Source => packet.source,
        Side::Destination => packet.destination.ip(),
    }
}

/// Whether an interface is meant; a trailing `+` stands for any ending.
fn is_named(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

fn has(ports: &Ports, port: u16) -> bool {
    ports.iter().any(|range| range.contains(&port))
}

/// Whether a client's port, which is not known, is one of these.
fn from_port(ports: &Ports) -> Answer {
    let (first, last) = (*EPHEMERAL.start(), *EPHEMERAL.end());
    if ports.iter().any(|range| range.contains(&first) && range.contains(&last)) {
        true.into()
    } else if ports.iter().all(|range| *range.end() < first || *range.start() > last) {
        false.into()
    } else {
        Answer::Unknown("the client's port".to_owned())
    }
}

/// It is the first packet of a connection.
fn is_in_state(packet: &Headers, state: &str) -> bool {
    match state {
        "NEW" => packet.tracked,
        "UNTRACKED" => !packet.tracked,
        "DNAT" => packet.translated,
        "SNAT" => packet.masqueraded,
        _ => false,
    }
}

fn under(address: IpAddr, mask: IpAddr) -> IpAddr {
    match (address, mask) {
        (IpAddr::V4(address), IpAddr::V4(mask)) => (address & mask).into(),
        (IpAddr::V6(address), IpAddr::V6(mask)) => (address & mask).into(),
        _ => address,
    }
}
