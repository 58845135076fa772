//! Asking the policy loop of this process, which alone knows the objects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::input::{Inbox, Message};
use super::view::PolicyView;
use super::waiting::{Claim, Newcomer};

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

    /// Waits until all is in force that policies ask about a new pod, at most until then.
    ///
    /// # Errors
    /// When it is not. Says why.
    pub(crate) fn admit(&self, newcomer: Newcomer, until: Instant) -> Result<(), String> {
        const ENDING: &str = "the process is ending";
        let Some(inbox) = self.inbox.get() else {
            return Err("the process is only beginning to follow policies".to_owned());
        };
        let is_known = Arc::new(AtomicBool::default());
        let (in_force, answer) = sync_channel(1);
        let claim = Claim { newcomer, until, is_known: Arc::clone(&is_known), in_force };
        if !inbox.tell(Message::Claimed(claim)) {
            return Err(ENDING.to_owned());
        }
        let known = || match is_known.load(Ordering::Relaxed) {
            true => "its policies cannot be brought into the kernel, see pointsman status",
            false => "the API server has not told of such a pod on this node yet",
        };
        match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(known().to_owned()),
            // The loop forgets who has waited for too long, too.
            Err(RecvTimeoutError::Disconnected) if until <= Instant::now() => Err(known().to_owned()),
            Err(RecvTimeoutError::Disconnected) => Err(ENDING.to_owned()),
        }
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
            if !spawn_blocking(move || inbox.tell(Message::Ask(answer))).await? {
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
