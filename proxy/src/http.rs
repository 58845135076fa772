//! Answering HTTP, within bounds: clients may be anybody.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A client that has not sent its request by then is cut off.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long one that asks once may take in all.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// The longest head of a request.
const LONGEST_HEAD: usize = 16 << 10;
/// Between attempts to accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What clients may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections served at once; further ones wait.
    pub(crate) connections: usize,
    /// Whether a connection may ask more than once.
    pub(crate) keep_alive: bool,
}

/// Answers every client that comes. Connections end when this is dropped.
pub(crate) async fn serve_all<S, A, F>(accept: impl AsyncFn() -> io::Result<S>, bounds: Bounds, answer: A)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(&Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok(stream) = accept().await else {
            // Out of descriptors, most likely: some will come free.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let answer = answer.clone();
        connections.spawn(async move {
            serve(stream, bounds.keep_alive, answer).await;
            drop(permit);
        });
    }
}

async fn serve<S, A, F>(stream: S, keep_alive: bool, answer: A)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(&Request<Incoming>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let answer = service_fn(|request| {
        let response = answer(&request);
        async { Ok::<_, Infallible>(response.await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(REQUEST_WITHIN);
    server.max_buf_size(LONGEST_HEAD).keep_alive(keep_alive);
    let connection = server.serve_connection(TokioIo::new(stream), answer);
    // A client that goes away is its own business.
    match keep_alive {
        true => drop(connection.await),
        false => drop(tokio::time::timeout(ANSWERED_WITHIN, connection).await),
    }
}

/// An answer that browsers take for what it says it is, and nothing else.
pub(crate) fn respond(
    status: StatusCode,
    kind: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
