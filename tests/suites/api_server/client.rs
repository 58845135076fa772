//! A plain client, and what tests need beside it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testbed::api_server::{ApiServer, Options};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub(super) const SERVICES: &str = "/api/v1/services";
/// Asks for a streaming list.
pub(super) const STREAMING: &str =
    "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
/// For what must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// For what must not happen.
pub(super) const QUIET: Duration = Duration::from_millis(300);

/// A plain client: a connection for each request.
pub(super) struct Client {
    pub(super) runtime: Runtime,
    server: String,
    connector: TlsConnector,
    pub(super) token: String,
}

pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Client {
    pub(super) fn new(server: &ApiServer) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.ca_certificate().as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            server: server.address().to_string(),
            connector: TlsConnector::from(Arc::new(config)),
            token: server.token(),
        })
    }

    pub(super) async fn send(&self, method: &str, path: &str) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect(&self.server).await.context("cannot connect")?;
        let name = ServerName::from(stream.peer_addr()?.ip());
        let stream = self.connector.connect(name, stream).await.context("no TLS")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.server);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
    }

    pub(super) fn wait<T>(&self, patience: Duration, what: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async { timeout(patience, what).await.context("nothing came")? })
    }

    /// A whole answer; bodies that are no JSON become strings.
    pub(super) fn ask(&self, method: &str, path: &str, patience: Duration) -> Result<Answer> {
        self.wait(patience, async {
            let response = self.send(method, path).await?;
            let (code, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.into_body().collect().await?.to_bytes();
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            Ok(Answer { code, headers, body: serde_json::from_slice(&body).unwrap_or_else(|_| text()) })
        })
    }

    pub(super) fn get(&self, path: &str) -> Result<Answer> {
        self.ask("GET", path, PATIENCE)
    }

    /// The body of a list.
    pub(super) fn list(&self, query: &str) -> Result<Value> {
        let answer = self.get(&format!("{SERVICES}?{query}"))?;
        ensure!(answer.code == 200, "{query}: {} {}", answer.code, answer.body);
        Ok(answer.body)
    }

    /// Fails unless the answer is a Status of this code and reason.
    pub(super) fn refused(&self, path: &str, code: u16, reason: &str) -> Result<Answer> {
        let answer = self.get(path)?;
        ensure!(
            answer.code == code && answer.body["kind"] == "Status",
            "{path}: {} {}",
            answer.code,
            answer.body
        );
        ensure!(answer.body["code"] == code && answer.body["reason"] == reason, "{path}: {}", answer.body);
        Ok(answer)
    }

    pub(super) fn watch(&self, query: &str) -> Result<Watch<'_>> {
        let body = self.wait(PATIENCE, async {
            let response = self.send("GET", &format!("{SERVICES}?{query}")).await?;
            ensure!(response.status() == 200, "{query}: {}", response.status());
            Ok(response.into_body())
        })?;
        Ok(Watch { client: self, body, read: Vec::new() })
    }

    /// The newest version.
    pub(super) fn version(&self) -> Result<u64> {
        version(&self.list("")?)
    }
}

pub(super) struct Watch<'a> {
    client: &'a Client,
    body: Incoming,
    pub(super) read: Vec<u8>,
}

impl Watch<'_> {
    /// The next line, or `None` at a clean end.
    pub(super) fn line(&mut self, patience: Duration) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.read.drain(..=end).collect()));
            }
            match self.client.wait(patience, async { Ok(self.body.frame().await.transpose()?) })? {
                Some(frame) => self.read.extend_from_slice(frame.data_ref().context("a trailer")?),
                None => return Ok(None),
            }
        }
    }

    pub(super) fn event(&mut self) -> Result<Value> {
        let line = self.line(PATIENCE)?.context("the watch ended")?;
        serde_json::from_slice(&line).with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&line)))
    }

    /// Fails unless the next event is this. Bookmarks have no name.
    pub(super) fn expect(&mut self, kind: &str, name: &str, at: u64) -> Result<Value> {
        let event = self.event()?;
        let metadata = &event["object"]["metadata"];
        let same = event["type"] == kind && metadata["name"].as_str().unwrap_or_default() == name;
        ensure!(same && metadata["resourceVersion"] == *at.to_string(), "{event}, not {kind} {name} at {at}");
        ensure!(event["object"]["kind"] == "Service", "{event} is of no kind");
        Ok(event)
    }

    pub(super) fn expect_error(&mut self, code: u16, reason: &str) -> Result<()> {
        let event = self.event()?;
        let object = &event["object"];
        ensure!(event["type"] == "ERROR" && object["kind"] == "Status", "{event} is no error");
        ensure!(object["code"] == code && object["reason"] == reason, "{event} is not {code} {reason}");
        self.expect_end()
    }

    pub(super) fn expect_end(&mut self) -> Result<()> {
        let line = self.line(PATIENCE)?;
        ensure!(line.is_none(), "{line:?} instead of the end");
        Ok(())
    }

    /// Fails unless the connection ends in the middle of something.
    pub(super) fn expect_break(&mut self) -> Result<()> {
        loop {
            match self.line(PATIENCE) {
                Ok(Some(_)) => {}
                Ok(None) => bail!("a clean end"),
                Err(error) if error.to_string().contains("nothing came") => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }
}

pub(super) fn start() -> Result<(ApiServer, Client)> {
    start_with(Options { bookmark_interval: Duration::from_secs(3600), ..Options::default() })
}

pub(super) fn start_with(options: Options) -> Result<(ApiServer, Client)> {
    let server = ApiServer::start(options)?;
    let client = Client::new(&server)?;
    Ok((server, client))
}

/// A Service with a label `run`.
pub(super) fn service(name: &str, run: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "test", "labels": { "run": run } },
        "spec": { "clusterIP": format!("10.0.0.{}", name.len()), "type": "ClusterIP" },
    })
}

pub(super) fn delete(server: &ApiServer, name: &str) -> Result<u64> {
    server.delete("Service", "test", name)
}

pub(super) fn version(object: &Value) -> Result<u64> {
    Ok(object["metadata"]["resourceVersion"].as_str().context("no version")?.parse()?)
}

pub(super) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}
