//! A cluster in the cache, and the changes that are made to it: the same each time.

use std::ops::Range;

use anyhow::{Result, ensure};
use benches::cluster::{self, NODE};
use benches::objects::ENDPOINTS;
use endpoint_cache::object::{Kind, Metadata, ObjectName, ObjectRef};
use endpoint_cache::{Cache, Delta, Desired, Update};

/// A cluster.
pub(crate) struct Workload(Cache);

impl Workload {
    pub(crate) fn new(services: u32) -> Self {
        let mut cache = Cache::new(NODE);
        cluster::updates(services, ENDPOINTS).into_iter().for_each(|update| cache.apply(update));
        cache.take_delta();
        Self(cache)
    }

    /// Everything.
    pub(crate) fn desired(&self) -> Desired {
        self.0.desired()
    }

    /// Gives a service these pods.
    pub(crate) fn put(&mut self, number: u32, pods: Range<u32>) -> Result<Delta> {
        self.change([Update::EndpointSlice(cluster::slice(number, pods))])
    }

    /// Adds a service with its pods.
    pub(crate) fn add(&mut self, number: u32) -> Result<Delta> {
        let slice = cluster::slice(number, pods(number));
        self.change([Update::Service(cluster::service(number)), Update::EndpointSlice(slice)])
    }

    /// Removes a service and its pods.
    pub(crate) fn delete(&mut self, number: u32) -> Result<Delta> {
        let gone = |kind, metadata: Metadata| {
            let name = ObjectName::new(&metadata.namespace, &metadata.name);
            Update::Deleted(ObjectRef { kind, name })
        };
        self.change([
            gone(Kind::Service, cluster::service(number).metadata),
            gone(Kind::EndpointSlice, cluster::slice(number, 0..0).metadata),
        ])
    }

    fn change(&mut self, updates: impl IntoIterator<Item = Update>) -> Result<Delta> {
        updates.into_iter().for_each(|update| self.0.apply(update));
        let delta = self.0.take_delta();
        ensure!(delta.changes.len() == 1, "one service changes");
        Ok(delta)
    }
}

/// The pods of a service, by their numbers, as long as nothing has changed.
pub(crate) fn pods(number: u32) -> Range<u32> {
    number * ENDPOINTS..(number + 1) * ENDPOINTS
}
