//! The way from the followers to whom the source tells.

use std::cell::RefCell;
use std::collections::BTreeSet;

use endpoint_cache::object::Kind;

use super::Resource;
use crate::source::{Event, Events, Vocabulary};
use crate::telemetry::Telemetry;

/// What all followers hand their updates to. They share a thread.
pub(super) struct Feed<'a, U: 'static> {
    events: &'a Events<U>,
    pub(super) telemetry: &'a Telemetry,
    /// Kinds of which no list has been taken in yet, though programming waits for it.
    awaited: RefCell<BTreeSet<Kind>>,
}

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Closed;

impl<'a, U: Vocabulary> Feed<'a, U> {
    pub(super) fn new(events: &'a Events<U>, telemetry: &'a Telemetry, resources: &[Resource]) -> Self {
        let awaited = resources.iter().filter(|resource| resource.is_awaited).map(|resource| resource.kind);
        Self { events, telemetry, awaited: RefCell::new(awaited.collect()) }
    }

    /// Hands on updates, as one transaction.
    pub(super) fn put(&self, updates: Vec<U>) -> Result<(), Closed> {
        self.send(Event::Updates(updates))
    }

    /// A full list of a kind has been handed on.
    pub(super) fn listed(&self, kind: Kind) -> Result<(), Closed> {
        self.telemetry.metrics.listed(kind);
        let mut awaited = self.awaited.borrow_mut();
        if awaited.remove(&kind) && awaited.is_empty() {
            return self.send(Event::Synced);
        }
        Ok(())
    }

    fn send(&self, event: Event<U>) -> Result<(), Closed> {
        if self.events.put(event) { Ok(()) } else { Err(Closed) }
    }
}
