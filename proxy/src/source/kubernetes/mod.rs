//! Following a cluster through the Kubernetes API.
//!
//! Services, EndpointSlices, ServiceCIDRs and the own Node are each followed by a loop of their own (`follow`): a full
//! list, then a watch from where the list ended, for as long as it goes; when it breaks, the watch resumes, and only if
//! the server has forgotten that place is there another list. `kube` finds the server, trusts it and logs in; lists and
//! watches are read here, object by object into the form that the cache takes, and nothing is kept.
//!
//! `access` finds the server, `resource` tells what is asked for, `request` and `wire` exchange bytes with it, `failure`
//! knows what an error means for the next attempt. `event` is the other direction: what users are told of their Services,
//! and whoever looks after the Node of the process.

mod access;
mod counted;
mod event;
mod failure;
mod feed;
mod follow;
mod request;
mod resource;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;

pub(crate) use self::access::Access;
pub(crate) use self::event::{News, Outlet};
use self::feed::Feed;
use self::follow::follow;
use self::resource::{EndpointSlices, OwnNode, ServiceCidrs, Services};
use super::{Events, Source};
use crate::telemetry::Telemetry;

/// The cluster that an API server knows.
pub(crate) struct Kubernetes {
    runtime: Runtime,
    access: Access,
    node_name: String,
    silence: Duration,
    telemetry: Arc<Telemetry>,
}

impl Kubernetes {
    /// Reads the configuration; connects to nothing yet. A watch that is silent for longer than `silence` is taken to
    /// be dead.
    ///
    /// # Errors
    /// When the configuration cannot be read or makes no sense.
    pub(crate) fn open(
        access: Access,
        node_name: &str,
        silence: Duration,
        telemetry: Arc<Telemetry>,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start a reactor")?;
        runtime.block_on(access.client())?;
        Ok(Self { runtime, access, node_name: node_name.to_owned(), silence, telemetry })
    }
}

impl Source for Kubernetes {
    fn run(self: Box<Self>, events: &Events) -> anyhow::Result<()> {
        let feed = Feed::new(events, &self.telemetry);
        let (access, silence) = (&self.access, self.silence);
        let node = OwnNode { name: self.node_name };
        self.runtime.block_on(async {
            // Each goes on until nobody listens any more. The small ones first: what they say bears on every rule.
            tokio::select! {
                () = follow(node, access, silence, &feed) => {}
                () = follow(ServiceCidrs, access, silence, &feed) => {}
                () = follow(Services, access, silence, &feed) => {}
                () = follow(EndpointSlices, access, silence, &feed) => {}
            }
        });
        Ok(())
    }
}
