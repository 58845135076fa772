//! A layer of the client that counts the requests which pass through it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::{Request, Response};
use tower::{Layer, Service};

use crate::telemetry::Requests;

/// Counts.
pub(super) struct CountedBy {
    pub(super) requests: Requests,
    /// Where the requests go.
    pub(super) host: String,
}

impl<S> Layer<S> for CountedBy {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.requests.clone(), host: self.host.as_str().into() }
    }
}

/// A way to the server whose requests are counted.
pub(super) struct Counted<S> {
    inner: S,
    requests: Requests,
    host: Arc<str>,
}

impl<S, B, C> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (requests, host) = (self.requests.clone(), Arc::clone(&self.host));
        let (method, began) = (request.method().clone(), Instant::now());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            requests.answered(method.as_str(), &host, status, began.elapsed());
            answer
        })
    }
}
