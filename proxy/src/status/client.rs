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
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Status;

/// How long the answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// How long it may be. A hundred thousand targets are some 40 MB.
const LARGEST: usize = 256 << 20;

/// What the process that listens there tells.
pub(super) fn ask(socket: &Path) -> anyhow::Result<Status> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a reactor")?;
    let answer = runtime.block_on(async { timeout(WITHIN, exchange(socket)).await });
    let body = answer.map_err(|_| anyhow!("no answer at {} for {WITHIN:?}", socket.display()))??;
    serde_json::from_slice(&body)
        .with_context(|| format!("the answer at {} is not pointsman's", socket.display()))
}

async fn exchange(socket: &Path) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/status").header(hyper::header::HOST, "pointsman");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?);
    let answer = async {
        let answer = answer.await?;
        ensure!(answer.status() == StatusCode::OK, "{} answers {}", socket.display(), answer.status());
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        Ok(body.map_err(|error| anyhow!("{} answers too much: {error}", socket.display()))?.to_bytes())
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
