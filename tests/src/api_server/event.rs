//! Events that clients post: checked as the real server does, and kept for tests to read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::status::Status;

/// The largest event that is read.
const LARGEST: usize = 64 << 10;

/// All events that were posted.
#[derive(Debug, Default)]
pub(crate) struct Events {
    all: Mutex<Vec<Value>>,
    changed: Condvar,
    refused: AtomicBool,
}

impl Events {
    pub(crate) fn push(&self, event: Value) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.changed.notify_all();
    }

    pub(crate) fn refuse(&self, refuse: bool) {
        self.refused.store(refuse, Ordering::Relaxed);
    }

    /// Fails if they are refused.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        if self.refused.load(Ordering::Relaxed) { Err(Status::forbidden("events", "create")) } else { Ok(()) }
    }

    pub(crate) fn all(&self) -> Vec<Value> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until those that there are are as wanted; fails with them.
    pub(crate) fn wait(
        &self,
        patience: Duration,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>, Vec<Value>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(all, patience, |all| !wanted(all));
        let (all, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(all.clone()) } else { Ok(all.clone()) }
    }
}

/// Looks for an event by its reason.
pub(crate) fn of_reason<'a>(events: &'a [Value], reason: &str) -> Option<&'a Value> {
    events.iter().find(|event| event["reason"] == reason)
}

/// The namespace that a path takes events of.
pub(crate) fn namespace(path: &str) -> Option<&str> {
    path.strip_prefix("/apis/events.k8s.io/v1/namespaces/")?.strip_suffix("/events")
}

/// Reads an event, and refuses what kube-apiserver refuses.
pub(crate) async fn read(body: Incoming, namespace: &str) -> Result<Value, Status> {
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map_err(|error| Status::bad_request(error.to_string()))?.to_bytes();
    let event: Value =
        serde_json::from_slice(&body).map_err(|error| Status::bad_request(error.to_string()))?;
    check(&event, namespace).map_err(Status::unprocessable)?;
    Ok(event)
}

/// As `pkg/apis/core/validation/events.go` has it for new events.
fn check(event: &Value, namespace: &str) -> Result<(), String> {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
    for (path, most) in [
        ("/metadata/name", 253),
        ("/reportingController", 253),
        ("/reportingInstance", 128),
        ("/action", 128),
        ("/reason", 128),
        ("/eventTime", 64),
        ("/regarding/kind", 63),
        ("/regarding/name", 253),
    ] {
        if text(path).is_empty() || text(path).len() > most {
            return Err(format!("{path} is empty or longer than {most}: {event}"));
        }
    }
    if !matches!(text("/type"), "Normal" | "Warning") {
        return Err(format!("/type is neither Normal nor Warning: {event}"));
    }
    if text("/note").len() > 1024 {
        return Err(format!("/note is longer than 1024: {event}"));
    }
    // What has no namespace is told of in this one.
    let regarding = Some(text("/regarding/namespace")).filter(|name| !name.is_empty()).unwrap_or("default");
    if [text("/metadata/namespace"), regarding] != [namespace; 2] {
        return Err(format!("the namespace is not {namespace}: {event}"));
    }
    Ok(())
}
