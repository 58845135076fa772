//! Watches.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{self, Instant, MissedTickBehavior};

use super::Shared;
use super::body::{PIECE, Piece};
use super::fault::{Fault, GARBAGE};
use super::kind;
use super::object::Object;
use super::query::Query;
use super::selector::Filter;
use super::status::Status;
use super::store::{Change, Store};

/// What a watch starts with.
pub(crate) struct Start {
    /// What there is, if the client wants to hear of that.
    initial: Vec<Arc<Object>>,
    /// Later changes are told.
    after: u64,
}

/// Finds out where a watch starts. A failure is told as an event, not as an answer.
pub(crate) fn start(store: &Store, kind: usize, query: &Query, refuse_future: bool) -> Result<Start, Status> {
    let current = store.version();
    let given = query.version.filter(|version| *version != 0);
    let streaming = query.initial_events == Some(true);
    if let Some(version) = given.filter(|version| *version > current && (streaming || refuse_future)) {
        return Err(Status::too_large(version, current));
    }
    if streaming || (given.is_none() && query.initial_events.is_none()) {
        let initial = store.at(kind, current, None, &query.filter).unwrap_or_default();
        return Ok(Start { initial: initial.into_iter().cloned().collect(), after: current });
    }
    let after = given.unwrap_or(current);
    if after < store.oldest(kind) {
        return Err(Status::too_old(after, store.oldest(kind)));
    }
    Ok(Start { initial: Vec::new(), after })
}

/// An open watch.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    kind: usize,
    filter: Filter,
    after: u64,
    bookmarks: bool,
    streaming: bool,
    end: Option<Instant>,
    changed: watch::Receiver<u64>,
    expiry: watch::Receiver<u64>,
    fault: watch::Receiver<Option<Fault>>,
    out: mpsc::Sender<Piece>,
}

/// The client is gone, or the watch is over.
struct Ended;

impl Watch {
    /// Makes one. It is told of everything from now on, so it must be made under the store's lock.
    pub(crate) fn new(shared: &Arc<Shared>, kind: usize, query: Query, out: mpsc::Sender<Piece>) -> Self {
        Self {
            kind,
            filter: query.filter,
            after: 0,
            bookmarks: query.bookmarks,
            streaming: query.initial_events == Some(true),
            end: query.timeout.map(|timeout| Instant::now() + timeout),
            changed: shared.changed.subscribe(),
            expiry: shared.expiry.subscribe(),
            fault: shared.fault.subscribe(),
            shared: Arc::clone(shared),
            out,
        }
    }

    /// Serves it until it ends.
    pub(crate) async fn run(mut self, start: Result<Start, Status>) {
        // However it ends: nobody is left to tell.
        let Err(Ended) = self.serve(start).await;
    }

    async fn serve(&mut self, start: Result<Start, Status>) -> Result<std::convert::Infallible, Ended> {
        if self.fault.borrow_and_update().is_some() {
            self.show_fault().await?;
        }
        let start = match start {
            Ok(start) => start,
            Err(status) => return self.fail(&status).await,
        };
        self.after = start.after;
        self.send_initial(&start.initial).await?;
        if self.streaming {
            self.send_bookmark(true).await?;
        }
        self.send_news().await?;
        self.follow().await
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, Ended> {
        let mut bookmarks =
            time::interval(self.shared.options.bookmark_interval.max(Duration::from_millis(1)));
        bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        bookmarks.reset();
        self.end_if_short().await?;
        let end = self.end;
        let ended = async move {
            match end {
                Some(end) => time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(ended);
        loop {
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(Ended),
                () = &mut ended => return Err(Ended),
                expired = self.expiry.changed() => {
                    expired.map_err(|_| Ended)?;
                    let status = Status::too_old(self.after, self.shared.store().version());
                    return self.fail(&status).await;
                }
                changed = self.fault.changed() => {
                    changed.map_err(|_| Ended)?;
                    self.show_fault().await?;
                    self.end_if_short().await?;
                    if *self.fault.borrow() != Some(Fault::Garbage) {
                        // What happened while there was garbage.
                        self.send_news().await?;
                    }
                }
                changed = self.changed.changed() => {
                    changed.map_err(|_| Ended)?;
                    self.send_news().await?;
                }
                _ = bookmarks.tick(), if self.bookmarks => {
                    self.send_news().await?;
                    self.send_bookmark(false).await?;
                }
            }
        }
    }

    async fn fail(&mut self, status: &Status) -> Result<std::convert::Infallible, Ended> {
        self.send(line("ERROR", &status.to_json())).await?;
        Err(Ended)
    }

    /// Does at once what a fault does to open watches.
    async fn show_fault(&mut self) -> Result<(), Ended> {
        let fault = *self.fault.borrow();
        match fault {
            Some(Fault::Garbage) => self.send(Bytes::from_static(GARBAGE)).await,
            Some(Fault::Truncated) => {
                let bookmark = self.bookmark(false);
                self.send(bookmark.slice(..bookmark.len() / 2)).await?;
                self.out.send(Piece::Break).await.map_err(|_| Ended)?;
                // The connection's end is this one's.
                self.out.closed().await;
                Err(Ended)
            }
            _ => Ok(()),
        }
    }

    async fn send_initial(&mut self, objects: &[Arc<Object>]) -> Result<(), Ended> {
        let mut piece = BytesMut::new();
        for object in objects {
            write_event(&mut piece, "ADDED", object, object.version);
            if piece.len() >= PIECE {
                self.send(piece.split().freeze()).await?;
            }
        }
        self.send(piece.freeze()).await
    }

    /// Ends with a bookmark, if watches are to be short.
    async fn end_if_short(&mut self) -> Result<(), Ended> {
        if *self.fault.borrow() != Some(Fault::ShortWatches) {
            return Ok(());
        }
        self.send_news().await?;
        self.send_bookmark(false).await?;
        Err(Ended)
    }

    /// Tells every change that was not told yet.
    async fn send_news(&mut self) -> Result<(), Ended> {
        loop {
            let news = self.shared.store().news(self.kind, self.after).ok_or(Ended)?;
            if *self.fault.borrow() == Some(Fault::Garbage) {
                let garbage = if news.changes.is_empty() { &[] } else { GARBAGE };
                return self.send(Bytes::from_static(garbage)).await;
            }
            let mut piece = BytesMut::new();
            for change in &news.changes {
                self.write_change(&mut piece, change);
                if piece.len() >= PIECE {
                    self.send(piece.split().freeze()).await?;
                }
            }
            self.after = news.version;
            self.send(piece.freeze()).await?;
            if news.changes.is_empty() {
                return Ok(());
            }
        }
    }

    /// What a change is to a client that sees only a part of all objects.
    fn write_change(&self, out: &mut BytesMut, change: &Change) {
        let seen = |object: &&Arc<Object>| self.filter.matches(object);
        match (change.old.as_ref().filter(seen), change.new.as_ref().filter(seen)) {
            (None, Some(new)) => write_event(out, "ADDED", new, change.version),
            (Some(_), Some(new)) => write_event(out, "MODIFIED", new, change.version),
            // As it was, with the version of its end.
            (Some(old), None) => write_event(out, "DELETED", old, change.version),
            (None, None) => {}
        }
    }

    async fn send_bookmark(&mut self, initial_end: bool) -> Result<(), Ended> {
        // The client claims to know more than the server: whatever is older than that, it does not hear of.
        let ahead = self.after > self.shared.store().version();
        if ahead || *self.fault.borrow() == Some(Fault::Garbage) {
            return Ok(());
        }
        self.send(self.bookmark(initial_end)).await
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let kind = &kind::ALL[self.kind];
        let mut metadata = json!({ "resourceVersion": self.after.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        line("BOOKMARK", &json!({ "kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata }))
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Ended> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.out.send(Piece::Data(bytes)).await.map_err(|_| Ended)
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{event}\",\"object\":{object}}}\n").into()
}

fn write_event(out: &mut BytesMut, event: &str, object: &Object, version: u64) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.write(out, version);
    out.extend_from_slice(b"}\n");
}
