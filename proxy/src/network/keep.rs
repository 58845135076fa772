//! The network loop: Nodes in, routes and what goes with them out, at once; alike the loop of policies.
//!
//! One thread owns the model and the kernel's side of it. What an earlier process left stays in force until all Nodes are
//! known; then everything is compared with the kernel, and from there on changes are programmed as they come. A failure is
//! followed by a comparison with everything, with backoff.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cni::network::{Bgp, Delta, Desired, Error, News, Nodes, Published, Report, Update, Way, bird};
use endpoint_cache::object::Node;
use ipnet::IpNet;

use super::bird::Bird;
use super::input::{Inbox, Message};
use super::kernel::Kernel;
use super::offer::Offer;
use crate::backoff::Backoff;
use crate::disturbances;
use crate::event_loop::{self, BETWEEN_REPAIRS, EventLoop, UNSEEN};
use crate::source::Event;
use crate::source::kubernetes::Annotator;
use crate::telemetry::{Extent, NetworkKnown, Telemetry};

/// How long after a look for the devices that lead to other nodes the next one may follow.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// How often they are looked for while there are none.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(2);
/// How often it is seen to that the files say what they should, and that what the kernel refused is tried again.
const BETWEEN_CHECKUPS: Duration = Duration::from_secs(10);

/// Takes Nodes in and joins this one to the others.
pub(super) struct NetworkLoop {
    own: Own,
    nodes: Nodes,
    kernel: Box<dyn Kernel>,
    offer: Offer,
    /// Where other nodes are told of this one; nowhere with manifests.
    annotator: Option<Annotator>,
    bird: Option<Bird>,
    /// What BIRD was told last.
    told_bird: Option<Bgp>,
    learned: Learned,
    phase: Phase,
    /// Whether something was taken in since the last sync that succeeded.
    changed: bool,
    /// Why what is in the kernel is being read again, if it may have been damaged.
    damage: Option<String>,
    /// When the last repair of what others changed was due.
    repaired_at: Option<Instant>,
    /// When the devices that lead to other nodes are looked for next, if that is due.
    look_at: Option<Instant>,
    looked_at: Option<Instant>,
    /// Why there are none.
    no_uplink: Option<String>,
    /// Why the network is not ready, as it was last told.
    why_not: Option<String>,
    /// What the kernel refused last.
    refused: Vec<(IpNet, String)>,
    /// Ranges of other nodes' pods that are reached by a tunnel, and without.
    tunnelled: usize,
    direct: usize,
    check_at: Option<Instant>,
    backoff: Backoff,
    /// Number of the last successful sync.
    serial: u64,
    telemetry: Arc<Telemetry>,
}

/// What there is to know of this process's node and network.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The Node's name.
    pub(super) name: String,
    /// How pods are joined to it.
    pub(super) data_path: &'static str,
    /// How nodes are joined.
    pub(super) backend: &'static str,
    /// The ranges of all pods.
    pub(super) cluster_cidrs: Vec<IpNet>,
    /// What the Node's annotations say; nothing before it is known.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// Whether they, or what they should say, changed since they were last compared.
    pub(super) is_new: bool,
    /// Its addresses, when the devices were last looked for.
    pub(super) addresses: Vec<IpAddr>,
}

/// How it stands with what BIRD learns.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    /// Whether it is to be read.
    is_due: bool,
    /// Whether BIRD has learned all there is.
    settled: bool,
    /// Whether it ever had: from then on routes stay while it starts again.
    ever: bool,
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

impl NetworkLoop {
    /// A loop that has programmed nothing yet.
    pub(super) fn new(
        own: Own,
        nodes: Nodes,
        kernel: Box<dyn Kernel>,
        offer: Offer,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            own,
            nodes,
            kernel,
            offer,
            annotator: None,
            bird: None,
            told_bird: None,
            learned: Learned::default(),
            phase: Phase::Gated,
            changed: false,
            damage: None,
            repaired_at: None,
            look_at: None,
            looked_at: None,
            no_uplink: None,
            why_not: None,
            refused: Vec::new(),
            tunnelled: 0,
            direct: 0,
            check_at: None,
            backoff: event_loop::backoff(),
            serial: 0,
            telemetry,
        }
    }

    /// Has other nodes told of this one there.
    pub(super) fn with_annotator(self, annotator: Option<Annotator>) -> Self {
        Self { annotator, ..self }
    }

    /// Has this BIRD publish and learn routes.
    pub(super) fn with_bird(self, bird: Option<Bird>) -> Self {
        Self { bird, ..self }
    }

    /// Ends what has to end with it. What is in force stays.
    pub(super) fn end(self) {
        if let Some(bird) = self.bird {
            bird.stop();
        }
    }

    /// Hears of what others change.
    pub(super) fn watch(&mut self, inbox: &Inbox) {
        let missed = "changes that others make to the pod network are not noticed any longer";
        let heard = self.kernel.watch().map_err(anyhow::Error::from).and_then(|watches| {
            watches.into_iter().try_for_each(|next| {
                let inbox = inbox.clone();
                let hand_on = move |news| inbox.tell(Message::News(news));
                disturbances::listen("network-news", missed, next, hand_on)
            })
        });
        if let Err(error) = heard {
            tracing::error!("{missed}: {error:#}");
        }
    }

    fn change_waits(&mut self, now: Instant) {
        self.changed = true;
        if !matches!(self.phase, Phase::Gated) {
            self.telemetry.health.network_change_waits(now);
        }
    }

    /// What the own Node's annotations say by now.
    fn take_own(&mut self, node: &Node) {
        if node.metadata.name.to_lowercase() == self.own.name {
            self.own.annotations = Some(node.metadata.annotations.clone());
            self.own.is_new = true;
        }
    }

    fn tell_nodes(&mut self, update: Update) {
        for problem in self.nodes.apply(update) {
            tracing::warn!("{} {}: {}", problem.object, problem.field, problem.reason);
        }
    }

    /// Hears of what others changed.
    fn take_news(&mut self, news: News, now: Instant) {
        match news {
            News::Damage(what) => self.damaged(what, now),
            News::Uplink => {
                let soonest = self.looked_at.map_or(now, |last| now.max(last + BETWEEN_LOOKS));
                self.look_at = Some(self.look_at.map_or(soonest, |due| due.min(soonest)));
            }
            News::Learned => self.learned.is_due = true,
        }
    }

    /// BIRD has learned all there is, or begins to.
    fn bird_settled(&mut self, settled: bool) {
        self.learned =
            Learned { is_due: settled || self.learned.is_due, settled, ever: self.learned.ever || settled };
    }

    /// What is in the kernel must be read, and put right.
    fn damaged(&mut self, what: String, now: Instant) {
        let soonest = self.repaired_at.map_or(now, |last| now.max(last + BETWEEN_REPAIRS));
        match self.phase {
            Phase::Gated => return,
            // A read of the kernel is due anyway, and not later than this would be.
            Phase::Resync { due } if due <= soonest => return,
            Phase::Resync { .. } | Phase::InForce => {}
        }
        tracing::warn!("{what}: repairing what of it is the pod network's");
        self.telemetry.health.network_change_waits(now);
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

    fn look_for_uplinks(&mut self, now: Instant) {
        (self.look_at, self.looked_at) = (None, Some(now));
        self.own.addresses = self.nodes.own_addresses();
        match self.kernel.uplinks(&self.own.addresses) {
            Ok(uplinks) => {
                if uplinks != self.nodes.desired().uplinks {
                    let names: Vec<_> = uplinks.values().map(|uplink| &*uplink.name).collect();
                    tracing::info!(devices = names.join(","), "these devices lead to the other nodes");
                    self.tell_nodes(Update::Uplinks(uplinks));
                    self.change_waits(now);
                }
                self.no_uplink = None;
            }
            // A device that is away for a moment takes its routes with it; what is known of it stays until it is back.
            Err(error) => {
                let why = error.to_string();
                if self.no_uplink.as_ref() != Some(&why) {
                    tracing::error!("{why}");
                }
                self.no_uplink = Some(why);
                self.look_at = Some(now + BETWEEN_SEARCHES);
                self.know();
            }
        }
    }

    /// Takes in what BIRD has learned. While it starts again, what it knew before counts.
    fn learn(&mut self, now: Instant) {
        let Learned { settled, ever, .. } = self.learned;
        if self.bird.is_none() || (ever && !settled) {
            return;
        }
        match self.kernel.learned() {
            Ok(routes) => {
                self.tell_nodes(Update::Learned { routes, settled });
                self.change_waits(now);
            }
            Err(error) => self.failed(&error.to_string(), now, Duration::ZERO),
        }
    }

    fn check(&mut self, now: Instant) {
        self.check_at = Some(now + BETWEEN_CHECKUPS);
        if !self.refused.is_empty() {
            self.phase = Phase::Resync { due: now };
        } else if let Err(error) = self.publish() {
            self.failed(&format!("{error:#}"), now, Duration::ZERO);
        }
        self.talk_to_bird();
    }

    /// What changed.
    fn take_delta(&mut self) -> Delta {
        let delta = self.nodes.take_delta();
        self.own.is_new |= delta.announcement;
        for change in &delta.ways {
            for (way, there) in [(change.before, false), (change.after, true)] {
                let counter = match way {
                    Some(Way::Tunnel { .. }) => &mut self.tunnelled,
                    Some(Way::Gateway { .. }) => &mut self.direct,
                    None => continue,
                };
                *counter = if there { *counter + 1 } else { counter.saturating_sub(1) };
            }
        }
        delta
    }

    fn resync(&mut self, now: Instant) {
        let delta = self.take_delta();
        let started = Instant::now();
        let done = self.kernel.resync(self.nodes.desired());
        self.done(Extent::Full, &delta, done, now, started.elapsed());
    }

    fn apply(&mut self, now: Instant) {
        let delta = self.take_delta();
        if delta.is_empty() {
            // A Node came again as it was, as each does every few minutes.
            self.announce();
            return self.in_force(now);
        }
        let started = Instant::now();
        let done = match delta.concerns_kernel() {
            true => self.kernel.apply(&delta, self.nodes.desired()),
            false => Ok(Report { refused: self.refused.clone(), ..Report::default() }),
        };
        self.done(Extent::Partial, &delta, done, now, started.elapsed());
    }

    fn done(
        &mut self,
        extent: Extent,
        delta: &Delta,
        done: Result<Report, Error>,
        now: Instant,
        duration: Duration,
    ) {
        match done {
            Ok(report) => self.succeeded(extent, delta, report, now, duration),
            Err(error) => self.failed(&error.to_string(), now, duration),
        }
    }

    /// The kernel is as it should be, but for what it refused.
    fn succeeded(&mut self, extent: Extent, delta: &Delta, report: Report, now: Instant, duration: Duration) {
        self.serial += 1;
        let changes = delta.ways.len();
        if report.operations > 0 || !delta.is_empty() || self.serial == 1 || self.backoff.failures() > 0 {
            self.telemetry.network.synced(extent, duration);
            self.log(changes, report.operations, duration);
        }
        if let Some(damage) = self.damage.take()
            && report.operations > 0
            && (delta.is_empty() || damage != UNSEEN)
        {
            self.telemetry.network.drift.repaired(damage, report.operations);
        }
        for (destination, why) in &report.refused {
            if !self.refused.iter().any(|(other, told)| (other, told) == (destination, why)) {
                tracing::error!("the kernel refuses what leads to {destination}: {why}");
            }
        }
        self.refused = report.refused;
        self.phase = Phase::InForce;
        if (extent == Extent::Full || delta.own || delta.devices)
            && let Err(error) = self.publish()
        {
            return self.failed(&format!("{error:#}"), now, duration);
        }
        self.announce();
        self.in_force(now);
        self.talk_to_bird();
    }

    /// Everything is as it should be.
    fn in_force(&mut self, now: Instant) {
        self.changed = false;
        self.check_at.get_or_insert(now + BETWEEN_CHECKUPS);
        self.backoff.reset();
        self.telemetry.health.network_synced();
        self.know();
    }

    fn failed(&mut self, error: &str, now: Instant, duration: Duration) {
        let wait = self.backoff.next_wait();
        self.telemetry.network.failed();
        self.telemetry.health.network_sync_failed(error, now);
        self.phase = Phase::Resync { due: now + duration + wait };
        self.know();
        tracing::error!(
            failures = self.backoff.failures(),
            retry_in = ?wait,
            "cannot program the pod network, what was in force stays: {error}"
        );
    }

    fn log(&self, changes: usize, operations: usize, duration: Duration) {
        let duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
        let what = match self.changed || self.serial == 1 {
            true => "pod network programmed",
            false => "pod network put right",
        };
        tracing::info!(changes, operations, duration_ms, serial = self.serial, "{what}");
    }

    /// Tells the CNI plugin and container runtimes how it stands.
    fn publish(&self) -> anyhow::Result<()> {
        self.offer.make(self.published().as_ref())
    }

    /// What pods can be given; nothing while the network is not ready.
    fn published(&self) -> Option<Published> {
        let desired = self.nodes.desired();
        let mtu = desired.mtu().filter(|_| desired.is_ready())?;
        Some(Published {
            pod_cidrs: desired.own.values().copied().collect(),
            cluster_cidrs: self.own.cluster_cidrs.clone(),
            mtu,
            data_path: self.own.data_path.to_owned(),
            backend: self.own.backend.to_owned(),
        })
    }

    /// Tells other nodes of this one, unless its annotations say it already.
    fn announce(&mut self) {
        if !std::mem::take(&mut self.own.is_new) {
            return;
        }
        let (Some(annotator), Some(announcement)) = (&self.annotator, &self.nodes.desired().announcement)
        else {
            return;
        };
        // Before the Node is known there is nothing to write to.
        let Some(said) = &self.own.annotations else { return };
        let wanted = announcement.annotations();
        if wanted.iter().any(|(name, value)| said.get(name) != value.as_ref()) {
            annotator.put(wanted);
        }
    }

    /// Tells BIRD what is new to it.
    fn talk_to_bird(&mut self) {
        let (Some(bird), Some(bgp)) = (&self.bird, &self.nodes.desired().bgp) else { return };
        if self.told_bird.as_ref() != Some(bgp) && bird.configure(bird::configuration(bgp)) {
            self.told_bird = Some(bgp.clone());
        }
    }

    /// What is told of the network.
    fn know(&mut self) {
        let desired = self.nodes.desired();
        let uplink = |uplink: &cni::network::Uplink| format!("{} {}", uplink.name, uplink.address);
        let ready = self.serial > 0 && self.published().is_some();
        let why_not = (!ready).then(|| self.why_not(desired));
        if let Some(why) = &why_not
            && self.why_not.as_ref() != Some(why)
        {
            tracing::warn!("the pod network is not ready: {why}");
        }
        self.telemetry.network.knows(NetworkKnown {
            ready,
            why_not: why_not.clone(),
            ranges: desired.own.values().map(ToString::to_string).collect(),
            uplinks: desired.uplinks.values().map(uplink).collect(),
            mtu: desired.mtu(),
            tunnelled: self.tunnelled,
            direct: self.direct,
            problems: self.nodes.problems().len(),
            refused: self.refused.len(),
        });
        self.why_not = why_not;
    }

    fn why_not(&self, desired: &Desired) -> String {
        if let Some(why) = &self.no_uplink {
            return why.clone();
        }
        if desired.own.is_empty() {
            return format!("Node {} has no podCIDR that can be used", self.own.name);
        }
        match self.serial {
            0 => "it is not programmed yet".to_owned(),
            _ => "not every family has a device that leads to the other nodes".to_owned(),
        }
    }
}

impl EventLoop for NetworkLoop {
    type Update = Update;
    type Message = Message;

    fn turn(&mut self, now: Instant) -> Option<Duration> {
        if matches!(self.phase, Phase::Gated) {
            return None;
        }
        if self.look_at.is_some_and(|due| due <= now) {
            self.look_for_uplinks(now);
        }
        if std::mem::take(&mut self.learned.is_due) {
            self.learn(now);
        }
        if matches!(self.phase, Phase::InForce) && self.check_at.is_some_and(|due| due <= now) {
            self.check(now);
        }
        match self.phase {
            Phase::Gated => {}
            Phase::Resync { due } if now < due => {}
            Phase::Resync { .. } => self.resync(now),
            Phase::InForce if self.changed => self.apply(now),
            Phase::InForce => {}
        }
        let due = match self.phase {
            Phase::Gated => None,
            Phase::Resync { due } => Some(due),
            Phase::InForce => self.check_at,
        };
        let next = [due, self.look_at].into_iter().flatten().min();
        next.map(|due| due.saturating_duration_since(now))
    }

    fn take(&mut self, event: Event<Update>, now: Instant) {
        match event {
            Event::Updates(updates) => {
                for update in updates {
                    if let Update::Node(node) = &update {
                        self.take_own(node);
                    }
                    self.tell_nodes(update);
                }
                self.change_waits(now);
                if self.nodes.own_addresses() != self.own.addresses {
                    self.look_at = Some(now);
                }
            }
            Event::Synced => {
                if matches!(self.phase, Phase::Gated) {
                    self.look_at = Some(now);
                    self.phase = Phase::Resync { due: now };
                    self.change_waits(now);
                }
            }
        }
    }

    fn hear(&mut self, message: Message, now: Instant) -> ControlFlow<()> {
        match message {
            Message::News(news) => self.take_news(news, now),
            Message::Bird { settled } => self.bird_settled(settled),
        }
        ControlFlow::Continue(())
    }

    fn has_synced(&self) -> bool {
        self.serial > 0
    }

    fn after_first_sync(&mut self, inbox: Inbox) {
        self.watch(&inbox);
        // What others did before anybody listened was not heard.
        self.look_again(Instant::now());
    }
}
