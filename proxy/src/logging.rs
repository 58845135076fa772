//! Logs: one line an event on stderr, fields as `name=value`, coloured only on a terminal.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;

/// Starts logging at klog's verbosity: 0 to 3 says what was done, 4 and 5 adds details, 6 and up everything.
///
/// A closed stderr never stops the process: what cannot be written is lost.
pub fn start(verbosity: u8) {
    let started = tracing_subscriber::fmt()
        .with_max_level(level(verbosity))
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(verbosity >= 4)
        .log_internal_errors(false)
        .try_init();
    // Tests may have started it already; there is nothing to do about it, and nobody to tell.
    drop(started);
}

fn level(verbosity: u8) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
