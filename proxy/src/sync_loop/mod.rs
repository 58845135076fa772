//! The sync loop: objects in, kernel transactions out, at once.
//!
//! One thread owns the cache and the mode. It programs as soon as there is something to program; what arrives while a
//! transaction is in flight waits in the channel and makes the next one. A failed transaction is followed by a resync
//! from a fresh read of the kernel, with backoff. `SyncLoop::take` and `SyncLoop::turn` are the whole of it, and
//! tests drive them with a clock of their own; `event_loop::run` only waits.

mod accounts;
mod compare;
mod input;
mod isolate;
mod node_wait;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use endpoint_cache::{Cache, Delta, Desired, Update};
use modes::{Disturbance, Error, Mode, Report};

use crate::backoff::Backoff;
use crate::disturbances;
use crate::event_loop::{self, BETWEEN_REPAIRS, EventLoop, UNSEEN};
use crate::service_health::ServiceHealth;
use crate::source::Event;
use crate::source::kubernetes::Outlet;
use crate::telemetry::{Extent, Telemetry};
use accounts::Accounts;
pub(crate) use input::{Inbox, Input, Message, Reconfiguration};
use isolate::Key;
pub(crate) use node_wait::{NodeWait, Waiting};
use tell::Untold;

/// How long nothing must happen before the mode removes what earlier transactions left without use.
const IDLE: Duration = Duration::from_secs(1);

/// How long after tidying it is done again, if that could not do all.
const BETWEEN_TIDYING: Duration = Duration::from_secs(5);

/// Takes objects in and programs the node.
pub(crate) struct SyncLoop {
    cache: Cache,
    mode: Box<dyn Mode>,
    phase: Phase,
    /// Batches of updates taken in since the last successful sync.
    batches: usize,
    /// When to tidy, if there was a sync since the last time.
    tidy_at: Option<Instant>,
    /// Why what is in the kernel is being read again, if it may have been damaged.
    damage: Option<String>,
    /// When the last repair of what others changed was due.
    repaired_at: Option<Instant>,
    /// How long after a sync has ended changes are programmed at the soonest.
    min_sync_period: Duration,
    /// When the last sync that succeeded ended.
    synced_at: Option<Instant>,
    backoff: Backoff,
    accounts: Accounts,
    /// Service ports that changed since the last successful sync.
    unproven: HashSet<Key>,
    /// Service ports that the kernel refuses, and that are not programmed until they change.
    left_out: HashSet<Key>,
    /// How many service ports there are to be.
    service_ports: usize,
    /// Number of the last successful sync.
    serial: u64,
    telemetry: Arc<Telemetry>,
    after_first_sync: Option<Box<dyn FnOnce()>>,
    notices: Option<Outlet>,
    service_health: Option<ServiceHealth>,
    /// What has changed for it since the last successful sync.
    untold: Untold,
    /// What the first sync waits for besides the source.
    node_wait: Option<NodeWait>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The source has not handed on everything yet: programming now would take working services down.
    Gated,
    /// It has, but what rules depend on of the Node is not known.
    AwaitingNode(Waiting),
    /// The kernel is to be read and put right, not before this moment.
    Resync { due: Instant },
    /// The kernel holds what the last delta led to.
    InForce,
}

impl SyncLoop {
    /// A loop that has programmed nothing yet.
    pub(crate) fn new(cache: Cache, mode: Box<dyn Mode>, telemetry: Arc<Telemetry>) -> Self {
        telemetry.metrics.serves(mode.name(), mode.families());
        Self {
            cache,
            mode,
            phase: Phase::Gated,
            batches: 0,
            tidy_at: None,
            damage: None,
            repaired_at: None,
            min_sync_period: Duration::ZERO,
            synced_at: None,
            backoff: event_loop::backoff(),
            accounts: Accounts::new(Arc::clone(&telemetry)),
            unproven: HashSet::new(),
            left_out: HashSet::new(),
            service_ports: 0,
            serial: 0,
            telemetry,
            after_first_sync: None,
            notices: None,
            service_health: None,
            untold: Untold::default(),
            node_wait: None,
        }
    }

    /// Has something done once, when the first sync has succeeded.
    pub(crate) fn with_work_after_first_sync(self, work: impl FnOnce() + 'static) -> Self {
        Self { after_first_sync: Some(Box::new(work)), ..self }
    }

    /// Has the users of Services told there what they should know; without, it is only logged.
    pub(crate) fn with_notices(self, outlet: Option<Outlet>) -> Self {
        Self { notices: outlet, ..self }
    }

    /// Has changes wait until so long after the last sync, so that more of them come together (`minSyncPeriod`); without,
    /// they are programmed at once. The first sync and repairs never wait for that.
    pub(crate) fn with_min_sync_period(self, period: Duration) -> Self {
        Self { min_sync_period: period, ..self }
    }

    /// Has load balancers answered that ask about Services.
    pub(crate) fn with_service_health(self, service_health: Option<ServiceHealth>) -> Self {
        Self { service_health, ..self }
    }

    /// Has the first sync wait for the Node.
    pub(crate) fn awaiting_node(self, node_wait: Option<NodeWait>) -> Self {
        Self { node_wait, ..self }
    }

    /// Runs until told to stop. What is programmed stays.
    ///
    /// # Errors
    /// When the source cannot go on.
    pub(crate) fn run(mut self, inbox: Inbox, inputs: &Receiver<Input>) -> anyhow::Result<()> {
        let outcome = event_loop::run(&mut self, inbox, inputs);
        self.hand_over();
        outcome
    }

    /// Leaves the node to itself, if anything was programmed: whatever is still to be put right, what leads to this
    /// process would lead nowhere.
    fn hand_over(&mut self) {
        if !matches!(self.phase, Phase::Gated | Phase::AwaitingNode(_))
            && let Err(error) = self.mode.hand_over(&self.desired())
        {
            tracing::warn!("the node may not serve everything without this process: {error}");
        }
    }

    /// Has the mode follow; false when it cannot.
    fn reconfigure(&mut self, wanted: &Reconfiguration, now: Instant) -> bool {
        self.min_sync_period = wanted.min_sync_period;
        let Some(settings) = &wanted.settings else { return true };
        let can = self.mode.reconfigure(settings);
        if can && let Some(service_health) = &self.service_health {
            service_health.reconfigure(settings.clone());
        }
        if can && !matches!(self.phase, Phase::Gated | Phase::AwaitingNode(_)) {
            self.change_waits(now);
            self.phase = Phase::Resync { due: now };
        }
        can
    }

    /// There is something to be programmed.
    fn change_waits(&self, now: Instant) {
        self.telemetry.health.change_waits(now);
        self.telemetry.metrics.queued();
    }

    /// What is in the kernel must be read, and put right.
    fn disturbed(&mut self, why: &Disturbance, now: Instant) {
        let soonest = match why {
            Disturbance::Damage(_) => self.repaired_at.map_or(now, |last| now.max(last + BETWEEN_REPAIRS)),
            Disturbance::Node(_) | Disturbance::Checkup => now,
        };
        match self.phase {
            Phase::Gated | Phase::AwaitingNode(_) => return,
            // A read of the kernel is due anyway, and not later than this would be.
            Phase::Resync { due } if due <= soonest => return,
            // A failed sync is tried again when it is due, not sooner for nothing.
            Phase::Resync { .. } if *why == Disturbance::Checkup => return,
            // Otherwise it was refused something; that may be over now.
            Phase::Resync { .. } | Phase::InForce => {}
        }
        match why {
            Disturbance::Damage(what) => {
                tracing::warn!("{what}: repairing what of it is ours");
                self.telemetry.metrics.repaired();
                self.change_waits(now);
                self.repaired_at = Some(soonest);
                self.damage = Some(what.clone());
            }
            Disturbance::Node(what) => {
                tracing::info!("{what}: following");
                self.change_waits(now);
            }
            Disturbance::Checkup => {
                tracing::debug!("comparing with what is in the kernel");
                self.damage.get_or_insert_with(|| UNSEEN.to_owned());
            }
        }
        self.phase = Phase::Resync { due: soonest };
    }

    /// When changes may be programmed, if not at once.
    fn soonest(&self) -> Option<Instant> {
        self.synced_at.filter(|_| !self.min_sync_period.is_zero()).map(|last| last + self.min_sync_period)
    }

    /// Lets the first sync come, or says for how long not.
    fn await_node(&mut self, mut waiting: Waiting, now: Instant) -> Option<Duration> {
        let (eligibility, node) = (self.cache.eligibility(), self.cache.node());
        if let Some(node_wait) = &self.node_wait
            && let Some(until) = node_wait.until(eligibility, node, &mut waiting, now)
        {
            self.phase = Phase::AwaitingNode(waiting);
            return Some(until - now);
        }
        self.change_waits(now);
        self.phase = Phase::Resync { due: now };
        None
    }

    fn resync(&mut self, now: Instant) {
        let delta = self.take_delta();
        let started = Instant::now();
        let mut result = self.mode.resync(&self.desired());
        // Once may be a clash with somebody else's change.
        if self.backoff.failures() > 0
            && result.as_ref().is_err_and(Error::blames_the_request)
            && self.leave_out_refused()
        {
            result = self.mode.resync(&self.desired());
        }
        match result {
            Ok(report) => self.succeeded(Extent::Full, delta.changes.len(), &report, now, started.elapsed()),
            Err(error) => self.sync_failed(Extent::Full, &error, now, started.elapsed()),
        }
    }

    fn apply(&mut self, now: Instant) {
        let delta = self.take_delta();
        let started = Instant::now();
        if delta.is_empty() {
            return self.in_force(0, &Report::default(), now, Duration::ZERO);
        }
        // Every rule may depend on the node and the service ranges; they hardly ever change.
        let extent = if delta.changes_node() { Extent::Full } else { Extent::Partial };
        let result = match extent {
            Extent::Full => self.mode.resync(&self.desired()),
            Extent::Partial => self.mode.apply(&delta),
        };
        match result {
            Ok(report) => self.succeeded(extent, delta.changes.len(), &report, now, started.elapsed()),
            Err(error) => self.sync_failed(extent, &error, now, started.elapsed()),
        }
    }

    /// What should be in the kernel.
    fn desired(&self) -> Desired {
        let mut desired = self.cache.desired();
        if !self.left_out.is_empty() {
            desired.service_ports.retain(|service| !self.left_out.contains(&isolate::key(service)));
        }
        desired
    }

    /// Looks for the service ports that the kernel refuses, and leaves them out; false when that explains nothing.
    fn leave_out_refused(&mut self) -> bool {
        let desired = self.desired();
        // Of the first sync, nothing has been proven to work.
        let all = || desired.service_ports.iter().map(|service| isolate::key(service)).collect();
        let suspects = if self.serial == 0 { all() } else { self.unproven.clone() };
        tracing::warn!(suspects = suspects.len(), "looking for what the kernel refuses");
        let refused = isolate::refused(self.mode.as_mut(), &desired, &suspects);
        for (name, family) in &refused {
            tracing::error!("the kernel refuses service port {name} ({family}): left out until it changes");
            self.tell_refused(name, *family);
        }
        let found = !refused.is_empty();
        self.left_out.extend(refused);
        found
    }

    fn tidy(&mut self, now: Instant) {
        self.tidy_at = None;
        match self.mode.tidy() {
            Ok(report) => {
                tracing::debug!(operations = report.operations, bytes = report.bytes, "tidied");
                self.tidy_at = report.unfinished.then(|| now + BETWEEN_TIDYING);
            }
            Err(error) => {
                self.telemetry.metrics.tidying_failed();
                self.failed(&error, now);
            }
        }
    }

    /// What changed; what could not be used is logged.
    fn take_delta(&mut self) -> Delta {
        let mut delta = self.cache.take_delta();
        self.accounts.program(&delta);
        for problem in &delta.problems {
            tracing::warn!("{} {}: {}", problem.object, problem.field, problem.reason);
            self.tell_of(problem);
        }
        self.untold.take(&mut delta);
        for change in &mut delta.changes {
            self.service_ports += usize::from(change.before.is_none());
            self.service_ports -= usize::from(change.after.is_none());
            let Some(key) = change.after.as_deref().or(change.before.as_deref()).map(isolate::key) else {
                continue;
            };
            if change.after.is_none() {
                self.forget(&key.0);
            }
            // What was left out is tried again now that it is another; in the kernel there is nothing of it.
            if self.left_out.remove(&key) {
                change.before = None;
            }
            self.unproven.insert(key);
        }
        delta.changes.retain(|change| change.before.is_some() || change.after.is_some());
        delta
    }

    /// The mode did what it was told.
    fn succeeded(
        &mut self,
        extent: Extent,
        changes: usize,
        report: &Report,
        now: Instant,
        duration: Duration,
    ) {
        self.telemetry.metrics.synced(extent, report, duration);
        self.telemetry.inventory.synced(report);
        self.note_repair(changes, report);
        self.telemetry.syncs.succeeded(extent, changes, report, duration);
        self.synced_at = Some(now + duration);
        self.in_force(changes, report, now, duration);
    }

    /// Everything is as it should be.
    fn in_force(&mut self, changes: usize, report: &Report, now: Instant, duration: Duration) {
        self.telemetry.metrics.in_force();
        self.telemetry.health.synced();
        self.telemetry.set_service_ports(self.service_ports);
        self.accounts.close();
        self.serial += 1;
        self.log(changes, report, duration);
        report.notices.iter().for_each(|notice| self.tell(notice));
        self.tell_service_health();
        self.batches = 0;
        self.unproven.clear();
        self.telemetry.metrics.set_left_out(self.left_out.len());
        self.phase = Phase::InForce;
        self.backoff.reset();
        self.tidy_at = Some(now + duration + IDLE);
    }

    /// The mode could not do what it was told.
    fn sync_failed(&mut self, extent: Extent, error: &Error, now: Instant, duration: Duration) {
        let of_iptables = self.mode.name() == "iptables" || error.is_of_iptables();
        self.telemetry.metrics.sync_failed(extent, of_iptables, duration);
        self.telemetry.syncs.failed(extent, error, duration);
        self.failed(error, now + duration);
    }

    fn failed(&mut self, error: &Error, now: Instant) {
        let wait = self.backoff.next_wait();
        self.telemetry.health.sync_failed(&error.to_string(), now);
        self.phase = Phase::Resync { due: now + wait };
        tracing::error!(failures = self.backoff.failures(), retry_in = ?wait, "cannot program the node: {error}");
    }
}

impl EventLoop for SyncLoop {
    type Update = Update;
    type Message = Message;

    fn turn(&mut self, now: Instant) -> Option<Duration> {
        if let Phase::AwaitingNode(waiting) = self.phase
            && let Some(wait) = self.await_node(waiting, now)
        {
            return Some(wait);
        }
        match self.phase {
            Phase::Gated | Phase::AwaitingNode(_) => return None,
            Phase::Resync { due } if now < due => return Some(due - now),
            Phase::Resync { .. } => self.resync(now),
            Phase::InForce if self.batches > 0 => match self.soonest().filter(|soonest| now < *soonest) {
                Some(soonest) => return Some(soonest - now),
                None => self.apply(now),
            },
            Phase::InForce if self.tidy_at.is_some_and(|due| due <= now) => self.tidy(now),
            Phase::InForce => {}
        }
        let due = match self.phase {
            Phase::Gated | Phase::AwaitingNode(_) => None,
            Phase::Resync { due } => Some(due),
            Phase::InForce => self.tidy_at,
        };
        due.map(|due| due.saturating_duration_since(now))
    }

    fn take(&mut self, event: Event<Update>, now: Instant) {
        match event {
            Event::Updates(updates) => {
                self.batches += 1;
                if !matches!(self.phase, Phase::Gated | Phase::AwaitingNode(_)) {
                    self.change_waits(now);
                }
                for update in updates {
                    self.cache.apply(update);
                }
                self.accounts.take(self.cache.tally());
                self.telemetry.inventory.counted(self.cache.census());
                self.telemetry.health.node_is(self.cache.eligibility());
            }
            Event::Synced => {
                if matches!(self.phase, Phase::Gated) {
                    self.phase = Phase::AwaitingNode(Waiting::since(now));
                }
            }
        }
    }

    fn hear(&mut self, message: Message, now: Instant) -> ControlFlow<()> {
        match message {
            Message::Ask(answer) => self.answer(answer),
            Message::Compare(answer) => self.compare(answer),
            Message::Disturbed(why) => self.disturbed(&why, now),
            Message::Reconfigured(wanted) => {
                if !self.reconfigure(&wanted, now) {
                    tracing::info!("following the configuration takes another process: ending for it");
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn has_synced(&self) -> bool {
        self.serial > 0
    }

    fn after_first_sync(&mut self, inbox: Inbox) {
        if let Some(work) = self.after_first_sync.take() {
            work();
        }
        if let Err(error) = disturbances::watch(self.mode.as_mut(), inbox) {
            tracing::error!("changes that others make will not be noticed: {error:#}");
        }
    }
}
