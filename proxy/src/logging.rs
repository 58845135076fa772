//! Logs: one line an event on stderr, fields as `name=value`, coloured only on a terminal; or an object an event.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt, reload};
use wildmatch::WildMatch;

/// The crates of this program.
const OURS: [&str; 4] = ["pointsman", "modes", "kernel", "endpoint_cache"];

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// How.
    pub format: Format,
    /// What.
    pub levels: Levels,
}

/// What an event looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object on a line.
    Json,
}

/// How much to log, by klog's verbosity: 0 to 3 says what was done, 4 and 5 adds details, 6 and up everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    verbosity: u32,
    /// Others for some modules; the first that fits counts.
    modules: Vec<(WildMatch, u32)>,
}

impl Levels {
    /// A verbosity, and others for modules that have a name like a pattern (`*` and `?` stand for anything) in their path,
    /// as klog has it for files.
    pub fn new(verbosity: u32, modules: impl Iterator<Item = (String, u32)>) -> Self {
        let modules = modules.map(|(pattern, verbosity)| (WildMatch::new(&pattern), verbosity));
        Self { verbosity, modules: modules.collect() }
    }

    fn of(&self, target: &str) -> LevelFilter {
        let names = || target.split("::");
        let is_for = |pattern: &WildMatch| names().any(|name| pattern.matches(name));
        let own = self.modules.iter().find(|(pattern, _)| is_for(pattern)).map(|(_, verbosity)| *verbosity);
        let is_ours = names().next().is_some_and(|name| OURS.contains(&name));
        match own.unwrap_or(self.verbosity) {
            6.. => LevelFilter::TRACE,
            // Libraries speak at the highest verbosity only: what matters of their errors is in ours.
            _ if !is_ours => LevelFilter::OFF,
            4..=5 => LevelFilter::DEBUG,
            0..=3 => LevelFilter::INFO,
        }
    }

    fn enable(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.of(metadata.target())
    }

    /// Nothing above is ever enabled.
    fn highest(&self) -> LevelFilter {
        let verbosities = self.modules.iter().map(|(_, verbosity)| *verbosity).chain([self.verbosity]);
        match verbosities.max().unwrap_or_default() {
            6.. => LevelFilter::TRACE,
            4..=5 => LevelFilter::DEBUG,
            0..=3 => LevelFilter::from_level(Level::INFO),
        }
    }
}

impl<S> Filter<S> for Levels {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.enable(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enable(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.highest())
    }
}

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct Handle(reload::Handle<Levels, Registry>);

impl Handle {
    /// From now on.
    pub fn set_levels(&self, levels: Levels) {
        // It fails when nothing is logged any more.
        drop(self.0.reload(levels));
    }
}

/// Starts logging. A closed stderr never stops the process: what cannot be written is lost.
pub fn start(options: &LogOptions) -> Handle {
    let (filter, handle) = reload::Layer::new(options.levels.clone());
    let lines = fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(options.levels.highest() > LevelFilter::INFO)
        .log_internal_errors(false);
    let lines = match options.format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    // Tests may have started it already; there is nothing to do about it, and nobody to tell.
    drop(started);
    Handle(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(verbosity: u32, modules: &[(&str, u32)]) -> Levels {
        let modules = modules.iter().map(|(pattern, verbosity)| ((*pattern).to_owned(), *verbosity));
        Levels::new(verbosity, modules)
    }

    #[test]
    fn verbosity_is_klogs() {
        for (verbosity, ours, others) in [
            (0, LevelFilter::INFO, LevelFilter::OFF),
            (3, LevelFilter::INFO, LevelFilter::OFF),
            (4, LevelFilter::DEBUG, LevelFilter::OFF),
            (6, LevelFilter::TRACE, LevelFilter::TRACE),
            (99, LevelFilter::TRACE, LevelFilter::TRACE),
        ] {
            let levels = levels(verbosity, &[]);
            assert_eq!((levels.of("pointsman::sync_loop"), levels.of("hyper::proto")), (ours, others));
            assert!(levels.highest() >= ours && levels.highest() >= others);
        }
    }

    #[test]
    fn modules_have_a_verbosity_of_their_own() {
        let levels = levels(0, &[("sync_loop", 4), ("nft*", 6), ("hyper", 6)]);
        assert_eq!(levels.of("pointsman::sync_loop::isolate"), LevelFilter::DEBUG);
        assert_eq!(levels.of("modes::nftables"), LevelFilter::TRACE);
        assert_eq!(levels.of("modes::ipvs"), LevelFilter::INFO);
        assert_eq!(levels.of("hyper::proto"), LevelFilter::TRACE);
        assert_eq!(levels.highest(), LevelFilter::TRACE);
    }
}
