//! Asking the sync loop of this process, which alone knows the objects.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use modes::Comparison;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::View;
use crate::sync_loop::{Inbox, Message};

/// How long the sync loop may take to come to it: it answers between syncs.
const WITHIN: Duration = Duration::from_secs(15);

/// The same where it has to read the kernel.
const COMPARED_WITHIN: Duration = Duration::from_secs(60);

/// Where the sync loop is asked. One question at a time, however many want to know.
#[derive(Debug)]
pub(crate) struct Desk {
    /// `None` where there is no sync loop.
    inbox: Option<Inbox>,
    turn: Semaphore,
}

impl Desk {
    /// Asks by way of this inbox.
    pub(crate) fn new(inbox: Inbox) -> Self {
        Self { inbox: Some(inbox), turn: Semaphore::new(1) }
    }

    /// In a process that has no sync loop.
    pub(crate) fn closed() -> Self {
        Self { inbox: None, turn: Semaphore::new(1) }
    }

    /// What the sync loop knows now.
    ///
    /// # Errors
    /// When it does not answer in time, or ends.
    pub(crate) async fn ask(&self) -> anyhow::Result<View> {
        self.within(WITHIN, Message::Ask).await
    }

    /// How the kernel differs from what the sync loop would have there.
    ///
    /// # Errors
    /// When it does not answer in time, or ends, or the kernel cannot be read.
    pub(crate) async fn compare(&self) -> anyhow::Result<Comparison> {
        self.within(COMPARED_WITHIN, Message::Compare).await?.map_err(anyhow::Error::msg)
    }

    async fn within<T: Send + 'static>(
        &self,
        patience: Duration,
        question: impl FnOnce(oneshot::Sender<T>) -> Message + Send + 'static,
    ) -> anyhow::Result<T> {
        let answer = timeout(patience, self.await_answer(question)).await;
        answer.map_err(|_| {
            anyhow!("the sync loop is at work and has not answered for {patience:?}: ask again in a while")
        })?
    }

    async fn await_answer<T: Send + 'static>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Message + Send + 'static,
    ) -> anyhow::Result<T> {
        let _turn = self.turn.acquire().await?;
        let (answer, heard) = oneshot::channel();
        let Some(inbox) = self.inbox.clone() else {
            bail!("this process enforces NetworkPolicies alone: Services are known to this node's proxy");
        };
        // Waits while too much is pending.
        if !spawn_blocking(move || inbox.tell(question(answer))).await? {
            bail!("the process is ending");
        }
        heard.await.context("the process is ending")
    }
}
