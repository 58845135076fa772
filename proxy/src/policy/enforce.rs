//! The policy loop: objects in, kernel transactions out, at once; apart from the proxy's sync loop, and alike.
//!
//! One thread owns the compiler and the enforcer. What an earlier process left stays in force until all is known that the
//! source has; then everything is compared with the kernel, and from there on changes are programmed as they come. A
//! failed transaction is followed by a comparison with everything, with backoff.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint_cache::Problem;
use endpoint_cache::object::Kind;
use policy::{Compiler, Delta, Enforcer, Error, Program, Report, Settings, UnknownPods, Update};

use super::denials;
use super::input::{Inbox, Message};
use super::view::PolicyView;
use super::waiting::Waiting;
use crate::backoff::Backoff;
use crate::disturbances;
use crate::event_loop::{self, BETWEEN_REPAIRS, EventLoop, UNSEEN};
use crate::source::Event;
use crate::source::kubernetes::{About, News, Outlet};
use crate::telemetry::{Extent, Known, Telemetry};

/// How often the kernel is asked what it has counted.
const BETWEEN_COUNTS: Duration = Duration::from_secs(10);

/// How often all is compared where the kernel does not tell who changes what.
const BETWEEN_CHECKUPS: Duration = Duration::from_secs(30);

/// Takes objects in and enforces what policies ask of the node.
pub(super) struct PolicyLoop {
    compiler: Compiler,
    enforcer: Box<dyn Enforcer>,
    phase: Phase,
    /// Whether something was taken in since the last sync that succeeded.
    changed: bool,
    /// Why what is in the kernel is being read again, if it may have been damaged.
    damage: Option<String>,
    /// When the last repair of what others changed was due.
    repaired_at: Option<Instant>,
    backoff: Backoff,
    /// Number of the last successful sync.
    serial: u64,
    /// When the kernel is next asked what it has counted.
    count_at: Option<Instant>,
    /// When all is compared next, where the kernel tells nothing.
    check_at: Option<Instant>,
    telemetry: Arc<Telemetry>,
    notices: Option<Outlet>,
    /// Whether addresses of no known pod are to be denied.
    denies_unknown: bool,
    /// Whether it was seen to that pods are closed until all is known.
    is_closed: bool,
    /// Whether nothing is denied.
    audit: bool,
    after_first_sync: Option<Box<dyn FnOnce() + Send>>,
    /// New pods that wait for their policies.
    waiting: Waiting,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The source has not handed on everything yet: what is in force knows more than we do.
    Gated,
    /// The kernel is to be read and put right, not before this moment.
    Resync { due: Instant },
    /// The kernel holds what the last delta led to.
    InForce,
}

impl PolicyLoop {
    /// A loop that has programmed nothing yet.
    pub(super) fn new(compiler: Compiler, enforcer: Box<dyn Enforcer>, telemetry: Arc<Telemetry>) -> Self {
        Self {
            compiler,
            enforcer,
            phase: Phase::Gated,
            changed: false,
            damage: None,
            repaired_at: None,
            backoff: event_loop::backoff(),
            serial: 0,
            count_at: None,
            check_at: None,
            telemetry,
            notices: None,
            denies_unknown: false,
            is_closed: false,
            audit: false,
            after_first_sync: None,
            waiting: Waiting::default(),
        }
    }

    /// Has the users of policies told there what they should know; without, it is only logged.
    pub(super) fn with_notices(self, outlet: Option<Outlet>) -> Self {
        Self { notices: outlet, ..self }
    }

    /// What the enforcer was told: a log says it.
    pub(super) fn with_settings(self, settings: &Settings) -> Self {
        let denies_unknown = settings.unknown_pods == UnknownPods::Deny;
        Self { denies_unknown, audit: settings.audit, ..self }
    }

    /// Has something done once, when the first sync has succeeded.
    pub(super) fn with_work_after_first_sync(self, work: impl FnOnce() + Send + 'static) -> Self {
        Self { after_first_sync: Some(Box::new(work)), ..self }
    }

    /// All that is known, once it is all that the source has.
    fn view(&self) -> Result<PolicyView, String> {
        if matches!(self.phase, Phase::Gated) {
            return Err("not all objects are known yet: ask again in a while".to_owned());
        }
        Ok(PolicyView {
            node: None,
            audit: self.audit,
            denies_unknown: self.denies_unknown,
            snapshot: self.compiler.snapshot(),
        })
    }

    /// Hears of what others change, or looks now and then.
    pub(super) fn watch(&mut self, inbox: Inbox) {
        let heard = self.enforcer.watch().map_err(anyhow::Error::from);
        let watched = heard.and_then(|watch| match watch {
            Some(mut watch) => {
                let missed = "changes that others make to policies' rules are not noticed any longer";
                let next = move || watch.next_damage();
                let hand_on = move |what| inbox.tell(Message::Damaged(what));
                disturbances::listen("policy-damage", missed, next, hand_on).map(|()| true)
            }
            None => Ok(false),
        });
        let watched = watched.unwrap_or_else(|error| {
            tracing::error!("changes that others make are found only now and then: {error:#}");
            false
        });
        self.check_at = (!watched).then(|| Instant::now() + BETWEEN_CHECKUPS);
    }

    /// What is in the kernel must be read, and put right.
    pub(super) fn damaged(&mut self, what: String, now: Instant) {
        let soonest = self.repaired_at.map_or(now, |last| now.max(last + BETWEEN_REPAIRS));
        match self.phase {
            Phase::Gated => return,
            // A read of the kernel is due anyway, and not later than this would be.
            Phase::Resync { due } if due <= soonest => return,
            Phase::Resync { .. } | Phase::InForce => {}
        }
        tracing::warn!("{what}: repairing what of it is policies'");
        self.telemetry.health.policy_change_waits(now);
        self.repaired_at = Some(soonest);
        self.damage = Some(what);
        self.phase = Phase::Resync { due: soonest };
    }

    /// Compares everything, though nobody is known to have changed anything.
    fn look_again(&mut self, now: Instant) {
        if matches!(self.phase, Phase::InForce) {
            self.damage = Some(UNSEEN.to_owned());
            self.phase = Phase::Resync { due: now };
        }
    }

    /// A node that has just started has pods before it has policies. They are closed until all is known, from when it is
    /// known which addresses are theirs.
    fn close_until_known(&mut self) {
        let ranges = self.compiler.program().ranges.clone();
        if self.is_closed || !self.denies_unknown || self.audit || ranges.is_empty() {
            return;
        }
        self.is_closed = true;
        let closed = match self.enforcer.is_in_force() {
            Ok(true) => return,
            Ok(false) => self.enforcer.resync(&Program { ranges, ..Program::default() }).map(drop),
            Err(error) => Err(error),
        };
        match closed {
            Ok(()) => {
                tracing::info!("no policies were in force: this node's pods are closed until all is known");
            }
            Err(error) => tracing::warn!("this node's pods are open until all is known: {error}"),
        }
    }

    fn resync(&mut self, now: Instant) {
        let delta = self.take_delta();
        let started = Instant::now();
        match self.enforcer.resync(self.compiler.program()) {
            Ok(report) => self.succeeded(Extent::Full, &delta, report, now, started.elapsed()),
            Err(error) => self.failed(&error, now, started.elapsed()),
        }
    }

    fn apply(&mut self, now: Instant) {
        let delta = self.take_delta();
        if delta.is_empty() {
            self.log(0, Report::default(), Duration::ZERO);
            return self.in_force();
        }
        let started = Instant::now();
        match self.enforcer.apply(self.compiler.program(), &delta) {
            Ok(report) => self.succeeded(Extent::Partial, &delta, report, now, started.elapsed()),
            Err(error) => self.failed(&error, now, started.elapsed()),
        }
    }

    /// Ends what was to end by now.
    fn tidy(&mut self, now: Instant) {
        let started = Instant::now();
        match self.enforcer.tidy(now) {
            Ok(report) => tracing::debug!(operations = report.operations, "tidied policies"),
            Err(error) => self.failed(&error, now, started.elapsed()),
        }
    }

    /// What changed; what could not be used is told.
    fn take_delta(&mut self) -> Delta {
        let delta = self.compiler.take_delta();
        for problem in &delta.problems {
            self.tell(problem);
        }
        delta
    }

    /// Tells the users of a policy what of it makes no sense: by an event if it has changed since the first sync, since
    /// otherwise every node would at every start.
    fn tell(&self, problem: &Problem) {
        let Problem { object, field, reason } = problem;
        tracing::warn!("{object} {field}: {reason}");
        self.telemetry.policies.had_a_problem();
        if let Some(outlet) = &self.notices
            && object.kind == Kind::NetworkPolicy
            && self.serial > 0
        {
            outlet.post(News::policy_warning(object.name.clone(), format!("{field}: {reason}")));
        }
    }

    /// Another policy of this name is told anew.
    fn forget(&self, update: &Update) {
        if let Some(outlet) = &self.notices
            && let Update::Deleted(object) = update
            && object.kind == Kind::NetworkPolicy
        {
            outlet.forget(About::NetworkPolicy(object.name.clone()));
        }
    }

    /// The enforcer did what it was told.
    fn succeeded(&mut self, extent: Extent, delta: &Delta, report: Report, now: Instant, duration: Duration) {
        self.serial += 1;
        self.telemetry.policies.synced(extent, duration);
        let changes = delta.policies.len() + delta.sets.len() + delta.subjects.len() + delta.pods.len();
        // A look that found all well is nobody's news.
        if self.changed || report.operations > 0 || self.serial == 1 || self.backoff.failures() > 0 {
            self.log(changes, report, duration);
        }
        if let Some(damage) = self.damage.take()
            && report.operations > 0
            && (changes == 0 || damage != UNSEEN)
        {
            self.telemetry.policies.drift.repaired(damage, report.operations);
        }
        if self.serial == 1 {
            self.warn_of_ranges();
            self.count_at = Some(now);
        }
        self.in_force();
    }

    /// Everything is as it should be.
    fn in_force(&mut self) {
        self.changed = false;
        self.phase = Phase::InForce;
        self.backoff.reset();
        self.telemetry.health.policies_synced();
        self.telemetry.policies.knows(Known::of(&self.compiler));
        self.waiting.let_in();
    }

    fn failed(&mut self, error: &Error, now: Instant, duration: Duration) {
        let wait = self.backoff.next_wait();
        self.telemetry.policies.failed();
        self.telemetry.health.policy_sync_failed(&error.to_string(), now);
        self.phase = Phase::Resync { due: now + duration + wait };
        tracing::error!(
            failures = self.backoff.failures(),
            retry_in = ?wait,
            "cannot program policies, what was in force stays: {error}"
        );
    }

    /// One line for each sync; only a detail if there was nothing to do, unless somebody waits to hear of it.
    fn log(&self, changes: usize, report: Report, duration: Duration) {
        let awaited = self.serial == 1 || self.backoff.failures() > 0;
        let Report { operations, judged_anew } = report;
        let duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
        let what = if self.changed || self.serial == 1 { "policies enforced" } else { "policies put right" };
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    changes,
                    operations,
                    judged_anew,
                    duration_ms,
                    serial = self.serial,
                    "{what}"
                )
            };
        }
        match awaited || changes > 0 || operations > 0 {
            true => log!(info),
            false => log!(debug),
        }
    }

    fn warn_of_ranges(&self) {
        if self.denies_unknown && self.compiler.program().ranges.is_empty() {
            tracing::warn!(
                "the Node says no podCIDRs: until a new pod's address is known, policies do not bear on it"
            );
        }
    }

    fn count(&mut self, now: Instant) {
        self.count_at = Some(now + BETWEEN_COUNTS);
        match self.enforcer.counts() {
            Ok(counts) => self.telemetry.policies.counted(counts),
            Err(error) => tracing::debug!("cannot read what policies have counted: {error}"),
        }
    }
}

impl EventLoop for PolicyLoop {
    type Update = Update;
    type Message = Message;

    fn turn(&mut self, now: Instant) -> Option<Duration> {
        if matches!(self.phase, Phase::InForce) && self.check_at.is_some_and(|due| due <= now) {
            self.check_at = Some(now + BETWEEN_CHECKUPS);
            self.look_again(now);
        }
        if !matches!(self.phase, Phase::Gated) && self.waiting.claim(&mut self.compiler, now) {
            self.changed = true;
            self.telemetry.health.policy_change_waits(now);
        }
        match self.phase {
            Phase::Gated => {
                self.close_until_known();
                return None;
            }
            Phase::Resync { due } if now < due => return Some(due - now),
            Phase::Resync { .. } => self.resync(now),
            Phase::InForce if self.changed => self.apply(now),
            Phase::InForce if self.enforcer.due().is_some_and(|due| due <= now) => self.tidy(now),
            Phase::InForce if self.count_at.is_some_and(|due| due <= now) => self.count(now),
            Phase::InForce => {}
        }
        let due = match self.phase {
            Phase::Gated => None,
            Phase::Resync { due } => Some(due),
            Phase::InForce => [self.enforcer.due(), self.count_at, self.check_at].into_iter().flatten().min(),
        };
        due.map(|due| due.saturating_duration_since(now))
    }

    fn take(&mut self, event: Event<Update>, now: Instant) {
        match event {
            Event::Updates(updates) => {
                self.changed = true;
                if !matches!(self.phase, Phase::Gated) {
                    self.telemetry.health.policy_change_waits(now);
                }
                for update in updates {
                    self.forget(&update);
                    self.compiler.apply(update);
                }
            }
            Event::Synced => {
                if matches!(self.phase, Phase::Gated) {
                    self.telemetry.health.policy_change_waits(now);
                    self.phase = Phase::Resync { due: now };
                }
            }
        }
    }

    fn hear(&mut self, message: Message, now: Instant) -> ControlFlow<()> {
        match message {
            Message::Damaged(what) => self.damaged(what, now),
            Message::Denied(denial) => denials::tell(&denial, &self.compiler, self.audit),
            // Whoever asked may have gone.
            Message::Ask(answer) => drop(answer.send(self.view())),
            Message::Claimed(claim) => self.waiting.add(claim),
        }
        ControlFlow::Continue(())
    }

    fn has_synced(&self) -> bool {
        self.serial > 0
    }

    fn after_first_sync(&mut self, inbox: Inbox) {
        self.watch(inbox);
        // What others did before anybody listened was not heard.
        self.look_again(Instant::now());
        if let Some(work) = self.after_first_sync.take() {
            work();
        }
    }
}
