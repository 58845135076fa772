//! Loads: what clients do, from one thread.

mod bulk;
mod connections;
mod fan_out;
mod idle;
mod pace;
mod requests;

pub(crate) use bulk::{Download, Upload};
pub(crate) use connections::Connections;
pub(crate) use fan_out::spread;
pub(crate) use idle::hold;
pub(crate) use pace::Pace;
pub(crate) use requests::Requests;

use std::time::Duration;

use anyhow::Result;

/// A load that can be put on for a while, and then once more.
pub(crate) trait Load {
    /// Puts it on for so long.
    fn run(&mut self, time: Duration) -> Result<Tally>;
}

/// What was done in a while.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Connections, requests or bytes.
    pub(crate) done: u64,
    /// From when each was due, or begun, to its answer.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) took: Duration,
}
