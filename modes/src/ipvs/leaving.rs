//! Going away when another mode has taken over: connections that IPVS carries go on.
//!
//! The other mode translates what is new before IPVS sees it. A connection that IPVS has taken on is none of its business:
//! netfilter translates a connection from its first packet on, or not at all. So each virtual server stays, with an
//! address to come to (`detached` from our device), for as long as it has connections. The sets stay with them, since they say what is ours: whoever
//! starts next finds all again, and goes on with it, or uses it in this mode.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel::conntrack::{Conntrack, Flow, FlowFilter};
use kernel::ipvs::{Destination, Frontend, Operation};

use super::cleanup::Remains;
use super::draining::LONGEST;
use crate::Error;

/// What is left of this mode while IPVS carries connections.
pub struct Leaving {
    remains: Remains,
    conntrack: Conntrack,
    waiting: Waiting,
}

/// Removes what carries no connections, and nothing of others; says how much, and what is left if anything is. The rules
/// that use the sets must be gone, and another mode's be in force.
///
/// # Errors
/// When the kernel refuses.
pub fn leave(exclude_cidrs: &[IpNet]) -> Result<(usize, Option<Leaving>), Error> {
    let Some(mut remains) = Remains::read(exclude_cidrs)? else { return Ok((0, None)) };
    let now = Instant::now();
    let servers = std::mem::take(&mut remains.frontends).into_iter().collect();
    let addresses = std::mem::take(&mut remains.addresses);
    let waiting = Waiting { servers, addresses, since: now };
    let mut leaving = Leaving { remains, conntrack: Conntrack::open()?, waiting };
    // A client that repeats the beginning of a connection would be refused by a server that takes nothing new.
    let found = leaving.look()?;
    let done = leaving.waiting.done(&found, now);
    let removed = leaving.take_away(&done)?;
    if leaving.waiting.is_over() {
        return Ok((removed + leaving.remains.remove_rest()?, None));
    }
    leaving.remains.detach(&leaving.waiting.addresses)?;
    tracing::info!(virtual_servers = leaving.waiting.servers.len(), "IPVS goes on carrying its connections");
    Ok((removed, Some(leaving)))
}

impl Leaving {
    /// After how long the next [`Leaving::step`] is due, and the first.
    pub const INTERVAL: Duration = Duration::from_secs(5);

    /// Removes what carries no connections any more, or has gone on for a quarter of an hour; says whether anything is
    /// left.
    ///
    /// # Errors
    /// When the kernel refuses. It may be tried again.
    pub fn step(&mut self) -> Result<bool, Error> {
        let found = self.look()?;
        self.remains.run(&wind_down(&found))?;
        let done = self.waiting.done(&found, Instant::now());
        self.take_away(&done)?;
        if !self.waiting.is_over() {
            return Ok(true);
        }
        self.remains.remove_rest()?;
        tracing::info!("IPVS carries no connections any more; nothing is left of ipvs mode");
        Ok(false)
    }

    fn look(&mut self) -> Result<Vec<Found>, Error> {
        let Some(servers) = &mut self.remains.servers else { return Ok(Vec::new()) };
        let look = |of: &Frontend| Ok((*of, servers.destinations(*of)?));
        self.waiting.servers.iter().map(look).collect()
    }

    /// Addresses first: at an address of the node where nobody listens, packets would be answered with a refusal.
    fn take_away(&mut self, done: &Done) -> Result<usize, Error> {
        self.remains.unbind(&done.addresses)?;
        self.remains.remove_servers(&done.servers)?;
        self.forget_flows(&done.servers)?;
        self.waiting.forget(done);
        Ok(done.addresses.len() + done.servers.len())
    }

    /// Conntrack would keep what IPVS carried untranslated, for as long as the client keeps talking.
    fn forget_flows(&mut self, gone: &[Frontend]) -> Result<(), Error> {
        let realms: BTreeSet<_> = gone.iter().filter_map(realm).collect();
        let gone: HashSet<_> = gone.iter().collect();
        for (ipv6, protocol) in realms {
            let mut flows = self.conntrack.list(&FlowFilter::any(ipv6, protocol))?;
            flows.retain(|flow| was_carried(flow) && gone.contains(&frontend_of(flow)));
            self.conntrack.delete(&flows)?;
        }
        Ok(())
    }
}

/// A virtual server with its destinations.
type Found = (Frontend, Vec<Destination>);

/// What is waited for. Pure; somebody else looks at the kernel and at the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    servers: BTreeSet<Frontend>,
    /// On our device.
    addresses: BTreeSet<IpAddr>,
    since: Instant,
}

/// What can go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Done {
    servers: Vec<Frontend>,
    addresses: Vec<IpAddr>,
}

impl Waiting {
    /// Servers that are idle, or whose time is over, and addresses that no other server has.
    fn done(&self, found: &[Found], now: Instant) -> Done {
        let in_time = now.saturating_duration_since(self.since) < LONGEST;
        let (busy, done): (Vec<&Found>, Vec<&Found>) =
            found.iter().partition(|(_, destinations)| in_time && destinations.iter().any(is_busy));
        let needed: HashSet<IpAddr> = busy.iter().filter_map(|(frontend, _)| address(frontend)).collect();
        Done {
            servers: done.iter().map(|(frontend, _)| *frontend).collect(),
            addresses: self.addresses.iter().copied().filter(|found| !needed.contains(found)).collect(),
        }
    }

    fn forget(&mut self, done: &Done) {
        for frontend in &done.servers {
            self.servers.remove(frontend);
        }
        for address in &done.addresses {
            self.addresses.remove(address);
        }
    }

    fn is_over(&self) -> bool {
        self.servers.is_empty()
    }
}

/// Nothing new goes to any destination.
fn wind_down(found: &[Found]) -> Vec<Operation> {
    let of = |(frontend, destinations): &Found| {
        let frontend = *frontend;
        let used = destinations.iter().filter(|destination| destination.weight > 0);
        let wound = used.map(move |destination| Operation::SetDestination(frontend, destination.target, 0));
        wound.collect::<Vec<_>>()
    };
    found.iter().flat_map(of).collect()
}

fn is_busy(destination: &Destination) -> bool {
    destination.active > 0 || destination.inactive > 0
}

fn address(frontend: &Frontend) -> Option<IpAddr> {
    match frontend {
        Frontend::Address { address, .. } => Some(*address),
        Frontend::Mark { .. } => None,
    }
}

fn realm(frontend: &Frontend) -> Option<(bool, u8)> {
    match frontend {
        Frontend::Address { address, protocol, .. } => Some((address.is_ipv6(), *protocol)),
        Frontend::Mark { .. } => None,
    }
}

/// Whether somebody else than netfilter translates it.
fn was_carried(flow: &Flow) -> bool {
    !flow.by_netfilter && !flow.is_untranslated()
}

fn frontend_of(flow: &Flow) -> Frontend {
    Frontend::Address { address: flow.destination, protocol: flow.protocol, port: flow.destination_port }
}

#[cfg(test)]
mod tests {
    use kernel::ipvs::{Target, Traffic};

    use super::*;

    fn frontend(last: u8, port: u16) -> Frontend {
        Frontend::Address { address: [10, 0, 0, last].into(), protocol: 6, port }
    }

    fn found(frontend: Frontend, active: u32, inactive: u32) -> Found {
        let destination = Destination {
            target: Target { address: [10, 1, 0, 1].into(), port: 8080 },
            weight: 1,
            active,
            inactive,
            persistent: 1,
            masquerades: true,
            upper_threshold: 0,
            lower_threshold: 0,
            connections: 1,
            incoming: Traffic::default(),
            outgoing: Traffic::default(),
        };
        (frontend, vec![destination])
    }

    fn waiting(servers: &[Frontend], since: Instant) -> Waiting {
        let addresses = servers.iter().filter_map(address).collect();
        Waiting { servers: servers.iter().copied().collect(), addresses, since }
    }

    #[test]
    fn an_address_goes_with_the_last_of_its_servers() {
        let (web, other, idle) = (frontend(1, 80), frontend(1, 81), frontend(2, 80));
        let start = Instant::now();
        let mut waiting = waiting(&[web, other, idle], start);
        let steps = [
            (vec![found(web, 1, 0), found(other, 0, 1), found(idle, 0, 0)], idle, vec![[10, 0, 0, 2].into()]),
            (vec![found(web, 0, 0), found(other, 0, 1)], web, vec![]),
            (vec![found(other, 0, 0)], other, vec![[10, 0, 0, 1].into()]),
        ];
        for (found, server, addresses) in steps {
            assert!(!waiting.is_over());
            let done = waiting.done(&found, start);
            assert_eq!(done, Done { servers: vec![server], addresses });
            waiting.forget(&done);
        }
        assert!(waiting.is_over() && waiting.addresses.is_empty());
    }

    #[test]
    fn an_address_without_a_server_is_not_waited_for() {
        let (start, stray) = (Instant::now(), IpAddr::from([10, 0, 0, 9]));
        let waiting = Waiting { servers: BTreeSet::new(), addresses: BTreeSet::from([stray]), since: start };
        assert_eq!(waiting.done(&[], start).addresses, [stray]);
    }

    #[test]
    fn nothing_is_waited_for_longer_than_a_quarter_of_an_hour() {
        let (web, start) = (frontend(1, 80), Instant::now());
        let (waiting, found) = (waiting(&[web], start), [found(web, 5, 5)]);
        assert_eq!(waiting.done(&found, start + LONGEST - Duration::from_secs(1)), Done::default());
        let done = waiting.done(&found, start + LONGEST);
        assert_eq!(done, Done { servers: vec![web], addresses: vec![[10, 0, 0, 1].into()] });
    }

    #[test]
    fn what_is_wound_down_is_not_wound_down_again() {
        let web = frontend(1, 80);
        let (_, mut destinations) = found(web, 1, 0);
        let target = destinations[0].target;
        assert_eq!(wind_down(&[(web, destinations.clone())]), [Operation::SetDestination(web, target, 0)]);
        destinations[0].weight = 0;
        assert_eq!(wind_down(&[(web, destinations)]), []);
    }
}
