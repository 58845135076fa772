//! What others are told of syncs: the users of Services, and load balancers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use endpoint_cache::object::{Kind, ObjectName};
use endpoint_cache::{Delta, Family, HealthCheck, NodeState, Problem, ServicePortName};
use modes::{Notice, Report};
use tokio::sync::oneshot;

use super::SyncLoop;
use crate::source::kubernetes::{About, News};
use crate::view::{self, View};

/// What the service health responders are told when it is programmed.
#[derive(Debug, Default)]
pub(super) struct Untold {
    checks: HashMap<ObjectName, Option<HealthCheck>>,
    node: Option<Arc<NodeState>>,
}

impl Untold {
    /// Adds what a delta says.
    pub(super) fn take(&mut self, delta: &mut Delta) {
        self.checks.extend(std::mem::take(&mut delta.health_checks));
        self.node = delta.node.clone().or(self.node.take());
    }
}

impl SyncLoop {
    /// One line for each sync; only a detail if there was nothing to do, unless somebody waits to hear of it.
    pub(super) fn log(&self, changes: usize, report: &Report, duration: Duration) {
        let awaited = self.serial == 1 || self.backoff.failures() > 0;
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    changes,
                    operations = report.operations,
                    bytes = report.bytes,
                    flows_removed = report.flows_removed(),
                    duration_ms = milliseconds(duration),
                    serial = self.serial,
                    batches = self.batches,
                    "synced"
                )
            };
        }
        match awaited || changes > 0 || report.changed_anything() {
            true => log!(info),
            false => log!(debug),
        }
    }

    /// Tells the users of a Service, in the log and where Services come from.
    pub(super) fn tell(&self, notice: &Notice) {
        tracing::warn!("Service {}: {}", notice.service, notice.message);
        self.post(notice);
    }

    /// Tells the users of a Service what of it cannot be used, if it has changed since the first sync: otherwise every node
    /// would at every start.
    pub(super) fn tell_of(&self, problem: &Problem) {
        let Problem { object, field, reason } = problem;
        if object.kind == Kind::Service && self.serial > 0 {
            let message = format!("{field}: {reason}");
            self.post(News::service_warning(object.name.clone(), "PartlyUnusable", "Sync", message));
        }
    }

    /// Another Service of this name is told anew.
    pub(super) fn forget(&self, name: &ServicePortName) {
        if let Some(outlet) = &self.notices {
            outlet.forget(About::Service(name.service()));
        }
    }

    fn post(&self, news: impl Into<News>) {
        if let Some(outlet) = &self.notices {
            outlet.post(news);
        }
    }

    /// Lets load balancers know what is programmed now.
    pub(super) fn tell_service_health(&mut self) {
        let Untold { checks, node } = std::mem::take(&mut self.untold);
        if let Some(service_health) = &self.service_health {
            if let Some(node) = node {
                service_health.node_is(&node);
            }
            if !checks.is_empty() {
                service_health.take(checks);
            }
        }
    }

    /// Tells the users of a Service that the kernel refuses a port of it.
    pub(super) fn tell_refused(&self, name: &ServicePortName, family: Family) {
        let message = format!(
            "the kernel refuses service port {name} ({family}): it is not served until it changes (the log of this \
             node's proxy says why)"
        );
        self.post(News::service_warning(name.service(), "RefusedByKernel", "Sync", message));
    }
}

impl SyncLoop {
    /// Tells what is known of Services and endpoints to somebody who asked.
    pub(super) fn answer(&self, answer: oneshot::Sender<View>) {
        // Who asked may have gone away meanwhile.
        if answer.is_closed() {
            return;
        }
        let mut view = view::view(&self.cache);
        for (name, family) in &self.left_out {
            view.add_problem(
                (&name.namespace, &name.name),
                format!(
                    "the kernel refuses port {name} ({family}): not served until it changes (see the log)"
                ),
            );
        }
        drop(answer.send(view));
    }
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
