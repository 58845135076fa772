//! Logs: one line an event on stderr, fields as `name=value`, coloured only on a terminal.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// Starts logging at klog's verbosity: 0 to 3 says what was done, 4 and 5 adds details, 6 and up everything.
///
/// A closed stderr never stops the process: what cannot be written is lost.
pub fn start(verbosity: u8) {
    let lines = fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(verbosity >= 4)
        .log_internal_errors(false);
    let started = tracing_subscriber::registry().with(lines.with_filter(filter(verbosity))).try_init();
    // Tests may have started it already; there is nothing to do about it, and nobody to tell.
    drop(started);
}

/// Libraries speak at the highest verbosity only: what matters of their errors is in ours.
fn filter(verbosity: u8) -> Targets {
    match verbosity {
        0..=3 => ours(LevelFilter::INFO),
        4..=5 => ours(LevelFilter::DEBUG),
        _ => Targets::new().with_default(LevelFilter::TRACE),
    }
}

fn ours(level: LevelFilter) -> Targets {
    ["pointsman", "modes", "kernel", "endpoint_cache"]
        .into_iter()
        .fold(Targets::new(), |targets, name| targets.with_target(name, level))
}
