//! A page about this node's Services, for people and their browsers (`--status-page`). Read-only.
//!
//! `page.html`, `page.css` and `page.js` are the page; [`document`] puts them together, and it loads nothing else. What
//! it shows it asks for as JSON under the same path. [`gather`] takes the Services and their connections from the rest of
//! the process on a thread of its own, only while somebody looks and not too often, so that neither a probe nor a sync
//! is kept waiting; `assess`, `list` and `detail` make of it what is shown, and are pure.

mod assess;
mod detail;
mod document;
mod gather;
mod guard;
mod list;
mod overview;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode, Uri};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::status::Reporter;
use document::DOCUMENT;
use gather::Gatherer;

/// Where the page is.
const PATH: &str = "/status-page";

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Lets no other site embed what is answered.
const OWN_SITE_ONLY: (HeaderName, HeaderValue) =
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));

/// The page and what it shows.
#[derive(Debug)]
pub(super) struct StatusPage {
    reporter: Arc<Reporter>,
    gatherer: Gatherer,
    /// Whether it is meant for browsers on this machine alone.
    loopback: bool,
}

impl StatusPage {
    /// Gathers nothing before somebody looks. `loopback` says whether it is served on a loopback address; the runtime is
    /// the one that serves it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(reporter: Arc<Reporter>, loopback: bool, runtime: Handle) -> anyhow::Result<Self> {
        let asked = Arc::clone(&reporter);
        let gatherer = Gatherer::start(move || gather::snapshot(&asked, &runtime));
        let gatherer = gatherer.context("cannot start a thread for the status page")?;
        Ok(Self { reporter, gatherer, loopback })
    }

    /// The answer to a request, if it is for the page.
    pub(super) fn answer(&self, uri: &Uri, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let rest = uri.path().strip_prefix(PATH).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let host = headers.get(HOST).map(HeaderValue::as_bytes);
        if self.loopback && !host.is_none_or(guard::is_of_this_machine) {
            let advice =
                "ask for this page as localhost or by address, not by a name that anybody may give it\n";
            return Some(respond(StatusCode::MISDIRECTED_REQUEST, PLAIN, advice));
        }
        let query = uri.query().unwrap_or_default();
        Some(match rest {
            "" | "/" => page(),
            "/overview" => json(&overview::overview(&self.reporter, self.gatherer.latest().as_deref())),
            "/services" => json(&list::list(self.gatherer.latest().as_deref(), &list::Query::read(query))),
            "/service" => self.service(query),
            _ => respond(StatusCode::NOT_FOUND, PLAIN, "no such page\n"),
        })
    }

    fn service(&self, query: &str) -> Response<Full<Bytes>> {
        let Some(snapshot) = self.gatherer.latest() else {
            return respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not gathered yet: ask again\n");
        };
        match detail::detail(&snapshot, &detail::Which::read(query)) {
            Some(detail) => json(&detail),
            None => respond(StatusCode::NOT_FOUND, PLAIN, "no such Service\n"),
        }
    }
}

fn page() -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::OK, HTML, DOCUMENT.html.as_str());
    if let Ok(policy) = HeaderValue::from_str(&DOCUMENT.policy) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => respond(StatusCode::OK, JSON, body),
        Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OWN_SITE_ONLY.0, OWN_SITE_ONLY.1);
    response
}
