//! The way from the followers to the sync loop.

use std::cell::RefCell;
use std::collections::BTreeSet;

use endpoint_cache::Update;
use endpoint_cache::object::Kind;

use crate::source::{Event, Events};
use crate::telemetry::Telemetry;

/// What all followers hand their updates to. They share a thread.
pub(super) struct Feed<'a> {
    events: &'a Events,
    pub(super) telemetry: &'a Telemetry,
    /// Kinds of which no list has been taken in yet, though programming waits for it.
    awaited: RefCell<BTreeSet<Kind>>,
}

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Closed;

impl<'a> Feed<'a> {
    pub(super) fn new(events: &'a Events, telemetry: &'a Telemetry) -> Self {
        let awaited = BTreeSet::from([Kind::Service, Kind::EndpointSlice]);
        Self { events, telemetry, awaited: RefCell::new(awaited) }
    }

    /// Hands on updates, as one transaction.
    pub(super) fn put(&self, updates: Vec<Update>) -> Result<(), Closed> {
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

    fn send(&self, event: Event) -> Result<(), Closed> {
        if self.events.put(event) { Ok(()) } else { Err(Closed) }
    }
}
