//! Whether the process does its work, as kube-proxy understands it: a change that waits to be programmed for too long
//! means no. An API server that cannot be reached does not: every node would then be taken out of service at once,
//! though each works. It is shown all the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use endpoint_cache::object::Kind;
use jiff::Timestamp;
use serde::Serialize;

/// What is known of the process's work.
#[derive(Debug)]
pub(crate) struct Health {
    stale_after: Mutex<Duration>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when a change waits to be programmed.
    waiting_since: Option<Instant>,
    last_synced: Option<Timestamp>,
    last_error: Option<String>,
    watches: BTreeMap<Kind, Watch>,
}

/// How it stands with the watch of a kind of object.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Watch {
    watching: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heard: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What `/healthz` and `/livez` answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdict {
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated: Option<Timestamp>,
    current_time: Timestamp,
    pub(crate) healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    watches: BTreeMap<&'static str, Watch>,
}

impl Health {
    pub(crate) fn new(stale_after: Duration) -> Self {
        Self { stale_after: Mutex::new(stale_after), state: Mutex::default() }
    }

    /// A change that waits for longer is unhealthy, from now on.
    pub(crate) fn set_stale_after(&self, stale_after: Duration) {
        *self.stale_after.lock().unwrap_or_else(PoisonError::into_inner) = stale_after;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something to be programmed.
    pub(crate) fn change_waits(&self, now: Instant) {
        self.state().waiting_since.get_or_insert(now);
    }

    /// Everything is programmed.
    pub(crate) fn synced(&self) {
        let mut state = self.state();
        state.waiting_since = None;
        state.last_error = None;
        state.last_synced = Some(Timestamp::now());
    }

    /// The kernel refused.
    pub(crate) fn sync_failed(&self, error: &str, now: Instant) {
        let mut state = self.state();
        state.waiting_since.get_or_insert(now);
        state.last_error = Some(error.to_owned());
    }

    pub(super) fn heard(&self, kind: Kind) {
        let watch = Watch { watching: true, last_heard: Some(Timestamp::now()), error: None };
        self.state().watches.insert(kind, watch);
    }

    pub(super) fn watch_failed(&self, kind: Kind, error: &str) {
        let mut state = self.state();
        let watch = state.watches.entry(kind).or_default();
        watch.watching = false;
        watch.error = Some(error.to_owned());
    }

    /// When everything was last programmed, and why the last attempt failed, if it did.
    pub(crate) fn last(&self) -> (Option<Timestamp>, Option<String>) {
        let state = self.state();
        (state.last_synced, state.last_error.clone())
    }

    /// How it stands at `now`.
    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        let state = self.state();
        let waited = state.waiting_since.map(|since| now.saturating_duration_since(since));
        let stale_after = *self.stale_after.lock().unwrap_or_else(PoisonError::into_inner);
        let healthy = waited.is_none_or(|waited| waited <= stale_after);
        let current_time = Timestamp::now();
        Verdict {
            // While nothing waits, everything is as it should be now.
            last_updated: if waited.is_none() { Some(current_time) } else { state.last_synced },
            current_time,
            healthy,
            last_error: state.last_error.clone(),
            watches: state.watches.iter().map(|(kind, watch)| (kind.as_str(), watch.clone())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Duration = Duration::from_secs(60);

    fn is_healthy(health: &Health, at: Instant) -> bool {
        health.verdict(at).healthy
    }

    #[test]
    fn a_change_that_waits_too_long_is_unhealthy_until_it_is_programmed() {
        let (health, start) = (Health::new(STALE), Instant::now());
        assert!(is_healthy(&health, start), "healthy before the first sync");
        health.change_waits(start);
        health.change_waits(start + STALE);
        assert!(is_healthy(&health, start + STALE));
        let later = start + STALE + Duration::from_millis(1);
        assert!(!is_healthy(&health, later), "counted from the first change");
        health.synced();
        assert!(is_healthy(&health, later));
    }

    #[test]
    fn failures_count_from_the_first_and_are_told() {
        let (health, start) = (Health::new(STALE), Instant::now());
        health.sync_failed("no", start);
        health.sync_failed("still no", start + STALE);
        let verdict = health.verdict(start + 2 * STALE);
        assert!(!verdict.healthy);
        assert_eq!(verdict.last_error.as_deref(), Some("still no"));
    }

    #[test]
    fn an_unreachable_server_is_shown_but_not_unhealthy() {
        let health = Health::new(STALE);
        health.heard(Kind::Service);
        health.watch_failed(Kind::Service, "connection refused");
        let verdict = serde_json::to_value(health.verdict(Instant::now() + 10 * STALE)).unwrap();
        assert_eq!(verdict["healthy"], true);
        assert_eq!(verdict["watches"]["Service"]["watching"], false);
        assert_eq!(verdict["watches"]["Service"]["error"], "connection refused");
        assert!(verdict["watches"]["Service"]["lastHeard"].is_string());
    }
}
