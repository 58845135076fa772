//! Which destination a virtual server may choose, and how probably.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kernel::Error;
use kernel::ipvs::{Destination, Frontend, Ipvs, Scheduler, Server, Target};

use super::super::iptables::Traveller;
use super::super::model::End;

/// Where virtual servers are looked up.
pub(super) trait Servers {
    /// A virtual server and its destinations.
    fn find(&mut self, frontend: Frontend) -> Result<Option<(Server, Vec<Destination>)>, Error>;

    /// Where a client of one with persistence was sent to before.
    fn remembered(&mut self, frontend: Frontend, client: IpAddr) -> Result<Option<Target>, Error>;
}

/// The kernel.
pub(super) struct InKernel(pub(super) Ipvs);

impl Servers for InKernel {
    fn find(&mut self, frontend: Frontend) -> Result<Option<(Server, Vec<Destination>)>, Error> {
        match self.0.server(frontend)? {
            Some(server) => Ok(Some((server, self.0.destinations(frontend)?))),
            None => Ok(None),
        }
    }

    fn remembered(&mut self, frontend: Frontend, client: IpAddr) -> Result<Option<Target>, Error> {
        kernel::ipvs::remembered(frontend, client)
    }
}

/// The ways that a packet may take if a virtual server answers to it. `None` if none does.
pub(super) fn choose(
    servers: &mut dyn Servers,
    traveller: &Traveller,
) -> Result<Option<Vec<Traveller>>, Error> {
    if traveller.end.is_some() {
        return Ok(None);
    }
    for frontend in frontends(traveller) {
        if let Some((server, destinations)) = servers.find(frontend)? {
            let remembered = match server.persistence {
                Some(persistence) => {
                    let client = network(traveller.headers.source, persistence.prefix);
                    servers.remembered(frontend, client)?
                }
                None => None,
            };
            return Ok(Some(ways(traveller, &server, &destinations, remembered)));
        }
    }
    Ok(None)
}

/// What a packet may be answered by, in the order in which the kernel looks.
fn frontends(traveller: &Traveller) -> Vec<Frontend> {
    let headers = &traveller.headers;
    let (address, protocol) = (headers.destination.ip(), headers.protocol);
    let marked = Frontend::Mark { ipv6: address.is_ipv6(), mark: headers.mark };
    let at = |port| Frontend::Address { address, protocol, port };
    let marked = (headers.mark != 0).then_some(marked);
    marked.into_iter().chain([at(headers.destination.port()), at(0)]).collect()
}

/// The first address of a client's network.
fn network(client: IpAddr, prefix: u8) -> IpAddr {
    IpNet::new(client, prefix).map_or(client, |net| net.network())
}

fn ways(
    traveller: &Traveller,
    server: &Server,
    destinations: &[Destination],
    remembered: Option<Target>,
) -> Vec<Traveller> {
    let place = format!("{} {}", server.frontend, server.scheduler);
    let has_room = |one: &Destination| {
        one.upper_threshold == 0 || one.active.saturating_add(one.inactive) < one.upper_threshold
    };
    let usable: Vec<_> = destinations.iter().filter(|one| one.weight > 0 && has_room(one)).collect();
    if usable.is_empty() {
        let mut refused = traveller.clone();
        refused.step(place, "no destination that takes connections: answered with port unreachable");
        refused.end = Some(End::Rejected);
        return vec![refused];
    }
    if let (Some(target), Some(persistence)) = (remembered, server.persistence)
        && usable.iter().any(|one| one.target == target)
    {
        let what =
            format!("-> {target}, where this client was sent before (persistence {} s)", persistence.seconds);
        return vec![towards(traveller, place, what, target, 1.0)];
    }
    let shares = shares(server.scheduler, &usable);
    let how = how(server.scheduler).map(|how| format!(", {how}")).unwrap_or_default();
    let ways = usable.iter().zip(shares).filter(|(_, share)| *share > 0.0).map(|(one, share)| {
        let what = format!("-> {} weight {}{how}", one.target, one.weight);
        towards(traveller, place.clone(), what, one.target, share)
    });
    ways.collect()
}

fn towards(traveller: &Traveller, place: String, what: String, target: Target, share: f64) -> Traveller {
    let mut led = traveller.clone();
    // Port 0 stands for the port that was asked for.
    let port = if target.port == 0 { led.headers.destination.port() } else { target.port };
    led.step(place, what);
    led.headers.destination = SocketAddr::new(target.address, port);
    (led.led, led.share) = (true, led.share * share);
    led
}

/// How probably each is chosen, as far as that is fixed; equal shares otherwise.
fn shares(scheduler: Scheduler, usable: &[&Destination]) -> Vec<f64> {
    let heaviest = usable.iter().map(|one| one.weight).max().unwrap_or_default();
    let first = usable.iter().position(|one| one.weight == heaviest);
    let weigh = |(at, one): (usize, &&Destination)| match scheduler.as_str() {
        "wrr" => f64::from(one.weight),
        "fo" => f64::from(u8::from(Some(at) == first)),
        _ => 1.0,
    };
    let weights: Vec<f64> = usable.iter().enumerate().map(weigh).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// How a scheduler chooses where shares do not tell.
fn how(scheduler: Scheduler) -> Option<&'static str> {
    Some(match scheduler.as_str() {
        "lc" => "whichever has the fewest connections",
        "wlc" => "whichever has the fewest connections for its weight",
        "sed" => "whichever is expected to answer first by its connections and weight",
        "nq" => "one without connections, or whichever is expected to answer first",
        "lblc" | "lblcr" => "the one that this address was led to before, unless it has too many connections",
        "sh" | "mh" => "by the client's address: the same for one client, shares are those of many clients",
        "dh" => "by the address that is asked for: always the same",
        "ovf" => "the heaviest until it has as many connections as weight, then the next",
        "twos" => "the less busy of two taken at random",
        "fo" => "the heaviest",
        "rr" | "wrr" => return None,
        _ => "by rules of its own",
    })
}
