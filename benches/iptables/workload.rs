//! A cluster in the cache, and the changes that are made to it: the same each time.

use anyhow::{Result, ensure};
use benches::cluster::{self, NODE};
use benches::objects::ENDPOINTS;
use endpoint_cache::{Cache, Delta, Desired, Update};
use modes::Settings;
use modes::iptables::{Backend, Iptables};

/// Changes of one endpoint.
pub(crate) const CHANGES: u32 = 14;

/// A cluster.
pub(crate) struct Workload {
    cache: Cache,
    services: u32,
}

impl Workload {
    pub(crate) fn new(services: u32) -> Self {
        let mut cache = Cache::new(NODE);
        cluster::updates(services, ENDPOINTS).into_iter().for_each(|update| cache.apply(update));
        cache.take_delta();
        Self { cache, services }
    }

    /// Everything.
    pub(crate) fn desired(&self) -> Desired {
        self.cache.desired()
    }

    /// Replaces an endpoint of a service, or takes that back: the services are spread evenly.
    pub(crate) fn change(&mut self, number: u32) -> Result<Delta> {
        let service = number / 2 * (self.services / CHANGES);
        let shift = u32::from(number.is_multiple_of(2));
        let first = service * ENDPOINTS + shift;
        let slice = cluster::slice(service, first..first + ENDPOINTS);
        self.cache.apply(Update::EndpointSlice(slice));
        let delta = self.cache.take_delta();
        ensure!(delta.changes.len() == 1, "one service changes");
        Ok(delta)
    }
}

/// The mode, for IPv4.
pub(crate) fn mode(backend: Backend) -> Result<Iptables> {
    Ok(Iptables::new(Settings { ipv6: false, ..Settings::default() }, Some(backend))?)
}
