//! Asking a process over its socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long it may be. A hundred thousand targets are some 40 MB.
const LARGEST: usize = 256 << 20;

/// What the process that listens there tells on a page.
pub(crate) fn ask<T: DeserializeOwned>(socket: &Path, page: &str, within: Duration) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a reactor")?;
    let answer = runtime.block_on(async { timeout(within, exchange(socket, page)).await });
    let body = answer.map_err(|_| anyhow!("no answer at {} for {within:?}", socket.display()))??;
    serde_json::from_slice(&body)
        .with_context(|| format!("the answer at {} is not pointsman's", socket.display()))
}

async fn exchange(socket: &Path, page: &str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(page).header(hyper::header::HOST, "pointsman");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?);
    let answer = async {
        let answer = answer.await?;
        let (at, status) = (socket.display(), answer.status());
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| anyhow!("{at} answers too much: {error}"))?.to_bytes();
        let why = || String::from_utf8_lossy(&body).lines().next().unwrap_or_default().to_owned();
        ensure!(
            status != StatusCode::NOT_FOUND,
            "the pointsman at {at} does not know {page}: it is of an older version than this one"
        );
        ensure!(status == StatusCode::OK, "{at} answers {status}: {}", why());
        Ok(body)
    };
    tokio::select! {
        answer = answer => answer,
        // It ends before the answer does only if the process that is asked ends.
        _ = connection => bail!("{} was closed before it answered", socket.display()),
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> anyhow::Error {
    let at = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            anyhow!("no pointsman answers at {at}: start one, or say where it answers with --socket PATH")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!("you may not ask the pointsman at {at}: run this as the user that it runs as, or as root")
        }
        _ => anyhow!("cannot connect to {at}: {error}"),
    }
}
