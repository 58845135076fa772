//! How long the cache takes to learn a cluster, and to follow a change in one.

use std::hint::black_box;

use benches::cluster::{self, NODE};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use endpoint_cache::{Cache, Update};

const SIZES: [u32; 2] = [1_000, 10_000];
const ENDPOINTS: u32 = 10;

fn loaded(services: u32) -> Cache {
    let mut cache = Cache::new(NODE);
    cluster::updates(services, ENDPOINTS).into_iter().for_each(|update| cache.apply(update));
    cache.take_delta();
    cache
}

/// All objects of a cluster, decoded already, to the first delta.
fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(20);
    for services in SIZES {
        let updates = cluster::updates(services, ENDPOINTS);
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            let learn = |updates: Vec<Update>| {
                let mut cache = Cache::new(NODE);
                updates.into_iter().for_each(|update| cache.apply(update));
                let delta = cache.take_delta();
                (cache, delta)
            };
            bencher.iter_batched(|| updates.clone(), learn, BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// One endpoint of one Service is replaced, back and forth.
fn replace_endpoint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replace_endpoint");
    for services in SIZES {
        let mut cache = loaded(services);
        let number = services / 2;
        let first = number * ENDPOINTS;
        let mut slices = [first + 1..first + ENDPOINTS + 1, first..first + ENDPOINTS]
            .map(|pods| Update::EndpointSlice(cluster::slice(number, pods)));
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            let next = || {
                slices.swap(0, 1);
                slices[1].clone()
            };
            let follow = |update| {
                cache.apply(update);
                let delta = cache.take_delta();
                assert_eq!(delta.changes.len(), 1);
                delta
            };
            bencher.iter_batched(next, follow, BatchSize::NumIterations(1));
        });
    }
    group.finish();
}

/// Everything at once, as a full resync needs it.
fn desired(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("desired");
    for services in SIZES {
        let cache = loaded(services);
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| black_box(cache.desired()));
        });
    }
    group.finish();
}

criterion_group!(endpoint_cache, load, replace_endpoint, desired);
criterion_main!(endpoint_cache);
