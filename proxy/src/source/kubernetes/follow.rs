//! Following one kind of object: list, watch, and again when that breaks.

use std::time::{Duration, Instant};

use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::access::Access;
use super::failure::Failure;
use super::feed::{Closed, Feed};
use super::request::{self, Part, Start};
use super::resource::Resource;
use super::wire::{Happened, Named, Page};
use crate::backoff::Backoff;
use crate::source::{Text, Vocabulary};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A kind that the server does not know may come with an upgrade.
const UNKNOWN_KIND_WAIT: Duration = Duration::from_secs(60);
/// A watch that ends sooner and says nothing is not worth asking for again at once.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);
/// Objects asked for at once when a list comes in pages; client-go's figure.
const PAGE: u32 = 500;
/// How long the server is to keep a watch open, in seconds: spread, so that not all end at once.
const WATCH_SECONDS: std::ops::Range<u32> = 240..360;

/// Why a follower stopped.
enum End {
    Closed,
    Failed(Failure),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Follows a kind of object until nobody listens any more.
pub(super) async fn follow<U: Vocabulary>(
    resource: &Resource,
    access: &Access,
    silence: Duration,
    feed: &Feed<'_, U>,
) {
    let backoff = Backoff::spread(FIRST_WAIT, LONGEST_WAIT);
    let mut follower =
        Follower { resource, silence, feed, version: None, streaming: true, backoff, said: None };
    loop {
        let Err(End::Failed(failure)) = follower.attempt(access).await else { return };
        if follower.streaming && follower.version.is_none() && failure.may_be_for_streaming() {
            tracing::debug!("no streaming list of {}: {failure}", resource.kind.plural());
            follower.streaming = false;
            continue;
        }
        let wait = follower.take_in(&failure);
        tokio::time::sleep(wait).await;
    }
}

struct Follower<'a, U: 'static> {
    resource: &'a Resource,
    /// How long an open watch may say nothing.
    silence: Duration,
    feed: &'a Feed<'a, U>,
    /// Up to which version everything has been handed on; `None` if a list is needed.
    version: Option<String>,
    /// Whether the server may know streaming lists.
    streaming: bool,
    backoff: Backoff,
    /// What kind of failure was last told of: the same again is only a detail.
    said: Option<&'static str>,
}

impl<U: Vocabulary> Follower<'_, U> {
    /// Goes on from where it stands for as long as it can.
    async fn attempt(&mut self, access: &Access) -> Result<(), End> {
        let requests = &self.feed.telemetry.metrics.requests;
        let client = access.client_counted_by(requests).await.map_err(Failure::Access)?;
        if self.backoff.failures() > 0 && self.is_ahead_of(&client).await? {
            tracing::warn!(
                "the API server was taken back to an older state: listing {} again",
                self.resource.kind.plural()
            );
            self.version = None;
        }
        if self.version.is_none() && !self.streaming {
            self.list(&client).await?;
        }
        loop {
            self.watch(&client).await?;
        }
    }

    /// Whether we are at a version that the server has not reached: it was restored from a backup while it was away. A
    /// watch from there would be silent, not refused, until the version has been passed.
    async fn is_ahead_of(&self, client: &Client) -> Result<bool, Failure> {
        let Some(ours) = &self.version else { return Ok(false) };
        let text = request::page(client, self.resource, Part { limit: 1, after: None }, self.silence).await?;
        let page = Page::read(&text)?;
        let number = |version: &str| version.parse::<u64>().ok();
        Ok(number(ours) > number(&page.metadata.resource_version))
    }

    /// Draws what a failure means for the next attempt, and says how long to wait before it.
    fn take_in(&mut self, failure: &Failure) -> Duration {
        let (kind, kinds) = (self.resource.kind, self.resource.kind.plural());
        let news = self.said.replace(failure.reason()) != Some(failure.reason());
        let wait = self.backoff.next_wait().max(failure.retry_after().unwrap_or_default());
        let is_unknown = self.resource.is_new && failure.is_unknown_kind();
        let wait = if is_unknown { UNKNOWN_KIND_WAIT } else { wait };
        self.feed.telemetry.watch_failed(kind, failure.reason(), &failure.to_string());
        let advice = failure.advice(U::WHEN_FORBIDDEN);
        if failure.lost_its_place() {
            self.version = None;
            tracing::info!(
                "the API server cannot resume the watch of {kinds}, listing them again: {failure}"
            );
        } else if is_unknown && news {
            tracing::info!(retry_in = ?wait, "the API server does not know {kinds}");
        } else if news {
            tracing::warn!(retry_in = ?wait, "cannot follow {kinds}: {failure}{advice}");
        } else {
            tracing::debug!(retry_in = ?wait, failures = self.backoff.failures(), "cannot follow {kinds}: {failure}{advice}");
        }
        wait
    }

    /// The server is there and answers.
    fn heard(&mut self) {
        if self.backoff.failures() > 0 {
            tracing::info!("{} are followed again", self.resource.kind.plural());
        }
        self.backoff.reset();
        self.said = None;
        self.feed.telemetry.heard(self.resource.kind);
    }

    /// Takes in all objects, page by page.
    async fn list(&mut self, client: &Client) -> Result<(), End> {
        let mut updates = vec![U::list_begins(self.resource.kind)];
        let mut next = None;
        loop {
            let text =
                request::page(client, self.resource, Part { limit: PAGE, after: next.take() }, self.silence)
                    .await?;
            let page = Page::read(&text)?;
            updates.extend(page.items.iter().flatten().filter_map(|object| self.decode(object)));
            if page.metadata.next.is_empty() {
                updates.push(U::list_ends(self.resource.kind));
                self.feed.put(updates)?;
                self.version = Some(page.metadata.resource_version);
                break;
            }
            self.feed.put(std::mem::take(&mut updates))?;
            next = Some(page.metadata.next);
        }
        self.heard();
        Ok(self.feed.listed(self.resource.kind)?)
    }

    /// Takes in changes until the server ends the watch; before them, if no list has been taken in, all objects.
    async fn watch(&mut self, client: &Client) -> Result<(), End> {
        let opened = Instant::now();
        let start = self.version.as_deref().map_or(Start::Everything, Start::After);
        let mut lines =
            request::watch(client, self.resource, start, fastrand::u32(WATCH_SECONDS), self.silence).await?;
        let mut listing = self.version.is_none();
        let mut first = if listing { vec![U::list_begins(self.resource.kind)] } else { Vec::new() };
        let mut spoke = false;
        while let Some(text) = lines.next(self.silence).await? {
            self.take_lines(std::mem::take(&mut first), text, &mut listing)?;
            self.heard();
            spoke = true;
        }
        let worth_asking_again = spoke || opened.elapsed() > SHORTEST_WATCH;
        if worth_asking_again && !listing { Ok(()) } else { Err(Failure::Truncated.into()) }
    }

    /// Hands on `updates` and what the lines say. What comes before a line that is an error is as good as ever.
    fn take_lines(&mut self, mut updates: Vec<U>, text: &[u8], listing: &mut bool) -> Result<(), End> {
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let result = lines.try_for_each(|line| self.take_line(line, &mut updates, listing));
        // A bookmark alone is nothing to sync.
        if !updates.is_empty() {
            self.feed.put(updates)?;
        }
        result
    }

    fn take_line(&mut self, line: &[u8], updates: &mut Vec<U>, listing: &mut bool) -> Result<(), End> {
        let object = match Happened::read(line)? {
            Happened::Is(object) => {
                updates.extend(self.decode(object));
                if *listing {
                    return Ok(());
                }
                Named::read(object)?
            }
            Happened::Gone(object) => {
                updates.push(U::deleted(object.of(self.resource.kind)));
                object
            }
            Happened::Bookmark(object, ends_list) => {
                if *listing && ends_list {
                    *listing = false;
                    updates.push(U::list_ends(self.resource.kind));
                    self.feed.put(std::mem::take(updates))?;
                    self.feed.listed(self.resource.kind)?;
                }
                object
            }
        };
        // Within a list, which is in no order, no version says up to where everything has been handed on.
        if !*listing && !object.version().is_empty() {
            self.version = Some(object.version().to_owned());
        }
        Ok(())
    }

    /// The object, unless it cannot be read: then the others go on without it.
    fn decode(&self, object: &RawValue) -> Option<U> {
        match U::decode(self.resource.kind, Object(object))? {
            Ok((_, update)) => Some(update),
            Err(error) => {
                let name = Named::read(object).map(|named| named.of(self.resource.kind).to_string());
                let name = name.unwrap_or_else(|_| format!("a nameless {}", self.resource.kind));
                self.feed.telemetry.metrics.bad_object(self.resource.kind);
                tracing::warn!("{name} cannot be decoded and is left out: {error}");
                None
            }
        }
    }
}

/// An object as the server sent it.
#[derive(Clone, Copy)]
struct Object<'a>(&'a RawValue);

impl Text for Object<'_> {
    type Error = serde_json::Error;

    fn read<T: DeserializeOwned>(self) -> Result<T, Self::Error> {
        serde_json::from_str(self.0.get())
    }
}

#[cfg(test)]
mod tests {
    use endpoint_cache::Update;
    use endpoint_cache::object::Kind;

    use super::*;
    use crate::event_loop;
    use crate::source::{Event, Events};
    use crate::sync_loop::Input;
    use crate::telemetry::Telemetry;

    #[test]
    fn what_comes_before_an_object_that_makes_no_sense_is_handed_on() {
        let (inbox, inputs) = event_loop::channel();
        let (events, telemetry) = (Events::new(inbox), Telemetry::new(Duration::from_secs(60)));
        let resources = Update::resources("node");
        let feed = Feed::new(&events, &telemetry, &resources);
        let resource = resources.iter().find(|resource| resource.kind == Kind::Service).unwrap();
        let backoff = Backoff::spread(FIRST_WAIT, LONGEST_WAIT);
        let (silence, version) = (Duration::from_secs(1), Some("4".to_owned()));
        let mut follower =
            Follower { resource, silence, feed: &feed, version, streaming: true, backoff, said: None };
        let lines = concat!(
            r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"5"}}}"#,
            "\n",
            r#"{"type":"ADDED","object":{"metadata":7}}"#,
            "\n",
        );
        let result = follower.take_lines(Vec::new(), lines.as_bytes(), &mut false);
        assert!(matches!(result, Err(End::Failed(Failure::Garbage(_)))));
        assert_eq!(follower.version.as_deref(), Some("5"));
        let Ok(Input::Event(Event::Updates(updates))) = inputs.try_recv() else {
            panic!("nothing was handed on")
        };
        assert!(matches!(&updates[..], [Update::Service(service)] if service.metadata.name == "a"));
    }
}
