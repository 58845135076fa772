//! What there is to tell of the pod network: metrics, and how it stands for `pointsman status`.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::policies::{Labels, Row, SyncDuration, Writer};
use super::{Drift, Extent};

/// Shared with the network loop.
#[derive(Debug, Default)]
pub(crate) struct Network {
    joined: OnceLock<Joined>,
    state: Mutex<State>,
    sync_duration: SyncDuration,
    syncs: Family<Labels, Counter>,
    gate: Family<Labels, Counter>,
    /// What others changed.
    pub(crate) drift: Drift,
}

/// How nodes and pods are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// What joins the nodes.
    pub(crate) backend: &'static str,
    /// What joins pods to this one.
    pub(crate) data_path: &'static str,
}

#[derive(Debug, Default)]
struct State {
    known: NetworkKnown,
    sessions: Vec<Session>,
    announcement_error: Option<String>,
    bird_error: Option<String>,
}

/// What the network loop knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkKnown {
    /// Whether pods can be given addresses.
    pub(crate) ready: bool,
    /// Why not, if not.
    pub(crate) why_not: Option<String>,
    /// This node's ranges.
    pub(crate) ranges: Vec<String>,
    /// The devices that lead to the other nodes, with the addresses there.
    pub(crate) uplinks: Vec<String>,
    /// Bytes of the largest packet that a pod may send.
    pub(crate) mtu: Option<u32>,
    /// Ranges of other nodes' pods that are reached by a tunnel.
    pub(crate) tunnelled: usize,
    /// Those that are reached without.
    pub(crate) direct: usize,
    /// What is wrong with Nodes.
    pub(crate) problems: usize,
    /// What the kernel refused.
    pub(crate) refused: usize,
}

/// A BGP session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// BIRD's name of it.
    pub(crate) name: String,
    /// BGP's word for how it stands.
    pub(crate) state: String,
}

/// The word for a session that works.
pub(crate) const ESTABLISHED: &str = "Established";

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes are joined from now on.
    pub(crate) fn is_joined(&self, joined: Joined) {
        // A process has one pod network at most.
        let _ = self.joined.set(joined);
    }

    /// How nodes are joined, if they are, and what is known.
    pub(crate) fn now(&self) -> Option<(Joined, NetworkKnown)> {
        self.joined.get().map(|joined| (*joined, self.state().known.clone()))
    }

    /// The BGP sessions, if there are any.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.state().sessions.clone()
    }

    /// Why other nodes could not be told of this one, if they could not.
    pub(crate) fn announcement_error(&self) -> Option<String> {
        self.state().announcement_error.clone()
    }

    /// A sync did what it should.
    pub(crate) fn synced(&self, extent: Extent, duration: Duration) {
        self.sync_duration.observe(extent, duration);
        self.syncs.get_or_create(&vec![("outcome", "success")]).inc();
    }

    /// A sync failed.
    pub(crate) fn failed(&self) {
        self.syncs.get_or_create(&vec![("outcome", "failure")]).inc();
    }

    /// A pod's question was answered.
    pub(crate) fn gate_answered(&self, ready: bool) {
        self.gate.get_or_create(&vec![("answer", if ready { "ready" } else { "not_ready" })]).inc();
    }

    /// What is known now.
    pub(crate) fn knows(&self, known: NetworkKnown) {
        self.state().known = known;
    }

    /// How the BGP sessions stand now.
    pub(crate) fn has_sessions(&self, sessions: Vec<Session>) {
        self.state().sessions = sessions;
    }

    /// Other nodes were told of this one, or could not be, because of this.
    pub(crate) fn cannot_announce(&self, error: Option<String>) {
        self.state().announcement_error = error;
    }

    /// BIRD does what it should, or does not, because of this.
    pub(crate) fn bird_failed(&self, error: Option<String>) {
        self.state().bird_error = error;
    }

    /// Why BIRD does not do what it should, if it does not.
    pub(crate) fn bird_error(&self) -> Option<String> {
        self.state().bird_error.clone()
    }

    /// The registry that prints it, for who has this.
    pub(super) fn registry(this: &Arc<Self>) -> Registry {
        let mut registry = Registry::with_prefix("pointsman_network");
        let syncs = "Seconds that a sync of the pod network with the kernel took";
        registry.register("sync_duration_seconds", syncs, this.sync_duration.family());
        registry.register("syncs", "Syncs of the pod network with the kernel", this.syncs.clone());
        let gate = "Questions of new pods whether their policies are in force";
        registry.register("gate_questions", gate, this.gate.clone());
        registry.register_collector(Box::new(Page(Arc::clone(this))));
        registry
    }
}

/// What is read when somebody asks.
#[derive(Debug)]
struct Page(Arc<Network>);

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.0.state();
        let mut writer = Writer(encoder);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let known = &state.known;
        writer.value("ready", "Whether pods of this node can be given addresses", u64::from(known.ready))?;
        writer.value("mtu_bytes", "The largest packet of a pod", u64::from(known.mtu.unwrap_or(0)))?;
        let routes: [Row<'_>; 2] = [
            (vec![("by", "tunnel")], count(known.tunnelled)),
            (vec![("by", "gateway")], count(known.direct)),
        ];
        writer.gauge("routes", "Ranges of other nodes' pods, by how they are reached", &routes)?;
        writer.value("problems", "Things in Nodes that make no sense", count(known.problems))?;
        writer.value("refused", "Routes that the kernel refuses", count(known.refused))?;
        let told = u64::from(state.announcement_error.is_none());
        writer.value("announced", "Whether other nodes could be told of this one", told)?;
        let sessions: Vec<Row<'_>> = state
            .sessions
            .iter()
            .map(|session| {
                let up = u64::from(session.state == ESTABLISHED);
                (vec![("session", session.name.as_str())], up)
            })
            .collect();
        writer.gauge("bgp_session_up", "Whether a BGP session is established", &sessions)?;
        let repairs = "Times that others changed the pod network and it was put right";
        writer.total("repairs", repairs, self.0.drift.get().count)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_is_known_stands_on_the_page() {
        let network = Arc::new(Network::default());
        let registry = Network::registry(&network);
        network.synced(Extent::Full, Duration::from_micros(70));
        network.failed();
        network.gate_answered(true);
        network.gate_answered(false);
        network.drift.repaired("somebody".to_owned(), 3);
        network.knows(NetworkKnown {
            ready: true,
            mtu: Some(1450),
            tunnelled: 3,
            direct: 2,
            problems: 1,
            ..NetworkKnown::default()
        });
        let session = |name: &str, state: &str| Session { name: name.to_owned(), state: state.to_owned() };
        network.has_sessions(vec![session("rack", ESTABLISHED), session("b", "Connect")]);
        network.cannot_announce(Some("forbidden".to_owned()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"pointsman_network_sync_duration_seconds_count{sync="full"} 1"#,
            r#"pointsman_network_syncs_total{outcome="success"} 1"#,
            r#"pointsman_network_syncs_total{outcome="failure"} 1"#,
            r#"pointsman_network_gate_questions_total{answer="ready"} 1"#,
            r#"pointsman_network_gate_questions_total{answer="not_ready"} 1"#,
            "pointsman_network_repairs_total 1",
            "pointsman_network_ready 1",
            "pointsman_network_mtu_bytes 1450",
            r#"pointsman_network_routes{by="tunnel"} 3"#,
            r#"pointsman_network_routes{by="gateway"} 2"#,
            "pointsman_network_problems 1",
            "pointsman_network_refused 0",
            "pointsman_network_announced 0",
            r#"pointsman_network_bgp_session_up{session="rack"} 1"#,
            r#"pointsman_network_bgp_session_up{session="b"} 0"#,
        ] {
            assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn nothing_is_told_of_a_network_that_is_not_there() {
        let network = Network::default();
        assert_eq!(network.now(), None);
        let joined = Joined { backend: "vxlan", data_path: "routed" };
        network.is_joined(joined);
        assert_eq!(network.now(), Some((joined, NetworkKnown::default())));
    }
}
