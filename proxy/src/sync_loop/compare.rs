//! Telling how the kernel differs from what should be there, and remembering what was put right.

use modes::{Comparison, Report};
use tokio::sync::oneshot;

use super::{Phase, SyncLoop};
use crate::event_loop::UNSEEN;

impl SyncLoop {
    /// Compares for somebody who asked.
    pub(super) fn compare(&mut self, answer: oneshot::Sender<Result<Comparison, String>>) {
        // Who asked may have gone away meanwhile.
        if answer.is_closed() {
            return;
        }
        let comparison = match self.phase {
            Phase::Gated | Phase::AwaitingNode(_) => {
                Err("not all objects are known yet, so nothing has been programmed: ask again in a while"
                    .to_owned())
            }
            Phase::Resync { .. } | Phase::InForce => {
                self.mode.compare(&self.desired()).map_err(|error| error.to_string())
            }
        };
        drop(answer.send(comparison));
    }

    /// Remembers a repair, if this sync was one. What is found without news of it may be what changed meanwhile.
    pub(super) fn note_repair(&mut self, changes: usize, report: &Report) {
        let Some(damage) = self.damage.take() else { return };
        if report.operations > 0 && (changes == 0 || damage != UNSEEN) {
            self.telemetry.drift.repaired(damage, report.operations);
            self.telemetry.metrics.repair_took(report.operations);
        }
    }
}
