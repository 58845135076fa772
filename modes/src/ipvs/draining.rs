//! Endpoints that get no new connections and keep those that they have: when to let go of them. Pure; somebody else
//! looks at the clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kernel::ipvs::{Destination, Frontend, Operation, Target};

/// For how long connections to an endpoint that has gone are kept at the most: as long as IPVS remembers a TCP connection
/// that says nothing.
pub(super) const LONGEST: Duration = Duration::from_secs(15 * 60);

/// What is draining, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Draining(BTreeMap<Frontend, BTreeMap<Target, Instant>>);

impl Draining {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a server has endpoints that drain.
    pub(super) fn has(&self, frontend: Frontend) -> bool {
        self.0.contains_key(&frontend)
    }

    /// An endpoint begins to drain, unless it has begun already.
    pub(super) fn insert(&mut self, frontend: Frontend, target: Target, now: Instant) {
        self.0.entry(frontend).or_default().entry(target).or_insert(now);
    }

    /// An endpoint is used again; says whether it was draining.
    pub(super) fn remove(&mut self, frontend: Frontend, target: Target) -> bool {
        let Some(targets) = self.0.get_mut(&frontend) else { return false };
        let was = targets.remove(&target).is_some();
        if targets.is_empty() {
            self.0.remove(&frontend);
        }
        was
    }

    /// A server is gone with all its endpoints.
    pub(super) fn forget(&mut self, frontend: Frontend) {
        self.0.remove(&frontend);
    }

    /// Forgets what is not worth keeping.
    pub(super) fn keep_to(&mut self, keep: impl Fn(Frontend, Target) -> bool) {
        self.0.retain(|frontend, targets| {
            targets.retain(|target, _| keep(*frontend, *target));
            !targets.is_empty()
        });
    }

    /// The endpoints of a server that drain.
    pub(super) fn of(&self, frontend: Frontend) -> Vec<Target> {
        self.0.get(&frontend).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// Servers that have endpoints that drain.
    pub(super) fn frontends(&self) -> Vec<Frontend> {
        self.0.keys().copied().collect()
    }

    /// Forgets the endpoints of a server that are done, or whose time is over, or that are gone by themselves; returns
    /// what takes the others of these away.
    pub(super) fn finish(
        &mut self,
        frontend: Frontend,
        found: &[Destination],
        now: Instant,
    ) -> Vec<Operation> {
        let Some(targets) = self.0.get_mut(&frontend) else { return Vec::new() };
        let mut removals = Vec::new();
        targets.retain(|target, since| {
            let Some(destination) = found.iter().find(|found| found.target == *target) else { return false };
            let idle = destination.active == 0 && destination.inactive == 0;
            let stays = !idle && now.saturating_duration_since(*since) < LONGEST;
            if !stays {
                removals.push(Operation::RemoveDestination(frontend, *target));
            }
            stays
        });
        if targets.is_empty() {
            self.0.remove(&frontend);
        }
        removals
    }
}
