//! What the sync loop has programmed of Services that load balancers ask about.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use endpoint_cache::object::ObjectName;
use endpoint_cache::{HealthCheck, NodeState};
use modes::{NodePortReach, Settings};
use tokio::sync::Notify;

use super::answer::Answer;
use crate::telemetry::Telemetry;

/// Written by the sync loop, read by the responders.
#[derive(Debug)]
pub(super) struct Board {
    telemetry: Arc<Telemetry>,
    /// Whether the mode's node ports answer everywhere if the user does not say.
    node_ports_everywhere: bool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    checks: HashMap<ObjectName, HealthCheck>,
    /// Services whose port may be another than is listened on.
    touched: HashSet<ObjectName>,
    settings: Settings,
    node: Arc<NodeState>,
    reach: NodePortReach,
}

impl Board {
    pub(super) fn new(telemetry: Arc<Telemetry>, settings: Settings, node_ports_everywhere: bool) -> Self {
        let node = Arc::<NodeState>::default();
        let reach = NodePortReach::new(&settings, &node, node_ports_everywhere);
        let (checks, touched) = (HashMap::new(), HashSet::new());
        let state = Mutex::new(State { checks, touched, settings, node, reach });
        Self { telemetry, node_ports_everywhere, state, changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, changes: impl IntoIterator<Item = (ObjectName, Option<HealthCheck>)>) {
        let mut state = self.state();
        for (service, check) in changes {
            let port = check.as_ref().map(|check| check.port);
            let before = match check {
                Some(check) => state.checks.insert(service.clone(), check),
                None => state.checks.remove(&service),
            };
            if before.map(|check| check.port) != port {
                state.touched.insert(service);
            }
        }
        if !state.touched.is_empty() {
            self.changed.notify_one();
        }
    }

    pub(super) fn node_is(&self, node: &Arc<NodeState>) {
        let mut state = self.state();
        state.node = Arc::clone(node);
        state.reach = NodePortReach::new(&state.settings, node, self.node_ports_everywhere);
    }

    pub(super) fn reconfigure(&self, settings: Settings) {
        let mut state = self.state();
        state.reach = NodePortReach::new(&settings, &state.node, self.node_ports_everywhere);
        state.settings = settings;
    }

    /// Waits until ports may have changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The Services whose port may have changed since the last call, and on which port each is to be asked about.
    pub(super) fn take_touched(&self) -> Vec<(ObjectName, Option<u16>)> {
        let mut state = self.state();
        let touched = std::mem::take(&mut state.touched);
        let port = |service: &ObjectName| state.checks.get(service).map(|check| check.port);
        touched.into_iter().map(|service| (service.clone(), port(&service))).collect()
    }

    /// Whether may be asked on one of the node's addresses.
    pub(super) fn answers_on(&self, address: IpAddr) -> bool {
        self.state().reach.includes(address.to_canonical())
    }

    /// What to say of a Service now.
    pub(super) fn answer(&self, service: &ObjectName) -> Answer {
        let local_endpoints = self.state().checks.get(service).map_or(0, |check| check.local_ready);
        let healthy = self.telemetry.health.is_programming(Instant::now());
        Answer::new(service, local_endpoints, healthy)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use modes::NodePortAddresses;

    use super::*;

    fn board() -> Board {
        Board::new(Telemetry::new(Duration::from_secs(60)), Settings::default(), false)
    }

    fn check(port: u16, local_ready: usize) -> Option<HealthCheck> {
        Some(HealthCheck { port, local_ready })
    }

    #[test]
    fn only_changes_of_ports_bear_on_what_is_listened_on() {
        let (board, web) = (board(), ObjectName::new("shop", "web"));
        board.take([(web.clone(), check(32000, 0))]);
        assert_eq!(board.take_touched(), [(web.clone(), Some(32000))]);
        board.take([(web.clone(), check(32000, 2))]);
        assert_eq!(board.take_touched(), []);
        assert!(board.answer(&web).is_good());
        board.take([(web.clone(), check(32001, 0))]);
        board.take([(web.clone(), None)]);
        assert_eq!(board.take_touched(), [(web.clone(), None)]);
        assert!(!board.answer(&web).is_good());
    }

    #[test]
    fn addresses_follow_the_node_and_the_settings() {
        let board = board();
        let on = |address: &str| board.answers_on(address.parse().unwrap());
        assert!(on("192.168.1.2"), "while the Node is not known");
        let addresses = vec!["192.168.0.2".parse().unwrap()];
        board.node_is(&Arc::new(NodeState { addresses, ..NodeState::default() }));
        assert_eq!([on("192.168.0.2"), on("::ffff:192.168.0.2"), on("192.168.1.2")], [true, true, false]);
        let everywhere = NodePortAddresses::Cidrs(vec!["0.0.0.0/0".parse().unwrap()]);
        board.reconfigure(Settings { node_port_addresses: everywhere, ..Settings::default() });
        assert!(on("192.168.1.2"));
    }
}
