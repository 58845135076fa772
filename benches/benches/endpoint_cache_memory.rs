//! How much memory the cache keeps for each endpoint, once the objects it was told are gone.

use std::alloc::System;

use benches::cluster::{self, NODE};
use cap::Cap;
use endpoint_cache::Cache;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

fn main() {
    println!("{:>9} {:>9} {:>12} {:>14} {:>12}", "services", "each", "bytes", "bytes/endpoint", "peak");
    for (services, endpoints) in [(1_000, 10), (10_000, 10), (1_000, 100), (10_000, 1)] {
        let (bytes, peak) = measure(services, endpoints);
        let each = bytes / (services as usize * endpoints as usize);
        println!("{services:>9} {endpoints:>9} {bytes:>12} {each:>14} {peak:>12}");
    }
}

/// Bytes allocated by a cache that learned a cluster object by object, and the most while it did.
fn measure(services: u32, endpoints: u32) -> (usize, usize) {
    let before = ALLOCATOR.allocated();
    let mut peak = 0;
    let mut cache = Cache::new(NODE);
    for number in 0..services {
        let pods = number * endpoints..(number + 1) * endpoints;
        cache.apply(endpoint_cache::Update::Service(cluster::service(number)));
        cache.apply(endpoint_cache::Update::EndpointSlice(cluster::slice(number, pods)));
        peak = peak.max(ALLOCATOR.allocated());
    }
    let delta = cache.take_delta();
    assert_eq!(delta.changes.len(), services as usize);
    peak = peak.max(ALLOCATOR.allocated());
    drop(delta);
    let bytes = ALLOCATOR.allocated() - before;
    drop(cache);
    (bytes, peak - before)
}
