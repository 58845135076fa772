//! Whether the process does its work, as kube-proxy understands it: a change that waits to be programmed for too long
//! means no. An API server that cannot be reached does not: every node would then be taken out of service at once,
//! though each works. It is shown all the same.
//!
//! `/healthz`, which load balancers ask, also says no for a node that is about to go; `/livez`, by which the process is
//! restarted, does not.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use endpoint_cache::object::Kind;
use endpoint_cache::{Eligibility, Family};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Probe;

/// What is known of the process's work.
#[derive(Debug)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    /// How long a change may wait to be programmed.
    stale_after: Duration,
    /// The families that are programmed.
    families: Vec<Family>,
    eligibility: Eligibility,
    /// Whether load balancers are not told of the Node: the process does not stand for one.
    disregards_node: bool,
    /// Since when a change waits to be programmed.
    waiting_since: Option<Instant>,
    last_synced: Option<Timestamp>,
    last_error: Option<String>,
    watches: BTreeMap<Kind, Watch>,
    /// The same of policies.
    policies: Work,
    /// The same of the pod network.
    network: Work,
}

/// How it stands with policies, or with the pod network.
#[derive(Clone, Debug, Default)]
struct Work {
    waiting_since: Option<Instant>,
    last_synced: Option<Timestamp>,
    last_error: Option<String>,
}

/// How it stands with the watch of a kind of object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Watch {
    /// Whether it is being followed.
    pub(crate) watching: bool,
    /// When the server last said something of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_heard: Option<Timestamp>,
    /// Why it is not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// What `/healthz` and `/livez` answer: kube-proxy's fields, and two more.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdict {
    last_updated: Timestamp,
    current_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    /// Whether changes are programmed; says nothing of the Node.
    healthy: bool,
    status: BTreeMap<String, FamilyStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    watches: BTreeMap<&'static str, Watch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<FamilyStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_policy_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<FamilyStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_network_error: Option<String>,
}

/// How it stands with a family.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyStatus {
    last_updated: Timestamp,
    healthy: bool,
}

/// What Go prints for a time that never was, so that what reads kube-proxy's answer finds a time here too.
const NEVER: Timestamp = Timestamp::constant(-62_135_596_800, 0);

impl Verdict {
    /// Whether the answer is 200, and not 503.
    pub(crate) fn is_good(&self) -> bool {
        self.healthy && self.node_eligible.unwrap_or(true)
    }
}

impl Health {
    pub(crate) fn new(stale_after: Duration) -> Self {
        Self(Mutex::new(State {
            stale_after,
            families: Family::BOTH.to_vec(),
            eligibility: Eligibility::default(),
            disregards_node: false,
            waiting_since: None,
            last_synced: None,
            last_error: None,
            watches: BTreeMap::new(),
            policies: Work::default(),
            network: Work::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a change may wait for so long.
    pub(crate) fn set_stale_after(&self, stale_after: Duration) {
        self.state().stale_after = stale_after;
    }

    /// These families are programmed.
    pub(crate) fn set_families(&self, families: impl IntoIterator<Item = Family>) {
        self.state().families = families.into_iter().collect();
    }

    /// Whether load balancers should use the node.
    pub(crate) fn node_is(&self, eligibility: Eligibility) {
        self.state().eligibility = eligibility;
    }

    /// The process serves nobody but its user, on a machine that may be no Node.
    pub(crate) fn disregard_node(&self) {
        self.state().disregards_node = true;
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

    /// There is something of policies to be programmed.
    pub(crate) fn policy_change_waits(&self, now: Instant) {
        self.state().policies.change_waits(now);
    }

    /// All policies are in force.
    pub(crate) fn policies_synced(&self) {
        self.state().policies = Work::synced();
    }

    /// The kernel refused something of policies.
    pub(crate) fn policy_sync_failed(&self, error: &str, now: Instant) {
        self.state().policies.failed(error, now);
    }

    /// When all policies were last in force, why the last attempt failed if it did, and for how long a change has been
    /// waiting, if one has.
    pub(crate) fn of_policies(&self, now: Instant) -> (Option<Timestamp>, Option<String>, Option<Duration>) {
        self.state().policies.told(now)
    }

    /// There is something of the pod network to be programmed.
    pub(crate) fn network_change_waits(&self, now: Instant) {
        self.state().network.change_waits(now);
    }

    /// All of the pod network is in force.
    pub(crate) fn network_synced(&self) {
        self.state().network = Work::synced();
    }

    /// The kernel refused something of the pod network.
    pub(crate) fn network_sync_failed(&self, error: &str, now: Instant) {
        self.state().network.failed(error, now);
    }

    /// As [`Health::of_policies`], of the pod network.
    pub(crate) fn of_network(&self, now: Instant) -> (Option<Timestamp>, Option<String>, Option<Duration>) {
        self.state().network.told(now)
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

    /// Why a kind is not followed, if it is not.
    pub(crate) fn watch_error(&self, kind: Kind) -> Option<String> {
        self.state().watches.get(&kind)?.error.clone()
    }

    /// When everything was last programmed, and why the last attempt failed, if it did.
    pub(crate) fn last(&self) -> (Option<Timestamp>, Option<String>) {
        let state = self.state();
        (state.last_synced, state.last_error.clone())
    }

    /// For how long a change has been waiting to be programmed, if one has.
    pub(crate) fn waiting(&self, now: Instant) -> Option<Duration> {
        self.state().waiting_since.map(|since| now.saturating_duration_since(since))
    }

    /// How it stands with each kind that is watched; none of them with manifests.
    pub(crate) fn watches(&self) -> BTreeMap<String, Watch> {
        self.state().watches.iter().map(|(kind, watch)| (kind.to_string(), watch.clone())).collect()
    }

    /// Whether changes of Services, of policies and of the pod network are programmed, whatever becomes of the Node.
    pub(crate) fn is_programming(&self, now: Instant) -> bool {
        self.state().is_programming(now)
    }

    /// What a probe is answered at `now`.
    pub(crate) fn verdict(&self, probe: Probe, now: Instant) -> Verdict {
        let state = self.state();
        let healthy = state.is_programming(now);
        let current_time = Timestamp::now();
        let last_synced = state.last_synced.unwrap_or(NEVER);
        // Both are programmed by the same transaction, or none.
        let family = FamilyStatus { last_updated: last_synced, healthy };
        let mut verdict = Verdict {
            last_updated: last_synced,
            current_time,
            node_eligible: (probe == Probe::Healthz)
                .then(|| state.disregards_node || state.eligibility.is_eligible()),
            healthy,
            status: state.families.iter().map(|name| (name.to_string(), family)).collect(),
            last_error: state.last_error.clone(),
            watches: state.watches.iter().map(|(kind, watch)| (kind.as_str(), watch.clone())).collect(),
            policies: state.status_of(&state.policies, now),
            last_policy_error: state.policies.last_error.clone(),
            network: state.status_of(&state.network, now),
            last_network_error: state.network.last_error.clone(),
        };
        if verdict.is_good() {
            // As in kube-proxy: whoever looks for a recent time is to find one.
            verdict.last_updated = current_time;
        }
        verdict
    }
}

impl Work {
    fn synced() -> Self {
        Self { waiting_since: None, last_synced: Some(Timestamp::now()), last_error: None }
    }

    fn change_waits(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    fn failed(&mut self, error: &str, now: Instant) {
        self.change_waits(now);
        self.last_error = Some(error.to_owned());
    }

    fn told(&self, now: Instant) -> (Option<Timestamp>, Option<String>, Option<Duration>) {
        let waiting = self.waiting_since.map(|since| now.saturating_duration_since(since));
        (self.last_synced, self.last_error.clone(), waiting)
    }
}

impl State {
    fn is_programming(&self, now: Instant) -> bool {
        self.waits_not_too_long(self.waiting_since, now)
            && self.waits_not_too_long(self.policies.waiting_since, now)
            && self.waits_not_too_long(self.network.waiting_since, now)
    }

    /// Nothing of what this process does not do.
    fn status_of(&self, work: &Work, now: Instant) -> Option<FamilyStatus> {
        let last_updated = work.last_synced.or(work.waiting_since.map(|_| NEVER))?;
        let healthy = self.waits_not_too_long(work.waiting_since, now);
        Some(FamilyStatus { last_updated, healthy })
    }

    fn waits_not_too_long(&self, since: Option<Instant>, now: Instant) -> bool {
        since.is_none_or(|since| now.saturating_duration_since(since) <= self.stale_after)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const STALE: Duration = Duration::from_secs(60);

    fn is_healthy(health: &Health, at: Instant) -> bool {
        let [healthz, livez] =
            [Probe::Healthz, Probe::Livez].map(|probe| health.verdict(probe, at).is_good());
        assert_eq!([healthz, livez], [health.is_programming(at); 2]);
        healthz
    }

    fn body(health: &Health, probe: Probe, at: Instant) -> Value {
        serde_json::to_value(health.verdict(probe, at)).unwrap()
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
        let verdict = health.verdict(Probe::Livez, start + 2 * STALE);
        assert!(!verdict.is_good());
        assert_eq!(verdict.last_error.as_deref(), Some("still no"));
    }

    #[test]
    fn an_unreachable_server_is_shown_but_not_unhealthy() {
        let health = Health::new(STALE);
        health.heard(Kind::Service);
        health.watch_failed(Kind::Service, "connection refused");
        let verdict = body(&health, Probe::Healthz, Instant::now() + 10 * STALE);
        assert_eq!(verdict["healthy"], true);
        assert_eq!(verdict["watches"]["Service"]["watching"], false);
        assert_eq!(verdict["watches"]["Service"]["error"], "connection refused");
        assert!(verdict["watches"]["Service"]["lastHeard"].is_string());
    }

    #[test]
    fn a_node_that_is_to_go_is_told_to_load_balancers_alone() {
        let (health, now) = (Health::new(STALE), Instant::now());
        for (eligibility, eligible) in [
            (Eligibility::Unknown, true),
            (Eligibility::Eligible, true),
            (Eligibility::BeingDeleted, false),
            (Eligibility::ToBeDeleted, false),
            (Eligibility::Missing, false),
        ] {
            health.node_is(eligibility);
            let healthz = health.verdict(Probe::Healthz, now);
            assert_eq!(healthz.is_good(), eligible, "{eligibility:?}");
            let body = serde_json::to_value(healthz).unwrap();
            assert_eq!((&body["nodeEligible"], &body["healthy"]), (&json!(eligible), &json!(true)));
            assert_eq!(body["lastUpdated"] == body["currentTime"], eligible);
            let livez = health.verdict(Probe::Livez, now);
            assert!(livez.is_good() && livez.node_eligible.is_none());
        }
        health.disregard_node();
        assert!(health.verdict(Probe::Healthz, now).is_good());
    }

    #[test]
    fn the_body_has_kube_proxys_fields() {
        let (health, now) = (Health::new(STALE), Instant::now());
        health.set_families([Family::V4]);
        health.change_waits(now);
        let late = now + 2 * STALE;
        let verdict = body(&health, Probe::Livez, late);
        let never = "0001-01-01T00:00:00Z";
        assert_eq!(verdict["lastUpdated"], never);
        assert_eq!(verdict["status"], json!({"IPv4": {"lastUpdated": never, "healthy": false}}));
        assert!(verdict.get("nodeEligible").is_none(), "{verdict}");
        health.synced();
        let verdict = body(&health, Probe::Healthz, late);
        assert_eq!(verdict["lastUpdated"], verdict["currentTime"]);
        assert_eq!(verdict["status"]["IPv4"]["healthy"], true);
        assert_ne!(verdict["status"]["IPv4"]["lastUpdated"], never);
    }

    #[test]
    fn a_policy_that_waits_too_long_is_unhealthy_whatever_becomes_of_services() {
        let (health, start) = (Health::new(STALE), Instant::now());
        assert!(body(&health, Probe::Livez, start).get("policies").is_none());
        health.policy_change_waits(start);
        let later = start + 2 * STALE;
        health.synced();
        assert!(is_healthy(&health, start + STALE) && !is_healthy(&health, later));
        health.policy_sync_failed("no room", later);
        let told = body(&health, Probe::Livez, later);
        assert_eq!(
            (&told["policies"]["healthy"], &told["lastPolicyError"]),
            (&json!(false), &json!("no room"))
        );
        health.policies_synced();
        assert!(is_healthy(&health, later));
        assert_eq!(body(&health, Probe::Healthz, later)["policies"]["healthy"], true);
        assert!(health.of_policies(later).1.is_none());
    }

    #[test]
    fn the_pod_network_counts_as_policies_do() {
        let (health, start) = (Health::new(STALE), Instant::now());
        assert!(body(&health, Probe::Livez, start).get("network").is_none());
        health.network_sync_failed("no device", start);
        assert!(is_healthy(&health, start + STALE) && !is_healthy(&health, start + 2 * STALE));
        assert_eq!(body(&health, Probe::Livez, start)["lastNetworkError"], "no device");
        health.network_synced();
        assert_eq!(body(&health, Probe::Livez, start + 2 * STALE)["network"]["healthy"], true);
    }

    #[test]
    fn how_long_a_change_may_wait_can_be_changed() {
        let (health, start) = (Health::new(STALE), Instant::now());
        health.change_waits(start);
        health.set_stale_after(3 * STALE);
        assert!(is_healthy(&health, start + 2 * STALE));
        assert!(!is_healthy(&health, start + 4 * STALE));
    }
}
