//! Following a cluster through the Kubernetes API.
//!
//! Each kind of a [`Vocabulary`] is followed by a loop of its own (`follow`): a full list, then a watch from where the list
//! ended, for as long as it goes; when it breaks, the watch resumes, and only if the server has forgotten that place is
//! there another list. `kube` finds the server, trusts it and logs in; lists and watches are read here, object by object
//! into the form that the listener takes, and nothing is kept.
//!
//! `access` finds the server, `resource` tells what is asked for, `request` and `wire` exchange bytes with it, `failure`
//! knows what an error means for the next attempt. `event` is the other direction: what users are told of their Services,
//! and whoever looks after the Node of the process; so is `annotate`, what other nodes are told of this one.

mod access;
mod annotate;
mod counted;
mod event;
mod failure;
mod feed;
mod follow;
mod request;
mod resource;
mod wire;

use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;

pub(crate) use self::access::Access;
pub(crate) use self::annotate::Annotator;
pub(crate) use self::event::{About, News, Outlet};
use self::feed::Feed;
use self::follow::follow;
pub(crate) use self::resource::Resource;
use super::{Events, Source, Vocabulary};
use crate::telemetry::Telemetry;

/// What an API server knows of the cluster, and somebody takes in.
pub(crate) struct Kubernetes<U> {
    runtime: Runtime,
    access: Access,
    node_name: String,
    silence: Duration,
    telemetry: Arc<Telemetry>,
    updates: PhantomData<fn() -> U>,
}

impl<U: Vocabulary> Kubernetes<U> {
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
        let updates = PhantomData;
        Ok(Self { runtime, access, node_name: node_name.to_owned(), silence, telemetry, updates })
    }
}

impl<U: Vocabulary> Source<U> for Kubernetes<U> {
    fn run(self: Box<Self>, events: &Events<U>) -> anyhow::Result<()> {
        let resources = U::resources(&self.node_name);
        let feed = Feed::new(events, &self.telemetry, &resources);
        let follow = |resource| follow(resource, &self.access, self.silence, &feed);
        let mut followers: Vec<_> = resources.iter().map(|resource| Box::pin(follow(resource))).collect();
        // Each goes on until nobody listens any more.
        self.runtime.block_on(poll_fn(|context| {
            match followers.iter_mut().any(|follower| follower.as_mut().poll(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        Ok(())
    }
}
