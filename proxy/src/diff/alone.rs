//! Working out what should be in the kernel without a process that knows it: everything is loaded once, from where such a
//! process would take it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use endpoint_cache::object::Kind;
use endpoint_cache::{Cache, Desired, Update};
use modes::ipvs;
use tracing::level_filters::LevelFilter;

use super::Diff;
use crate::cli::Cli;
use crate::config;
use crate::event_loop;
use crate::mode::{self, Asked};
use crate::options::Origin;
use crate::run;
use crate::source::kubernetes::Kubernetes;
use crate::source::manifests::Manifests;
use crate::source::{self, Event, Source};
use crate::sync_loop::{Input, NodeWait, Waiting};
use crate::telemetry::Telemetry;

/// How long it may take until everything is loaded.
const WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether the server can be reached.
const MOMENT: Duration = Duration::from_millis(100);
/// Problems of objects that are told.
const PROBLEMS: usize = 100;

/// Compares the kernel with what this command line would have there.
///
/// # Errors
/// When the flags make no sense, objects cannot be loaded, or the kernel cannot be read.
pub(super) fn compare(cli: &Cli) -> anyhow::Result<Diff> {
    let loaded = config::load(cli)?;
    let options = &loaded.options;
    let mut settings = options.settings.clone();
    settings.ipv6 = run::kernel_has_ipv6();
    let node_name = options.node_name()?;
    let telemetry = Telemetry::new(options.stale_after);
    let origin = options.origin(cli);
    let source: Box<dyn Source<Update>> = match &origin {
        Origin::Manifests(path) => Box::new(Manifests::open(path)?),
        Origin::Kubernetes(access) => {
            let (access, telemetry) = (access.clone(), Arc::clone(&telemetry));
            Box::new(Kubernetes::open(access, &node_name, cli.watch_silence, telemetry)?)
        }
    };
    let asked = Asked {
        name: options.mode,
        settings: settings.clone(),
        iptables_backend: cli.iptables_backend.0,
        // They would be set at once.
        ipvs: ipvs::Options { timeouts: ipvs::Timeouts::default(), ..options.ipvs.clone() },
        userspace: cli.userspace.clone(),
    };
    let mut chosen = mode::choose(asked)?;
    let is_of_files = matches!(origin, Origin::Manifests(_));
    if is_of_files {
        tell_of_files();
    }
    let node_wait = run::await_node(&origin, &settings, &node_name).filter(|_| chosen.programs_kernel);
    let cache = Cache::new(&node_name).with_loopback_endpoints(!chosen.programs_kernel && is_of_files);
    let (inbox, inputs) = event_loop::channel();
    source::start("source", source, inbox).with_context(|| format!("cannot read {origin}"))?;
    let mut loading = Loading { cache, telemetry, node_wait, origin };
    loading.run(&inputs)?;
    let (desired, mut notes) = loading.finish();
    let mut comparison = chosen.mode.compare(&desired).context("cannot read the kernel")?;
    if !chosen.programs_kernel {
        notes.push("userspace mode without privileges keeps nothing in the kernel".to_owned());
    }
    notes.append(&mut comparison.notes);
    comparison.notes = notes;
    Ok(Diff::of(chosen.mode.name(), comparison))
}

/// What cannot be read of files is only logged.
fn tell_of_files() {
    let log = tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_target(false).without_time();
    // Tests may have started another log.
    drop(log.with_writer(std::io::stderr).try_init());
}

/// Objects on their way in.
struct Loading {
    cache: Cache,
    telemetry: Arc<Telemetry>,
    node_wait: Option<NodeWait>,
    origin: Origin,
}

impl Loading {
    /// Takes in all there is, and what is to be known of the Node if it comes in time.
    fn run(&mut self, inputs: &Receiver<Input>) -> anyhow::Result<()> {
        let deadline = Instant::now() + WITHIN;
        let mut synced: Option<Waiting> = None;
        while Instant::now() < deadline {
            if let Some(waiting) = &mut synced
                && !self.waits_for_node(waiting)
            {
                return Ok(());
            }
            match inputs.recv_timeout(MOMENT) {
                Ok(Input::Event(Event::Updates(updates))) => {
                    updates.into_iter().for_each(|update| self.cache.apply(update));
                }
                Ok(Input::Event(Event::Synced)) => synced = Some(Waiting::since(Instant::now())),
                Ok(Input::Failed(error)) => return Err(error),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("{} ended", self.origin),
            }
            self.check_server()?;
        }
        match synced {
            Some(_) => Ok(()),
            None => Err(anyhow!("{} has not told everything within {WITHIN:?}", self.origin)),
        }
    }

    fn waits_for_node(&self, waiting: &mut Waiting) -> bool {
        let (eligibility, node) = (self.cache.eligibility(), self.cache.node());
        let until = |wait: &NodeWait| wait.until(eligibility, node, waiting, Instant::now());
        self.node_wait.as_ref().and_then(until).is_some()
    }

    /// A server that does not answer is not asked again: somebody waits for this.
    fn check_server(&self) -> anyhow::Result<()> {
        for kind in [Kind::Service, Kind::EndpointSlice] {
            if let Some(error) = self.telemetry.health.watch_error(kind) {
                bail!("cannot list {kind}s of {}: {error}", self.origin);
            }
        }
        Ok(())
    }

    /// What should be in the kernel, and what of it cannot be.
    fn finish(mut self) -> (Desired, Vec<String>) {
        let problems = self.cache.take_delta().problems;
        let told = problems.iter().take(PROBLEMS);
        let told = told.map(|problem| format!("{} {}: {}", problem.object, problem.field, problem.reason));
        (self.cache.desired(), told.collect())
    }
}
