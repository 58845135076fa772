//! The thread that serves: accepting, and doing what it is ordered.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::answer::answer;
use super::connection::{Breaker, Faulty, Socket, not_hanging};
use super::fault::Fault;
use super::{Shared, locked};

/// How long to try for a port that was ours before.
const REBIND: Duration = Duration::from_secs(5);

/// What the server can be ordered to do.
pub(crate) enum Command {
    /// Cut all connections.
    Cut,
    /// Refuse connections, and cut all there are.
    Close,
    /// Take connections again.
    Open,
}

/// An order, and where to say that it is done.
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) done: std_mpsc::Sender<Result<()>>,
}

/// How the server proves who it is.
pub(crate) struct Acceptors {
    /// To new connections.
    pub(crate) right: Mutex<TlsAcceptor>,
    pub(crate) wrong: TlsAcceptor,
}

/// The certificate that a client has shown, if it has; goes with each of its requests.
#[derive(Clone)]
pub(crate) struct Shown(pub(crate) Option<CertificateDer<'static>>);

/// All connections, and the socket that they come from.
struct Server {
    shared: Arc<Shared>,
    acceptors: Arc<Acceptors>,
    address: SocketAddr,
    listener: Option<TcpListener>,
    connections: JoinSet<()>,
    cut: Arc<AtomicBool>,
}

/// Serves until nobody can order anything any more.
pub(crate) async fn run(
    listener: std::net::TcpListener,
    mut orders: mpsc::UnboundedReceiver<Order>,
    shared: Arc<Shared>,
    acceptors: Arc<Acceptors>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let listener = Some(TcpListener::from_std(listener)?);
    let (connections, cut) = (JoinSet::new(), Arc::default());
    let mut server = Server { shared, acceptors, address, listener, connections, cut };
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order { command, done }) => {
                    let result = server.obey(command).await;
                    // Whoever gave the order may have given up on it.
                    let _ = done.send(result);
                }
                None => break,
            },
            _ = server.connections.join_next(), if !server.connections.is_empty() => {}
            accepted = accept(server.listener.as_ref()) => server.take(accepted).await,
        }
    }
    server.listener = None;
    server.cut().await;
    Ok(())
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

impl Server {
    async fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Cut => self.cut().await,
            Command::Close => {
                self.listener = None;
                self.cut().await;
            }
            Command::Open if self.listener.is_none() => self.listener = Some(self.bind().await?),
            Command::Open => {}
        }
        Ok(())
    }

    async fn bind(&self) -> Result<TcpListener> {
        let end = Instant::now() + REBIND;
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return Ok(listener),
                Err(error) if Instant::now() > end => {
                    return Err(error).with_context(|| format!("cannot listen on {} again", self.address));
                }
                Err(_) => time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Resets all connections, and waits until that is done.
    async fn cut(&mut self) {
        self.cut.store(true, Ordering::Relaxed);
        self.cut = Arc::default();
        self.connections.shutdown().await;
    }

    async fn take(&mut self, accepted: io::Result<TcpStream>) {
        let Ok(stream) = accepted else {
            // Out of file descriptors, or a connection that ended at once.
            time::sleep(Duration::from_millis(10)).await;
            return;
        };
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(stream, Arc::clone(&self.cut));
        self.connections.spawn(serve(socket, Arc::clone(&self.acceptors), Arc::clone(&self.shared)));
    }
}

async fn serve(socket: Socket, acceptors: Arc<Acceptors>, shared: Arc<Shared>) {
    let mut fault = shared.fault.subscribe();
    not_hanging(&mut fault).await;
    let wrong = *fault.borrow() == Some(Fault::WrongCertificate);
    let acceptor = if wrong { acceptors.wrong.clone() } else { locked(&acceptors.right).clone() };
    // A client that does not trust us ends here; that is its business.
    let Ok(mut stream) = acceptor.accept(socket).await else { return };
    let now = *fault.borrow();
    if let Some(Fault::EndlessHeaders { every }) = now {
        tokio::select! {
            _ = fault.wait_for(|fault| *fault != now) => {}
            // The client has had enough.
            _ = send_headers(&mut stream, every) => {}
        }
        return;
    }
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = Shown(shown.map(|certificate| certificate.clone().into_owned()));
    let breaker = Arc::new(Breaker::default());
    let stream = TokioIo::new(Faulty::new(stream, fault, Arc::clone(&breaker)));
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(shown.clone());
        answer(request, Arc::clone(&shared), Arc::clone(&breaker))
    });
    // Clients go whenever they like.
    let _ = http1::Builder::new().serve_connection(stream, service).await;
}

/// Hears a request, and begins an answer, which has no end.
async fn send_headers(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), every: Duration) -> io::Result<()> {
    let mut request = BufReader::new(&mut *stream).lines();
    while request.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
    let headers = "X-Header: and another one\r\n".repeat(if every.is_zero() { 1000 } else { 1 });
    loop {
        stream.write_all(headers.as_bytes()).await?;
        stream.flush().await?;
        if !every.is_zero() {
            time::sleep(every).await;
        }
    }
}
