//! Metrics, health and status over HTTP, on a thread of their own: a sync under way must not keep a probe waiting.

use std::future::ready;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::spawn_blocking;

use super::status_page::StatusPage;
use super::{Probe, Telemetry, pages};
use crate::http::{Bounds, JSON, respond, serve_all};
use crate::source::kubernetes::{News, Outlet};
use crate::status::Reporter;

/// What clients of an address may do.
const BOUNDS: Bounds = Bounds { connections: 64, keep_alive: true };
/// Between attempts to bind: what is being replaced may still hold the address.
const BIND_AGAIN: Duration = Duration::from_secs(1);

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Where to answer; `None` for not at all.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// `/healthz` and `/livez`
    pub(crate) health: Option<SocketAddr>,
    /// `/metrics`, `/proxyMode`, `/configz`, `/flagz`, `/statusz` and a bare `/healthz`
    pub(crate) metrics: Option<SocketAddr>,
    /// `/status`, `/view`, `/policies` and `/diff`
    pub(crate) status: Option<StdUnixListener>,
    /// Whether an address that is taken is an error (`--bind-address-hard-fail`), and not tried again until it is free.
    pub(crate) hard_fail: bool,
    /// Where it is told that an address is taken, besides in the log.
    pub(crate) outlet: Option<Outlet>,
    /// Whether there is a page for people beside the metrics (`--status-page`).
    pub(crate) status_page: bool,
}

/// An answer that may take a while.
type Answer = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

/// What an address answers.
#[derive(Clone, Copy, Debug)]
enum Role {
    Health,
    Metrics,
    Status,
}

impl Role {
    /// The reason of an event about an address of it that is taken, in kube-proxy's words.
    fn failure(self) -> &'static str {
        match self {
            Self::Health => "FailedToStartProxierHealthcheck",
            Self::Metrics | Self::Status => "FailedToStartMetricServer",
        }
    }

    /// The flag that gives its address.
    fn flag(self) -> &'static str {
        match self {
            Self::Health => "--healthz-bind-address",
            Self::Metrics => "--metrics-bind-address",
            Self::Status => "--socket",
        }
    }
}

/// An address to answer on.
#[derive(Debug)]
enum Place {
    /// Bound already.
    Bound(StdTcpListener),
    /// To be tried until it is free.
    Wanted(SocketAddr),
}

/// Starts to answer. An address that is taken is tried again until it is free, unless that is to be an error.
///
/// # Errors
/// When the thread or its reactor cannot be started, or an address not be had that has to be.
pub(crate) fn serve(endpoints: Endpoints, reporter: Reporter) -> anyhow::Result<()> {
    let Endpoints { health, metrics, status, hard_fail, outlet, status_page } = endpoints;
    let page_at = metrics.filter(|_| status_page);
    let health = health.map(|address| place(address, Role::Health, hard_fail)).transpose()?;
    let metrics = metrics.map(|address| place(address, Role::Metrics, hard_fail)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a reactor")?;
    let reporter = Arc::new(reporter);
    let start = |at: SocketAddr| {
        StatusPage::start(Arc::clone(&reporter), at.ip().is_loopback(), runtime.handle().clone())
            .map(Arc::new)
    };
    let page = page_at.map(start).transpose()?;
    let work = move || {
        runtime.block_on(async {
            let outlet = outlet.as_ref();
            let health = listen(health, Role::Health, &reporter, outlet, None);
            let metrics = listen(metrics, Role::Metrics, &reporter, outlet, page);
            let status = listen_here(status, &reporter);
            tokio::join!(health, metrics, status);
        });
    };
    thread::Builder::new().name("telemetry".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(())
}

fn place(address: SocketAddr, role: Role, hard_fail: bool) -> anyhow::Result<Place> {
    if !hard_fail {
        return Ok(Place::Wanted(address));
    }
    let bound = StdTcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(Place::Bound(listener))
    });
    bound.with_context(|| {
        format!("cannot listen on {address} ({}), and --bind-address-hard-fail is set", role.flag())
    })
}

async fn listen(
    place: Option<Place>,
    role: Role,
    reporter: &Arc<Reporter>,
    outlet: Option<&Outlet>,
    page: Option<Arc<StatusPage>>,
) {
    let listener = match place {
        None => return,
        Some(Place::Wanted(address)) => bind(address, role, outlet).await,
        Some(Place::Bound(listener)) => match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!("{} is not answered on: {error}", role.flag()),
        },
    };
    serve_all(async || Ok(listener.accept().await?.0), BOUNDS, answers(role, reporter, page)).await;
}

/// What answers in a role.
fn answers(
    role: Role,
    reporter: &Arc<Reporter>,
    page: Option<Arc<StatusPage>>,
) -> impl Fn(&Request<Incoming>) -> Answer + Clone + Send + Sync + 'static {
    let reporter = Arc::clone(reporter);
    move |request| match (role, request.method(), request.uri().path()) {
        (Role::Status, &Method::GET, "/view") => Box::pin(answer_view(Arc::clone(&reporter))),
        (Role::Status, &Method::GET, "/policies") => Box::pin(answer_policies(Arc::clone(&reporter))),
        (Role::Status, &Method::GET, "/diff") => Box::pin(answer_diff(Arc::clone(&reporter))),
        _ => Box::pin(ready(answer(request, role, &reporter, page.as_deref()))),
    }
}

/// The kernel is read for it.
async fn answer_diff(reporter: Arc<Reporter>) -> Response<Full<Bytes>> {
    match reporter.diff().await {
        Ok(diff) => respond(StatusCode::OK, JSON, serde_json::to_vec(&diff).unwrap_or_default()),
        Err(error) => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{error:#}\n")),
    }
}

/// What only the sync loop knows is waited for.
async fn answer_view(reporter: Arc<Reporter>) -> Response<Full<Bytes>> {
    respond_at_leisure(reporter.view().await).await
}

/// What only the policy loop knows is waited for.
async fn answer_policies(reporter: Arc<Reporter>) -> Response<Full<Bytes>> {
    respond_at_leisure(reporter.policy_view().await).await
}

async fn respond_at_leisure<T: Serialize + Send + 'static>(
    answer: anyhow::Result<T>,
) -> Response<Full<Bytes>> {
    let view = match answer {
        Ok(view) => view,
        Err(error) => return respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{error:#}\n")),
    };
    // A large cluster's takes a while to be written.
    let written = spawn_blocking(move || serde_json::to_vec(&view)).await;
    respond(StatusCode::OK, JSON, written.map(Result::unwrap_or_default).unwrap_or_default())
}

async fn listen_here(socket: Option<StdUnixListener>, reporter: &Arc<Reporter>) {
    let Some(socket) = socket else { return };
    let made = socket.set_nonblocking(true).and_then(|()| UnixListener::from_std(socket));
    match made {
        Ok(listener) => {
            let answers = answers(Role::Status, reporter, None);
            serve_all(async || Ok(listener.accept().await?.0), BOUNDS, answers).await;
        }
        Err(error) => tracing::warn!("pointsman status is not answered: {error}"),
    }
}

async fn bind(address: SocketAddr, role: Role, outlet: Option<&Outlet>) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if told => tracing::debug!("cannot listen on {address}: {error}"),
            Err(error) => {
                let message = format!("cannot listen on {address} ({}): {error}; trying on", role.flag());
                tracing::warn!("{message}");
                if let Some(outlet) = outlet {
                    outlet.post(News::node_warning(role.failure(), message));
                }
            }
        }
        told = true;
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

fn answer(
    request: &Request<Incoming>,
    role: Role,
    reporter: &Reporter,
    page: Option<&StatusPage>,
) -> Response<Full<Bytes>> {
    let telemetry: &Telemetry = &reporter.telemetry;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
    }
    if let Some(answer) = page.and_then(|page| page.answer(request.uri(), request.headers())) {
        return answer;
    }
    match (role, request.uri().path()) {
        (Role::Health, "/healthz") => respond_health(telemetry, Probe::Healthz),
        (Role::Health, "/livez") => respond_health(telemetry, Probe::Livez),
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
        (Role::Metrics, "/statusz") => {
            respond(StatusCode::OK, PLAIN, pages::status(&reporter.status(), page.is_some()))
        }
        (Role::Metrics, "/healthz") => respond(StatusCode::OK, PLAIN, "ok"),
        (Role::Status, "/status") => {
            respond(StatusCode::OK, JSON, serde_json::to_string(&reporter.status()).unwrap_or_default())
        }
        _ => respond(StatusCode::NOT_FOUND, PLAIN, "no such page\n"),
    }
}

fn respond_health(telemetry: &Telemetry, probe: Probe) -> Response<Full<Bytes>> {
    let verdict = telemetry.health.verdict(probe, Instant::now());
    let status = if verdict.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    telemetry.metrics.probed(probe, status.as_u16());
    respond(status, JSON, serde_json::to_string(&verdict).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_an_error_only_if_it_has_to_be_had() {
        let taken = StdTcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = taken.local_addr().unwrap();
        assert!(
            matches!(place(address, Role::Health, false), Ok(Place::Wanted(wanted)) if wanted == address)
        );
        let error = format!("{:#}", place(address, Role::Metrics, true).unwrap_err());
        assert!(error.contains("--metrics-bind-address") && error.contains("in use"), "{error}");
        drop(taken);
        assert!(matches!(place(address, Role::Health, true), Ok(Place::Bound(_))));
    }
}
