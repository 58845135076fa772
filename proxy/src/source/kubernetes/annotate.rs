//! Telling other nodes of this one: by annotations of its Node.
//!
//! On a thread of its own, which tries until the API server has taken what was last asked for. Nothing waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::event::told;
use crate::backoff::Backoff;
use crate::telemetry::Network;

/// How long the API server may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Between two requests, also if all go well: somebody else may write the same annotations.
const BETWEEN: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Annotations by name; `None` for one that is to go.
pub(crate) type Annotations = BTreeMap<String, Option<String>>;

/// Where annotations of the own Node are put.
#[derive(Debug)]
pub(crate) struct Annotator(watch::Sender<Annotations>);

impl Annotator {
    /// Starts the thread that writes them.
    ///
    /// # Errors
    /// When it or its reactor cannot be started.
    pub(crate) fn start(access: Access, node_name: &str, telemetry: Arc<Network>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start a reactor")?;
        let (sender, wanted) = watch::channel(Annotations::new());
        let writer = Writer { access, node_name: node_name.to_owned(), telemetry };
        let work = move || runtime.block_on(writer.run(wanted));
        thread::Builder::new().name("annotations".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Self(sender))
    }

    /// Has these annotations written, in place of any that were not yet. Never waits.
    pub(crate) fn put(&self, annotations: Annotations) {
        self.0.send_replace(annotations);
    }
}

struct Writer {
    access: Access,
    node_name: String,
    telemetry: Arc<Network>,
}

impl Writer {
    async fn run(self, mut wanted: watch::Receiver<Annotations>) {
        let mut backoff = Backoff::spread(BETWEEN, LONGEST_WAIT);
        while wanted.changed().await.is_ok() {
            loop {
                let annotations = wanted.borrow_and_update().clone();
                let written = timeout(WITHIN, self.write(&annotations)).await;
                let written = written.unwrap_or_else(|_| Err(anyhow!("no answer for {WITHIN:?}")));
                let Err(error) = written else { break };
                let wait = backoff.next_wait();
                self.telemetry.cannot_announce(Some(format!("{error:#}")));
                tracing::warn!(
                    retry_in = ?wait,
                    "cannot tell other nodes of this one, by annotations of Node {}: {error:#} (this account must be \
                     allowed to patch nodes)",
                    self.node_name
                );
                // What is asked for in the meantime is taken up at the end of it.
                sleep(wait).await;
            }
            backoff.reset();
            self.telemetry.cannot_announce(None);
            tracing::info!("other nodes are told of this one, by annotations of Node {}", self.node_name);
            sleep(BETWEEN).await;
        }
    }

    async fn write(&self, annotations: &Annotations) -> anyhow::Result<()> {
        let client = self.access.client().await?;
        let nodes: Api<Node> = Api::all(client);
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let patched = nodes.patch(&self.node_name, &PatchParams::default(), &patch).await;
        patched.map_err(|error| told(&error))?;
        Ok(())
    }
}
