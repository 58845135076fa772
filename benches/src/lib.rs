//! What the benchmarks measure on: clusters of a given size.
//!
//! The benchmarks themselves are in `benches/`, a file for each thing measured: `cargo bench -p benches`.

pub mod cluster;
