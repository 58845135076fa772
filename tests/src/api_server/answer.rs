//! From a request to its answer.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;

use super::Shared;
use super::body::Body;
use super::connection::{Breaker, not_hanging};
use super::event;
use super::fault::{Fault, GARBAGE};
use super::kind::{self, Target};
use super::list::list;
use super::object::Key;
use super::patch;
use super::query::Query;
use super::server::Shown;
use super::status::Status;
use super::watch::{self, Watch};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers a request.
pub(crate) async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    breaker: Arc<Breaker>,
) -> Result<Response<Body>, Infallible> {
    shared.record(format!("{} {}", request.method(), request.uri()));
    let mut fault = shared.fault.subscribe();
    not_hanging(&mut fault).await;
    let fault = *fault.borrow();
    let answer = match fault {
        Some(Fault::TooManyRequests) => {
            let mut answer = plain(429, TEXT, "Too many requests, please try again later.\n");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
        Some(Fault::InternalError) => refusal(&Status::internal()),
        _ => route(request, &shared, &breaker).await.unwrap_or_else(|status| refusal(&status)),
    };
    Ok(match fault {
        Some(Fault::Garbage) if !is_watch(&answer) => plain(200, JSON, GARBAGE),
        Some(Fault::Truncated) if !is_watch(&answer) => {
            answer.map(|body| Body::Half { of: Box::new(body), breaker })
        }
        _ => answer,
    })
}

/// Open watches show their faults themselves.
fn is_watch(answer: &Response<Body>) -> bool {
    matches!(answer.body(), Body::Watch { .. })
}

async fn route(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
    breaker: &Arc<Breaker>,
) -> Result<Response<Body>, Status> {
    let given = request.headers().get(AUTHORIZATION);
    let has_token =
        given.is_some_and(|given| given.as_bytes() == format!("Bearer {}", shared.token()).as_bytes());
    let shown = request.extensions().get::<Shown>();
    let authorized = has_token || shown.is_some_and(|shown| shared.knows(shown));
    // These need no token; a wrong one is wrong everywhere.
    if authorized || given.is_none() {
        match request.uri().path() {
            "/healthz" | "/livez" | "/readyz" => return Ok(plain(200, TEXT, "ok")),
            "/version" => return Ok(version()),
            _ => {}
        }
    }
    if !authorized {
        return Err(Status::unauthorized());
    }
    if request.method() == Method::POST
        && let Some(namespace) = event::namespace(request.uri().path()).map(str::to_owned)
    {
        shared.events.admit()?;
        let event = event::read(request.into_body(), &namespace).await?;
        shared.events.push(event.clone());
        return Ok(plain(201, JSON, event.to_string()));
    }
    if request.method() == Method::PATCH {
        return patched(request, shared).await;
    }
    if request.method() != Method::GET {
        return Err(Status::method_not_allowed());
    }
    let target = kind::target(request.uri().path())
        .filter(|target| shared.options.service_cidrs || kind::ALL[target.kind].name != kind::SERVICE_CIDR);
    if let Some(plural) = target.as_ref().map(|target| kind::ALL[target.kind].plural)
        && shared.options.forbidden.contains(&plural)
    {
        return Err(Status::forbidden(plural, "read"));
    }
    match target {
        // What the real server knows nothing of, it refuses in plain words.
        None => Ok(plain(404, TEXT, "404 page not found\n")),
        Some(Target { kind, namespace, name: Some(name) }) => get(shared, kind, namespace.as_deref(), &name),
        Some(Target { kind, namespace, name: None }) => {
            let mut query = Query::parse(request.uri().query().unwrap_or_default())?;
            query.check(shared.options.streaming_lists)?;
            query.filter.namespace = namespace;
            if query.watch {
                return Ok(open_watch(shared, kind, query, breaker));
            }
            Ok(response(200, JSON, Body::List(list(&shared.store(), kind, &query)?)))
        }
    }
}

async fn patched(request: Request<Incoming>, shared: &Shared) -> Result<Response<Body>, Status> {
    let target = kind::target(request.uri().path());
    let Some(Target { kind, namespace, name: Some(name) }) = target else {
        return Err(Status::method_not_allowed());
    };
    if shared.options.read_only.contains(&kind::ALL[kind].plural) {
        return Err(Status::forbidden(kind::ALL[kind].plural, "patch"));
    }
    let (head, body) = request.into_parts();
    let patch = patch::read(&head.headers, body).await?;
    let key = Key { namespace: namespace.unwrap_or_default().into(), name: name.into() };
    let object = shared.change(|store| patch::apply(store, kind, &key, patch))?;
    Ok(plain(200, JSON, object))
}

fn get(shared: &Shared, kind: usize, namespace: Option<&str>, name: &str) -> Result<Response<Body>, Status> {
    let key = Key { namespace: namespace.unwrap_or_default().into(), name: name.into() };
    let object = shared.store().get(kind, &key);
    let object = object.ok_or_else(|| Status::not_found(&kind::ALL[kind], name))?;
    Ok(plain(200, JSON, object.encoded()))
}

fn open_watch(shared: &Arc<Shared>, kind: usize, query: Query, breaker: &Arc<Breaker>) -> Response<Body> {
    let (out, pieces) = mpsc::channel(1);
    let (start, watch, open) = {
        let store = shared.store();
        let start = watch::start(&store, kind, &query, shared.options.refuse_future_watches);
        (start, Watch::new(shared, kind, query, out), shared.watches.open())
    };
    tokio::spawn(watch.run(start));
    response(200, JSON, Body::Watch { pieces, breaker: Arc::clone(breaker), _open: open })
}

fn version() -> Response<Body> {
    let version = json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64", "goVersion": "go1.25.0",
    });
    plain(200, JSON, version.to_string())
}

fn refusal(status: &Status) -> Response<Body> {
    let mut answer = plain(status.code, JSON, status.to_json().to_string());
    if !status.details["retryAfterSeconds"].is_null() {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

fn plain(code: u16, content_type: &'static str, body: impl AsRef<[u8]>) -> Response<Body> {
    response(code, content_type, Body::Whole(Some(Bytes::copy_from_slice(body.as_ref()))))
}

fn response(code: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
