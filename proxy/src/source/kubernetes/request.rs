//! Asking the API server: requests, and the bytes of the answer, both bounded in time and size.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use tokio::time::timeout;

use super::failure::Failure;
use super::resource::Resource;

/// The largest page, and the largest line of a watch. An object has at most 1.5 MB.
const LARGEST_PAGE: usize = 256 << 20;
const LARGEST_LINE: usize = 16 << 20;
/// The server ends a request by itself after a minute.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);
/// What is read of an answer that tells why there is none.
const LARGEST_REFUSAL: usize = 64 << 10;

/// Where a watch begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    /// With everything there is, and a mark at its end.
    Everything,
    /// After this version.
    After(&'a str),
}

/// Which part of a list is asked for.
#[derive(Debug)]
pub(super) struct Part {
    /// At most so many objects.
    pub(super) limit: u32,
    /// After the page that said this.
    pub(super) after: Option<String>,
}

/// A page of a list, as text.
pub(super) async fn page(
    client: &Client,
    resource: &Resource,
    part: Part,
    silence: Duration,
) -> Result<Vec<u8>, Failure> {
    let params = ListParams {
        label_selector: resource.labels.map(str::to_owned),
        field_selector: resource.fields.clone(),
        limit: Some(part.limit),
        continue_token: part.after,
        ..ListParams::default()
    };
    let request = Request::new(resource.path).list(&params);
    let request = request.map_err(|error| Failure::Connection(kube::Error::BuildRequest(error)))?;
    let read = async {
        let mut lines = Lines::new(send(client, request).await?);
        while lines.fill(LARGEST_PAGE).await? {}
        Ok(lines.buffer)
    };
    answered(read, silence).await
}

/// Opens a watch, which the server ends by itself after `seconds`.
pub(super) async fn watch(
    client: &Client,
    resource: &Resource,
    start: Start<'_>,
    seconds: u32,
    silence: Duration,
) -> Result<Lines, Failure> {
    let params = WatchParams {
        label_selector: resource.labels.map(str::to_owned),
        field_selector: resource.fields.clone(),
        timeout: Some(seconds),
        bookmarks: true,
        send_initial_events: matches!(start, Start::Everything),
    };
    let version = match start {
        Start::Everything => "",
        Start::After(version) => version,
    };
    let request = Request::new(resource.path).watch(&params, version);
    let request = request.map_err(|error| Failure::Connection(kube::Error::BuildRequest(error)))?;
    answered(send(client, request), silence).await.map(Lines::new)
}

/// An answer, if it comes in time.
async fn answered<T>(
    answer: impl Future<Output = Result<T, Failure>>,
    silence: Duration,
) -> Result<T, Failure> {
    let within = silence.min(LONGEST_ANSWER);
    timeout(within, answer).await.unwrap_or(Err(Failure::Silent(within)))
}

async fn send(client: &Client, request: hyper::Request<Vec<u8>>) -> Result<Body, Failure> {
    let response = client.send(request.map(Body::from)).await.map_err(Failure::Connection)?;
    if response.status().is_success() { Ok(response.into_body()) } else { Err(refusal(response).await) }
}

/// What the server says in place of an answer. A proxy in between may say it in its own words.
async fn refusal(response: Response<Body>) -> Failure {
    let code = response.status().as_u16();
    let retry_after = response.headers().get(hyper::header::RETRY_AFTER);
    let retry_after =
        retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let mut lines = Lines::new(response.into_body());
    while lines.buffer.len() < LARGEST_REFUSAL && lines.fill(LARGEST_LINE).await.is_ok_and(|more| more) {}
    let mut status: Status = serde_json::from_slice(&lines.buffer)
        .unwrap_or_else(|_| Status::failure(&String::from_utf8_lossy(&lines.buffer), ""));
    status.code = code;
    Failure::Refused { status: Box::new(status), retry_after }
}

/// An answer, line by line.
pub(super) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// How much of the buffer has been handed out.
    taken: usize,
}

impl Lines {
    fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new(), taken: 0 }
    }

    /// Waits for whole lines and returns all that are there, or `None` at the end of the answer.
    pub(super) async fn next(&mut self, silence: Duration) -> Result<Option<&[u8]>, Failure> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let silent = || Failure::Silent(silence);
        let whole = timeout(silence, self.fill_line()).await.map_err(|_| silent())??;
        self.taken = whole;
        Ok((whole > 0).then(|| &self.buffer[..whole]))
    }

    /// Reads until the buffer holds a whole line; returns where its last whole line ends, 0 at the end of the answer.
    async fn fill_line(&mut self) -> Result<usize, Failure> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().rposition(|byte| *byte == b'\n') {
                return Ok(searched + end + 1);
            }
            searched = self.buffer.len();
            if !self.fill(LARGEST_LINE).await? {
                return if self.buffer.is_empty() { Ok(0) } else { Err(Failure::Truncated) };
            }
        }
    }

    /// Reads some more; false at the end of the answer.
    async fn fill(&mut self, most: usize) -> Result<bool, Failure> {
        loop {
            if self.buffer.len() > most {
                return Err(Failure::TooLarge(most));
            }
            match self.body.frame().await {
                None => return Ok(false),
                Some(Err(error)) => return Err(Failure::Broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                        return Ok(true);
                    }
                }
            }
        }
    }
}
