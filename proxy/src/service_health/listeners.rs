//! The ports that are listened on.

use std::collections::HashMap;
use std::future::ready;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use endpoint_cache::object::ObjectName;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};

use super::board::Board;
use crate::http::{Bounds, serve_all};
use crate::source::kubernetes::{News, Outlet};

/// What a Service's load balancer may do. It asks every few seconds, once a connection.
const BOUNDS: Bounds = Bounds { connections: 32, keep_alive: false };
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Between attempts at ports that are taken.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// Listens wherever the board says.
pub(super) struct Listeners {
    board: Arc<Board>,
    outlet: Option<Outlet>,
    open: HashMap<ObjectName, Open>,
    /// Ports that could not be had at the last attempt.
    taken: HashMap<ObjectName, u16>,
}

/// A port that is listened on, until the task ends.
struct Open {
    port: u16,
    task: JoinHandle<()>,
}

impl Listeners {
    pub(super) fn new(board: Arc<Board>, outlet: Option<Outlet>) -> Self {
        Self { board, outlet, open: HashMap::new(), taken: HashMap::new() }
    }

    /// Follows the board for ever.
    pub(super) async fn run(mut self) {
        loop {
            if self.taken.is_empty() {
                self.board.changed().await;
            } else {
                // Whichever comes first, everything that is due is looked at.
                drop(tokio::time::timeout(BIND_AGAIN, self.board.changed()).await);
            }
            let touched = self.board.take_touched();
            self.follow(touched).await;
        }
    }

    async fn follow(&mut self, touched: Vec<(ObjectName, Option<u16>)>) {
        // A port may go from one Service to another: all that close come first.
        for (service, port) in &touched {
            self.taken.remove(service);
            if self.open.get(service).is_some_and(|open| Some(open.port) != *port) {
                self.close(service).await;
            }
        }
        let again: Vec<_> = self.taken.iter().map(|(service, port)| (service.clone(), *port)).collect();
        for (service, port) in again {
            self.open(service, port);
        }
        for (service, port) in touched {
            if let Some(port) = port
                && !self.open.contains_key(&service)
            {
                self.open(service, port);
            }
        }
    }

    /// Nobody is answered there any longer when this is done.
    async fn close(&mut self, service: &ObjectName) {
        if let Some(Open { port, task }) = self.open.remove(service) {
            task.abort();
            // It ends with nothing to tell.
            drop(task.await);
            tracing::debug!("health checks of Service {service} are not answered on port {port} any longer");
        }
    }

    fn open(&mut self, service: ObjectName, port: u16) {
        match listen(port) {
            Ok(listener) => {
                if self.taken.remove(&service).is_some() {
                    tracing::info!("Service {service}: health checks are answered on port {port} now");
                }
                let task = spawn_local(respond(listener, Arc::clone(&self.board), service.clone()));
                self.open.insert(service, Open { port, task });
            }
            Err(error) => {
                if self.taken.insert(service.clone(), port).is_none() {
                    self.tell(service, port, &error);
                }
            }
        }
    }

    fn tell(&self, service: ObjectName, port: u16, error: &io::Error) {
        let message = format!(
            "cannot answer health checks on healthCheckNodePort {port}: {error}; trying on (which program has it: ss \
             -ltnp sport = {port})"
        );
        tracing::warn!("Service {service}: {message}");
        if let Some(outlet) = &self.outlet {
            let reason = "FailedToStartServiceHealthcheck";
            outlet.post(News::service_warning(service, reason, "Listen", message));
        }
    }
}

async fn respond(listener: TcpListener, board: Arc<Board>, service: ObjectName) {
    let accept = async || accept(&listener, &board).await;
    let answers = {
        let board = Arc::clone(&board);
        move |_: &_| ready(board.answer(&service).response())
    };
    serve_all(accept, BOUNDS, answers).await;
}

/// The next connection to an address that node ports answer on; others are reset.
async fn accept(listener: &TcpListener, board: &Board) -> io::Result<TcpStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        match stream.local_addr() {
            Ok(local) if board.answers_on(local.ip()) => return Ok(stream),
            // If it is reset already, so much the better.
            _ => drop(stream.set_zero_linger()),
        }
    }
}

/// Listens on a port at all addresses, of both families if the kernel has both.
fn listen(port: u16) -> io::Result<TcpListener> {
    let both = Socket::new(Domain::IPV6, Type::STREAM, None).and_then(|socket| {
        socket.set_only_v6(false)?;
        Ok((socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))))
    });
    let (socket, address) = match both {
        Ok(both) => both,
        Err(_) => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            (socket, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
    };
    // Connections of before, which the kernel remembers for a while, are no reason not to.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
