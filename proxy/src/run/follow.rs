//! Following a configuration file that changes while the process runs.

use std::sync::Arc;

use crate::cli::Cli;
use crate::config::{self, Change, Loaded};
use crate::status::InForce;
use crate::sync_loop::{Inbox, Message, Reconfiguration};
use crate::telemetry::Telemetry;
use crate::{conntrack, logging};

/// Knows what is in force, and everyone who has to follow.
pub(super) struct Follower {
    pub(super) cli: Cli,
    pub(super) loaded: Loaded,
    pub(super) in_force: Arc<InForce>,
    pub(super) log: logging::Handle,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) inbox: Inbox,
    /// Whether the node is ours to set up.
    pub(super) programs_kernel: bool,
}

impl Follower {
    /// Does what the file says now; false when another process has to.
    pub(super) fn follow(&mut self) -> bool {
        let loaded = match config::reload(&self.cli) {
            Ok(loaded) => loaded,
            Err(reasons) => {
                let file = &self.cli.config;
                tracing::error!("--config {file} cannot be used now, what it said before counts: {reasons}");
                return true;
            }
        };
        let change = Change::between(&self.loaded.options, &loaded.options);
        let fields = config::changed_fields(&self.loaded.configuration, &loaded.configuration).join(", ");
        if self.loaded.doubts != loaded.doubts {
            crate::tell_doubts(&self.cli, &loaded);
        }
        match change {
            Change::None => {}
            Change::InFlight => {
                tracing::info!(fields, "the configuration changed: following");
                self.take_over(&loaded);
            }
            Change::Restart => {
                tracing::info!(fields, "the configuration changed: ending, to be started again with it");
                self.inbox.stop();
                return false;
            }
        }
        self.in_force.set(loaded.configuration.clone());
        self.loaded = loaded;
        true
    }

    fn take_over(&self, loaded: &Loaded) {
        let (before, after) = (&self.loaded.options, &loaded.options);
        self.log.set_levels(after.log.levels.clone());
        self.telemetry.health.set_stale_after(after.stale_after);
        if self.programs_kernel && before.conntrack != after.conntrack {
            conntrack::apply(&after.conntrack);
        }
        if self.programs_kernel && before.oom_score_adj != after.oom_score_adj {
            super::set_oom_score(after);
        }
        let settings = Some(after.settings.clone()).filter(|settings| *settings != before.settings);
        let wanted = Reconfiguration { settings, min_sync_period: after.min_sync_period };
        if wanted.settings.is_some() || before.min_sync_period != after.min_sync_period {
            self.inbox.tell(Message::Reconfigured(Box::new(wanted)));
        }
    }
}
