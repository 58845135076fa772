//! Asking the policy loop of this process, which alone knows the objects.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::input::{Inbox, Input};
use super::view::PolicyView;

/// How long the policy loop may take to come to it: it answers between syncs.
const WITHIN: Duration = Duration::from_secs(15);

/// Where the policy loop is asked. One question at a time, however many want to know.
#[derive(Debug)]
pub(crate) struct Desk {
    inbox: OnceLock<Inbox>,
    turn: Semaphore,
}

impl Default for Desk {
    /// Closed until the loop is there.
    fn default() -> Self {
        Self { inbox: OnceLock::new(), turn: Semaphore::new(1) }
    }
}

impl Desk {
    /// Questions go there.
    pub(super) fn open(&self, inbox: Inbox) {
        // It is opened once.
        drop(self.inbox.set(inbox));
    }

    /// What the policy loop knows now.
    ///
    /// # Errors
    /// When there is none, or it does not answer in time, or ends.
    pub(crate) async fn ask(&self) -> anyhow::Result<PolicyView> {
        let Some(inbox) = self.inbox.get().cloned() else {
            bail!("this process does not enforce NetworkPolicies: start it with --network-policy");
        };
        let _turn = self.turn.acquire().await?;
        let (answer, heard) = oneshot::channel();
        let exchange = async {
            // Waits while too much is pending.
            if !spawn_blocking(move || inbox.put(Input::Ask(answer))).await? {
                bail!("the process is ending");
            }
            heard.await.context("the process is ending")?.map_err(anyhow::Error::msg)
        };
        let late = || {
            anyhow!("the policy loop is at work and has not answered for {WITHIN:?}: ask again in a while")
        };
        timeout(WITHIN, exchange).await.map_err(|_| late())?
    }
}
