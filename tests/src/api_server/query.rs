//! What a request asks for, and whether that makes sense.

use std::time::Duration;

use super::selector::{self, Filter};
use super::status::Status;

/// The query of a list or watch.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) watch: bool,
    pub(crate) filter: Filter,
    /// As it was given; `None` if it was not, or empty.
    pub(crate) version: Option<u64>,
    pub(crate) version_match: Option<String>,
    pub(crate) limit: usize,
    pub(crate) continue_token: Option<String>,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout: Option<Duration>,
}

impl Query {
    /// Reads the part of an address behind `?`.
    pub(crate) fn parse(query: &str) -> Result<Self, Status> {
        let mut parsed = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let given = (!value.is_empty()).then(|| value.clone().into_owned());
            match &*key {
                "watch" => parsed.watch = truth(&value),
                "allowWatchBookmarks" => parsed.bookmarks = truth(&value),
                "sendInitialEvents" => parsed.initial_events = given.as_deref().map(truth),
                "labelSelector" => parsed.filter.labels = selector::labels(&value)?,
                "fieldSelector" => parsed.filter.fields = selector::fields(&value)?,
                "resourceVersion" => parsed.version = number(&key, given.as_deref())?,
                "resourceVersionMatch" => parsed.version_match = given,
                "continue" => parsed.continue_token = given,
                "limit" => {
                    let limit = number(&key, given.as_deref())?.unwrap_or(0);
                    parsed.limit = usize::try_from(limit).unwrap_or(usize::MAX);
                }
                "timeoutSeconds" => {
                    let seconds = number(&key, given.as_deref())?.filter(|seconds| *seconds > 0);
                    parsed.timeout = seconds.map(Duration::from_secs);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Refuses what the real server refuses, and a streaming list that would never say where it ends.
    pub(crate) fn check(&self, streaming_lists: bool) -> Result<(), Status> {
        const INITIAL: &str = "sendInitialEvents";
        const MATCH: &str = "resourceVersionMatch";
        let matches = self.version_match.as_deref();
        if matches.is_some_and(|given| given != "Exact" && given != "NotOlderThan") {
            return Err(Status::invalid(MATCH, "supported values: \"Exact\", \"NotOlderThan\""));
        }
        if !self.watch {
            return match (self.initial_events, matches) {
                (Some(_), _) => Err(Status::invalid(INITIAL, "sendInitialEvents is forbidden for list")),
                (_, Some(_)) if self.continue_token.is_some() => {
                    Err(Status::invalid(MATCH, "resourceVersionMatch is forbidden when continue is provided"))
                }
                (_, Some(_)) if self.version.is_none() => {
                    let problem = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                    Err(Status::invalid(MATCH, problem))
                }
                (_, Some("Exact")) if self.version == Some(0) => {
                    let problem = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                    Err(Status::invalid(MATCH, problem))
                }
                _ => Ok(()),
            };
        }
        match (self.initial_events, matches) {
            (Some(_), _) if !streaming_lists => {
                let problem =
                    "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
                Err(Status::invalid(INITIAL, problem))
            }
            (Some(_), Some("NotOlderThan")) if self.initial_events == Some(true) && !self.bookmarks => {
                Err(Status::invalid(INITIAL, "sendInitialEvents requires allowWatchBookmarks"))
            }
            (Some(_), Some("NotOlderThan")) | (None, None) => Ok(()),
            (Some(_), _) => {
                let problem = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                Err(Status::invalid(MATCH, problem))
            }
            (None, Some(_)) => {
                let problem =
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                Err(Status::invalid(MATCH, problem))
            }
        }
    }
}

/// The real server takes everything but these for true.
fn truth(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

fn number(key: &str, value: Option<&str>) -> Result<Option<u64>, Status> {
    let parse = |value: &str| {
        value.parse().map_err(|_| Status::bad_request(format!("{key}: Invalid value: {value:?}: no number")))
    };
    value.map(parse).transpose()
}
