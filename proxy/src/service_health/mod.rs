//! Answering load balancers that ask whether this node has endpoints of a Service: on each `healthCheckNodePort` of a
//! Service of type LoadBalancer with `externalTrafficPolicy: Local`, as kube-proxy does.
//!
//! The sync loop tells what was programmed ([`ServiceHealth::take`]); a thread of its own listens and answers from that,
//! so that no sync keeps a load balancer waiting. A port is listened on at all addresses, since they come and go, and
//! who asks on one that node ports do not answer on is turned away.
//!
//! `board` is what the two share, `answer` what is said, `listeners` the ports.

mod answer;
mod board;
mod listeners;

use std::sync::Arc;
use std::thread;

use anyhow::Context;
use endpoint_cache::object::ObjectName;
use endpoint_cache::{HealthCheck, NodeState};
use modes::Settings;
use tokio::task::LocalSet;

use crate::source::kubernetes::Outlet;
use crate::telemetry::Telemetry;
use board::Board;
use listeners::Listeners;

/// Where the responders are told what to say.
#[derive(Clone, Debug)]
pub(crate) struct ServiceHealth(Arc<Board>);

impl ServiceHealth {
    /// Starts the thread that answers; nothing is asked yet. Ports that cannot be listened on are told of at `outlet`.
    ///
    /// # Errors
    /// When it or its reactor cannot be started.
    pub(crate) fn start(
        telemetry: Arc<Telemetry>,
        settings: Settings,
        node_ports_everywhere: bool,
        outlet: Option<Outlet>,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start a reactor")?;
        let board = Arc::new(Board::new(telemetry, settings, node_ports_everywhere));
        let listeners = Listeners::new(Arc::clone(&board), outlet);
        let work = move || LocalSet::new().block_on(&runtime, listeners.run());
        thread::Builder::new()
            .name("service-health".to_owned())
            .spawn(work)
            .context("cannot start a thread")?;
        Ok(Self(board))
    }

    /// Services whose check is another than before; `None` when it is to go.
    pub(crate) fn take(&self, changes: impl IntoIterator<Item = (ObjectName, Option<HealthCheck>)>) {
        self.0.take(changes);
    }

    /// The own Node's state: its addresses may be those that node ports answer on.
    pub(crate) fn node_is(&self, node: &Arc<NodeState>) {
        self.0.node_is(node);
    }

    /// Settings that are other than at the start.
    pub(crate) fn reconfigure(&self, settings: Settings) {
        self.0.reconfigure(settings);
    }
}
