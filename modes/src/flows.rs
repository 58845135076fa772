//! Connectionless flows whose endpoint went away. Conntrack would keep sending them there for as long as the client
//! keeps talking; TCP notices by itself.
//!
//! And connections of all protocols that were begun while no rules were there: before the first sync, after somebody had
//! flushed them, or while nftables prepared the transaction that brings them back, whose chains are hooked in, empty, from
//! its beginning. Conntrack remembers for two minutes that they are not translated, so that each further attempt from the
//! same port, be it the client's repeated SYN, would lead nowhere.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use endpoint_cache::{Change, Desired, Family, Protocol, ServicePort};
use kernel::conntrack::{Conntrack, Flow, FlowFilter};

use crate::{Cleaning, Error};

/// Up to so many questions are put to the kernel one by one; beyond, all flows of a protocol are looked through once.
const FEW: usize = 4;

/// Removes flows that service changes have made stale.
pub(crate) struct Flows {
    conntrack: Conntrack,
}

impl Flows {
    pub(crate) fn open() -> Result<Self, Error> {
        Ok(Self { conntrack: Conntrack::open()? })
    }

    /// Removes what changes of services have made stale, in the families where there may be any. A failure is logged: the
    /// rules are in force all the same, and old flows end by themselves, if later.
    pub(crate) fn remove_after(&mut self, changes: &[Change]) -> Vec<Cleaning> {
        let stale: HashSet<Stale> = changes.iter().flat_map(stale_after).collect();
        let of = |family| -> HashSet<Stale> {
            stale.iter().filter(|stale| stale.frontend.family == family).copied().collect()
        };
        let affected = Family::BOTH.map(|family| (family, of(family))).into_iter();
        let affected = affected.filter(|(_, stale)| !stale.is_empty());
        affected.map(|(family, stale)| self.clean(family, |flows| flows.remove(&stale))).collect()
    }

    /// Removes flows of any service that are answered by none of its endpoints, or of TCP by nobody: what may have become
    /// stale while nobody watched. A failure is logged, as above.
    pub(crate) fn remove_stale(&mut self, desired: &Desired) -> Vec<Cleaning> {
        let services = || desired.service_ports.iter().map(AsRef::as_ref);
        let mut frontends: HashMap<Frontend, &ServicePort> = HashMap::new();
        for service in services() {
            // What is not translated on its way to a node port's number may be somebody else's; of TCP, that is all there is.
            let ours = |frontend: &Frontend| frontend.address.is_some() || is_connectionless(service);
            frontends.extend(self::frontends(service).filter(ours).map(|frontend| (frontend, service)));
        }
        let is_stale = |flow: &Flow| {
            let service = Frontend::of(flow).into_iter().find_map(|frontend| frontends.get(&frontend));
            service.is_some_and(|service| !serves(service, flow.replier, flow.replier_port))
        };
        let realms: HashSet<Realm> =
            services().map(|service| (service.family, service.name.protocol)).collect();
        let affected = Family::BOTH.into_iter().filter(|family| realms.iter().any(|(of, _)| of == family));
        affected
            .map(|family| {
                let realms = realms.iter().filter(|(of, _)| *of == family).copied().collect();
                self.clean(family, |flows| flows.remove_matching(&realms, is_stale))
            })
            .collect()
    }

    fn clean(&mut self, family: Family, work: impl FnOnce(&mut Self) -> Result<usize, Error>) -> Cleaning {
        let began = Instant::now();
        let removed = work(self).unwrap_or_else(|error| {
            tracing::warn!("cannot remove the flows of endpoints that are gone: {error}");
            0
        });
        Cleaning { family, removed, duration: began.elapsed() }
    }

    fn remove(&mut self, stale: &HashSet<Stale>) -> Result<usize, Error> {
        if stale.len() > FEW {
            let realms = stale.iter().map(Stale::realm).collect();
            return self
                .remove_matching(&realms, |flow| Stale::may_be(flow).any(|reason| stale.contains(&reason)));
        }
        let mut removed = 0;
        for stale in stale {
            let mut flows = self.conntrack.list(&stale.filter())?;
            flows.retain(|flow| Stale::may_be(flow).any(|reason| reason == *stale));
            removed += self.conntrack.delete(&flows)?;
        }
        Ok(removed)
    }

    fn remove_matching(
        &mut self,
        realms: &HashSet<Realm>,
        is_stale: impl Fn(&Flow) -> bool,
    ) -> Result<usize, Error> {
        let mut removed = 0;
        for (family, protocol) in realms {
            let mut flows = self.conntrack.list(&any_flow(*family, *protocol))?;
            flows.retain(&is_stale);
            removed += self.conntrack.delete(&flows)?;
        }
        Ok(removed)
    }
}

/// The flows of a protocol in a family.
type Realm = (Family, Protocol);

/// What a client speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Frontend {
    family: Family,
    protocol: Protocol,
    /// `None` for a node port, which has any address of the node.
    address: Option<IpAddr>,
    port: u16,
}

impl Frontend {
    /// The frontends that a flow may have gone through.
    fn of(flow: &Flow) -> Vec<Self> {
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|known| known.number() == flow.protocol);
        let family = Family::of(flow.destination);
        let through = |address| {
            protocol.map(|protocol| Self { family, protocol, address, port: flow.destination_port })
        };
        [through(Some(flow.destination)), through(None)].into_iter().flatten().collect()
    }
}

/// Flows through a frontend that are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stale {
    frontend: Frontend,
    answered_by: AnsweredBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AnsweredBy {
    /// An endpoint that is gone.
    Endpoint(IpAddr, u16),
    /// Nobody yet: the flow began when there was no endpoint, and was not translated.
    Untranslated,
    /// Anyone: the frontend is gone.
    Anyone,
}

impl Stale {
    fn realm(&self) -> Realm {
        (self.frontend.family, self.frontend.protocol)
    }

    fn filter(&self) -> FlowFilter {
        let any = any_flow(self.frontend.family, self.frontend.protocol);
        let (replier, replier_port) = match self.answered_by {
            AnsweredBy::Endpoint(address, port) => (Some(address), Some(port)),
            AnsweredBy::Untranslated => (self.frontend.address, None),
            AnsweredBy::Anyone => (None, None),
        };
        FlowFilter {
            destination: self.frontend.address,
            destination_port: Some(self.frontend.port),
            replier,
            replier_port,
            ..any
        }
    }

    /// All the reasons for which a flow might be stale.
    fn may_be(flow: &Flow) -> impl Iterator<Item = Self> + '_ {
        let untranslated = flow.is_untranslated();
        Frontend::of(flow).into_iter().flat_map(move |frontend| {
            // An untranslated flow to a node port's number may be somebody else's.
            let through_us = frontend.address.is_some() || !untranslated;
            let reasons = [
                Some(AnsweredBy::Endpoint(flow.replier, flow.replier_port)),
                untranslated.then_some(AnsweredBy::Untranslated),
                through_us.then_some(AnsweredBy::Anyone),
            ];
            reasons.into_iter().flatten().map(move |answered_by| Self { frontend, answered_by })
        })
    }
}

/// Any flow that may be stale: of TCP, what was begun when there were no rules.
fn any_flow(family: Family, protocol: Protocol) -> FlowFilter {
    let any = FlowFilter::any(family == Family::V6, protocol.number());
    FlowFilter { lost: protocol == Protocol::Tcp, ..any }
}

fn is_connectionless(service: &ServicePort) -> bool {
    service.name.protocol != Protocol::Tcp
}

fn serves(service: &ServicePort, address: IpAddr, port: u16) -> bool {
    let endpoint = |endpoint: &endpoint_cache::Endpoint| (endpoint.address, endpoint.port);
    service.serving_endpoints.binary_search_by_key(&(address, port), endpoint).is_ok()
}

fn frontends(service: &ServicePort) -> impl Iterator<Item = Frontend> + '_ {
    let addresses = std::iter::once(service.cluster_ip).chain(service.external_addresses());
    let frontend = move |address, port| Frontend {
        family: service.family,
        protocol: service.name.protocol,
        address,
        port,
    };
    let by_address = addresses.map(move |address| frontend(Some(address), service.port));
    by_address.chain(service.node_port.map(move |port| frontend(None, port)))
}

/// What a change of a service port makes stale.
fn stale_after(change: &Change) -> Vec<Stale> {
    let services = [change.before.as_deref(), change.after.as_deref()];
    let [before, after] = services.map(|service| service.filter(|service| is_connectionless(service)));
    let reaches = |service: Option<&ServicePort>| -> HashSet<Frontend> {
        service
            .filter(|service| !service.cluster_endpoints.is_empty())
            .into_iter()
            .flat_map(frontends)
            .collect()
    };
    let (reached, reach) = (reaches(before), reaches(after));
    let newly_reached = reach.difference(&reached).map(|frontend| (*frontend, AnsweredBy::Untranslated));
    let remaining: HashSet<Frontend> = after.into_iter().flat_map(frontends).collect();
    let gone = before.into_iter().flat_map(frontends).filter(|frontend| !remaining.contains(frontend));
    let gone = gone.map(|frontend| (frontend, AnsweredBy::Anyone));
    let stopped = before
        .into_iter()
        .flat_map(|service| service.serving_endpoints.iter())
        .filter(|endpoint| after.is_some_and(|after| !serves(after, endpoint.address, endpoint.port)));
    let left = stopped.flat_map(|endpoint| {
        let answered_by = AnsweredBy::Endpoint(endpoint.address, endpoint.port);
        remaining.iter().map(move |frontend| (*frontend, answered_by))
    });
    newly_reached
        .chain(gone)
        .chain(left)
        .map(|(frontend, answered_by)| Stale { frontend, answered_by })
        .collect()
}
