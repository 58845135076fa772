//! Metrics, health and status over HTTP, on a thread of their own: a sync under way must not keep a probe waiting.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{Probe, Telemetry, pages};
use crate::status::Reporter;

/// Connections served at once on an address; further ones wait.
const CONNECTIONS: usize = 64;
/// A client that has not sent its request by then is cut off.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Between attempts to bind: what is being replaced may still hold the address.
const BIND_AGAIN: Duration = Duration::from_secs(1);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Where to answer; `None` for not at all.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// `/healthz` and `/livez`
    pub(crate) health: Option<SocketAddr>,
    /// `/metrics`, `/proxyMode`, `/configz`, `/flagz`, `/statusz` and a bare `/healthz`
    pub(crate) metrics: Option<SocketAddr>,
    /// `/status`
    pub(crate) status: Option<StdUnixListener>,
}

/// What an address answers.
#[derive(Clone, Copy, Debug)]
enum Role {
    Health,
    Metrics,
    Status,
}

/// Starts to answer. An address that is taken is tried again until it is free.
///
/// # Errors
/// When the thread or its reactor cannot be started.
pub(crate) fn serve(endpoints: Endpoints, reporter: Reporter) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a reactor")?;
    let reporter = Arc::new(reporter);
    let work = move || {
        runtime.block_on(async {
            let health = listen(endpoints.health, Role::Health, &reporter);
            let metrics = listen(endpoints.metrics, Role::Metrics, &reporter);
            let status = listen_here(endpoints.status, &reporter);
            tokio::join!(health, metrics, status);
        });
    };
    thread::Builder::new().name("telemetry".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(())
}

async fn listen(address: Option<SocketAddr>, role: Role, reporter: &Arc<Reporter>) {
    let Some(address) = address else { return };
    let listener = bind(address).await;
    serve_all(async || Ok(listener.accept().await?.0), role, reporter).await;
}

async fn listen_here(socket: Option<StdUnixListener>, reporter: &Arc<Reporter>) {
    let Some(socket) = socket else { return };
    let made = socket.set_nonblocking(true).and_then(|()| UnixListener::from_std(socket));
    match made {
        Ok(listener) => serve_all(async || Ok(listener.accept().await?.0), Role::Status, reporter).await,
        Err(error) => tracing::warn!("pointsman status is not answered: {error}"),
    }
}

/// Answers every client that comes.
async fn serve_all<S>(accept: impl AsyncFn() -> io::Result<S>, role: Role, reporter: &Arc<Reporter>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok(stream) = accept().await else {
            // Out of descriptors, most likely: some will come free.
            tokio::time::sleep(BIND_AGAIN).await;
            continue;
        };
        let reporter = Arc::clone(reporter);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let response = answer(&request, role, &reporter);
                async { Ok::<_, Infallible>(response) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(REQUEST_WITHIN);
            // A client that goes away is its own business.
            drop(server.serve_connection(TokioIo::new(stream), answer).await);
            drop(permit);
        });
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if told => tracing::debug!("cannot listen on {address}: {error}"),
            Err(error) => tracing::warn!("cannot listen on {address}: {error}; trying on"),
        }
        told = true;
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

fn answer(request: &Request<Incoming>, role: Role, reporter: &Reporter) -> Response<Full<Bytes>> {
    let telemetry: &Telemetry = &reporter.telemetry;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
    }
    match (role, request.uri().path()) {
        (Role::Health, path @ ("/healthz" | "/livez")) => {
            let verdict = telemetry.health.verdict(Instant::now());
            let status = if verdict.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let probe = if path == "/livez" { Probe::Livez } else { Probe::Healthz };
            telemetry.metrics.probed(probe, status.as_u16());
            respond(status, JSON, serde_json::to_string(&verdict).unwrap_or_default())
        }
        (Role::Metrics, "/metrics") => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let page = telemetry.metrics.page(accept);
            respond(StatusCode::OK, HeaderValue::from_static(page.content_type), page.text)
        }
        (Role::Metrics, "/proxyMode") => respond(StatusCode::OK, PLAIN, reporter.mode),
        (Role::Metrics, "/configz") => {
            respond(StatusCode::OK, JSON, pages::configuration(&reporter.in_force.get()))
        }
        (Role::Metrics, "/flagz") => respond(StatusCode::OK, PLAIN, pages::flags(&reporter.flags)),
        (Role::Metrics, "/statusz") => respond(StatusCode::OK, PLAIN, pages::status(&reporter.status())),
        (Role::Metrics, "/healthz") => respond(StatusCode::OK, PLAIN, "ok"),
        (Role::Status, "/status") => {
            respond(StatusCode::OK, JSON, serde_json::to_string(&reporter.status()).unwrap_or_default())
        }
        _ => respond(StatusCode::NOT_FOUND, PLAIN, "no such page\n"),
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
