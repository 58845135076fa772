//! NetworkPolicies in this process: a source, a loop and an enforcer of their own, beside the proxy's or alone.
//!
//! Nothing is shared with the proxy but what tells of the process, so that neither waits for the other. `enforce` is the
//! loop; `backend` chooses what it drives; `alone` is `pointsman policy`; `tools` are what people ask it, who are told a
//! `view` at the `desk`.

mod alone;
mod backend;
mod denials;
mod desk;
mod enforce;
mod input;
mod leftovers;
#[cfg(test)]
mod tests;
pub(crate) mod tools;
mod view;
mod waiting;

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Context;
use endpoint_cache::Family;
use modes::userspace::captured::{BORROWED, LED_BACK};
use policy::{Compiler, Settings, Update};

pub(crate) use self::alone::run as run_alone;
pub(crate) use self::desk::Desk;
pub(crate) use self::leftovers::{cleanup, retire};
pub(crate) use self::view::PolicyView;
pub(crate) use self::waiting::Newcomer;
use crate::BadUsage;
use crate::cli::Cli;
use crate::event_loop::{self, channel};
use crate::mode::ModeName;
use crate::options::{Options, Origin};
use crate::source::kubernetes::{Kubernetes, Outlet};
use crate::source::manifests::Manifests;
use crate::source::{self, Source};
use crate::telemetry::{Enforced, Telemetry};
use backend::Backend;
use enforce::PolicyLoop;
use input::{Inbox, Input, Message};

/// Where policies come from, and how they are enforced.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) origin: Origin,
    pub(crate) node_name: String,
    pub(crate) watch_silence: Duration,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) notices: Option<Outlet>,
    pub(crate) desk: Arc<Desk>,
    backend: Backend,
    iptables: Option<kernel::iptables::Backend>,
    settings: Settings,
}

impl Asked {
    /// What a command line asks for, on a node with these families.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(crate) fn of(
        cli: &Cli,
        options: &Options,
        families: Vec<Family>,
        telemetry: &Arc<Telemetry>,
    ) -> anyhow::Result<Self> {
        check_mark(cli.policy.policy_mark_mask, options)?;
        Ok(Self {
            origin: options.origin(cli),
            node_name: options.node_name()?,
            watch_silence: cli.watch_silence,
            telemetry: Arc::clone(telemetry),
            notices: None,
            desk: Arc::default(),
            backend: Backend::of(cli.policy.policy_backend, options.mode),
            iptables: cli.iptables_backend.0,
            settings: cli.policy.settings(families),
        })
    }

    /// Makes everything ready; nothing is programmed yet.
    ///
    /// # Errors
    /// When the source cannot be opened, or the kernel cannot do what is asked for.
    fn prepare(self) -> anyhow::Result<Prepared> {
        let Self { origin, node_name, watch_silence, telemetry, notices, desk, backend, iptables, settings } =
            self;
        let source: Box<dyn Source<Update>> = match &origin {
            Origin::Manifests(path) => Box::new(Manifests::open(path)?),
            Origin::Kubernetes(access) => {
                let (access, telemetry) = (access.clone(), Arc::clone(&telemetry));
                Box::new(Kubernetes::open(access, &node_name, watch_silence, telemetry)?)
            }
        };
        let enforcer = backend.open(settings.clone(), iptables)?;
        let audit = settings.audit;
        telemetry.policies.are_enforced(Enforced { by: enforcer.name(), audit });
        tracing::info!(by = enforcer.name(), audit, "enforcing NetworkPolicies");
        let policy_loop = PolicyLoop::new(Compiler::new(&node_name), enforcer, telemetry)
            .with_notices(notices)
            .with_settings(&settings)
            .with_work_after_first_sync(move || leftovers::retire_other(backend));
        let (inbox, inputs) = channel();
        desk.open(inbox.clone());
        if (settings.log_denied || audit)
            && let Err(error) = denials::listen(inbox.clone())
        {
            tracing::warn!("what policies deny is counted, and not logged: {error:#}");
        }
        Ok(Prepared { policy_loop, source, inbox, inputs })
    }
}

/// Ready to begin.
struct Prepared {
    policy_loop: PolicyLoop,
    source: Box<dyn Source<Update>>,
    inbox: Inbox,
    inputs: Receiver<Input>,
}

impl Prepared {
    /// Does the work until told to stop.
    ///
    /// # Errors
    /// When it cannot be begun, or the source cannot go on.
    fn run(self) -> anyhow::Result<()> {
        let Self { mut policy_loop, source, inbox, inputs } = self;
        source::start("policy-source", source, inbox.clone()).context("cannot start following policies")?;
        event_loop::run(&mut policy_loop, inbox, &inputs)
    }
}

/// Policies are being enforced, on a thread of their own.
pub(crate) type Running = event_loop::Running<Update, Message>;

/// Begins to enforce. If that cannot go on, `failed` is told why.
///
/// # Errors
/// When it cannot be begun.
pub(crate) fn start(
    asked: Asked,
    failed: impl FnOnce(anyhow::Error) + Send + 'static,
) -> anyhow::Result<Running> {
    let prepared = asked.prepare()?;
    let inbox = prepared.inbox.clone();
    let work = move || prepared.run().context("NetworkPolicies cannot be followed");
    Running::start("policy", inbox, work, failed)
}

/// Nobody else may use the bits that tell what was allowed.
fn check_mark(mask: u32, options: &Options) -> Result<(), BadUsage> {
    let mut taken = vec![(1 << options.settings.masquerade_bit, "--iptables-masquerade-bit")];
    if options.mode == ModeName::Userspace {
        taken.extend([(BORROWED, "userspace mode"), (LED_BACK, "userspace mode")]);
    }
    match taken.iter().find(|(mark, _)| mask & mark != 0) {
        Some((mark, who)) => {
            Err(BadUsage(format!("--policy-mark-mask {mask:#x} has the bit {mark:#x}, which {who} takes")))
        }
        None => Ok(()),
    }
}
