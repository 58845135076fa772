//! A Kubernetes API server, as far as a proxy sees one: lists and watches of Services, Nodes, EndpointSlices and
//! ServiceCIDRs over HTTPS, and whatever can go wrong with them.
//!
//! Versions, pages, selectors, bookmarks, streaming lists and expiry are as kube-apiserver has them. Two things that
//! surprise are so there too: a watch from a version that the server has not reached (it was restored from a backup)
//! opens and is silent, bookmarks included, until the version is passed ([`Options::refuse_future_watches`] makes it
//! fail instead); and a list at version 0 knows no pages. Paths that do not exist are answered in plain text, as is
//! [`Fault::TooManyRequests`]; all other errors are Status objects.
//!
//! What the real one does and this one does not:
//!
//! - authorization: whoever has the token or shows the client's certificate may read everything;
//! - writes over HTTP, but for posting events and merge patches; admission, defaults, validation: objects are what tests put, without
//!   their nulls;
//! - protobuf, tables, compression, HTTP/2, discovery;
//! - other kinds, and `<` and `>` in label selectors; field selectors, on the other hand, may name any field;
//! - compaction by time: history goes when it is longer than [`Options::history`], or with [`ApiServer::compact`];
//! - waiting for three seconds before a version is too large, queueing (priority and fairness), and watches that end
//!   by themselves after half an hour or so;
//! - a list at an older version than its history knows is refused; so is a streaming list without bookmarks, which
//!   the real one would serve without ever saying where the initial events end.

mod answer;
mod body;
mod connection;
mod event;
mod fault;
mod kind;
mod list;
mod object;
mod patch;
mod query;
mod registry;
mod selector;
mod server;
mod status;
mod store;
mod tls;
mod watch;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::runtime;
use tokio::sync::{mpsc, watch as tokio_watch};
use tokio_rustls::rustls::pki_types::CertificateDer;

pub use fault::Fault;
pub use store::Snapshot;

use event::Events;
use registry::Registry;
use server::{Acceptors, Command, Order, Shown};
use store::Store;
use tls::Authority;

/// What an [`ApiServer`] is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether it knows streaming lists.
    pub streaming_lists: bool,
    /// Whether it knows ServiceCIDRs, which older servers do not.
    pub service_cidrs: bool,
    /// What clients may not read, as it is called in paths.
    pub forbidden: Vec<&'static str>,
    /// What clients may not change, as it is called in paths.
    pub read_only: Vec<&'static str>,
    /// How often watches that want bookmarks get one.
    pub bookmark_interval: Duration,
    /// Where it listens; at port 0, a free port is taken.
    pub address: SocketAddr,
    /// Where clients find it, if that is not where it listens.
    pub advertised: Option<SocketAddr>,
    /// Further names for its certificate.
    pub names: Vec<String>,
    /// Whether watches from a version that it has not reached fail. With kube-apiserver they are silent.
    pub refuse_future_watches: bool,
    /// How many changes of each kind it remembers.
    pub history: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            streaming_lists: true,
            service_cidrs: true,
            forbidden: Vec::new(),
            read_only: Vec::new(),
            bookmark_interval: Duration::from_secs(1),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            advertised: None,
            names: Vec::new(),
            refuse_future_watches: false,
            history: 100_000,
        }
    }
}

/// What the server's thread and its owner share.
struct Shared {
    options: Options,
    store: Mutex<Store>,
    changed: tokio_watch::Sender<u64>,
    expiry: tokio_watch::Sender<u64>,
    fault: tokio_watch::Sender<Option<Fault>>,
    watches: Arc<Registry>,
    requests: Mutex<Vec<String>>,
    events: Events,
    token: Mutex<u32>,
    /// The certificate of the client that is known by one.
    client: Mutex<Option<CertificateDer<'static>>>,
}

impl Shared {
    fn new(options: Options) -> Self {
        Self {
            store: Mutex::new(Store::new(options.history)),
            options,
            changed: tokio_watch::Sender::new(0),
            expiry: tokio_watch::Sender::new(0),
            fault: tokio_watch::Sender::new(None),
            watches: Arc::default(),
            requests: Mutex::default(),
            events: Events::default(),
            token: Mutex::new(1),
            client: Mutex::default(),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    fn token(&self) -> String {
        format!("token-{}", locked(&self.token))
    }

    /// Whether a client has shown the certificate that is taken now.
    fn knows(&self, shown: &Shown) -> bool {
        shown.0.is_some() && shown.0 == *locked(&self.client)
    }

    fn record(&self, request: String) {
        locked(&self.requests).push(request);
    }

    /// Changes the store and wakes the watches.
    fn change<T>(&self, body: impl FnOnce(&mut Store) -> T) -> T {
        let (result, version) = {
            let mut store = self.store();
            (body(&mut store), store.version())
        };
        self.changed.send_replace(version);
        result
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A Kubernetes API server, as far as a proxy sees one. Ends when dropped: its connections are cut.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    authority: Mutex<Authority>,
    acceptors: Arc<Acceptors>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts one in the network namespace of the calling thread, so that [`Namespace::run`] puts it into one.
    ///
    /// [`Namespace::run`]: crate::Namespace::run
    ///
    /// # Errors
    /// When the address is taken, or a name in the options is not fit for a certificate.
    pub fn start(options: Options) -> Result<Self> {
        let listener = TcpListener::bind(options.address);
        let listener = listener.with_context(|| format!("cannot listen on {}", options.address))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut addresses = vec![address.ip()];
        addresses.extend(options.advertised.map(|advertised| advertised.ip()));
        let authority = Authority::new(&addresses, &options.names)?;
        let wrong = authority.another()?.server()?;
        let acceptors = Arc::new(Acceptors { right: Mutex::new(authority.server()?), wrong });
        let shared = Arc::new(Shared::new(options));
        let (orders, received) = mpsc::unbounded_channel();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (served, proofs) = (Arc::clone(&shared), Arc::clone(&acceptors));
        let thread = thread::Builder::new().name("kube-apiserver".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(server::run(listener, received, served, proofs)) {
                eprintln!("the API server ended: {error}");
            }
        })?;
        Ok(Self {
            shared,
            address,
            authority: Mutex::new(authority),
            acceptors,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig for it, with the token and the authority of now.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_of(&format!("token: {}", self.token()))
    }

    /// A kubeconfig for it, with the authority of now and another user: a field of YAML, as `tokenFile: /token`, or
    /// several on lines that begin with four spaces.
    #[must_use]
    pub fn kubeconfig_of(&self, user: &str) -> String {
        let address = self.shared.options.advertised.unwrap_or(self.address);
        let certificate = BASE64_STANDARD.encode(self.ca_certificate());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: https://{address}\n    \
             certificate-authority-data: {certificate}\n\
             users:\n- name: test\n  user:\n    {user}\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\n"
        )
    }

    /// The certificate of its authority of now, as PEM.
    #[must_use]
    pub fn ca_certificate(&self) -> String {
        locked(&self.authority).pem()
    }

    /// Takes another certificate of the same authority. Open connections stay.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn rotate_certificate(&self) -> Result<()> {
        *locked(&self.acceptors.right) = locked(&self.authority).server()?;
        Ok(())
    }

    /// Takes another authority, for itself and its clients. Open connections stay.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn rotate_authority(&self) -> Result<()> {
        let mut authority = locked(&self.authority);
        *authority = authority.another()?;
        *locked(&self.acceptors.right) = authority.server()?;
        Ok(())
    }

    /// Makes a certificate for a client, which is as good as the token, and makes the one before worthless. Returns it
    /// and its key, as PEM. Open watches stay.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn rotate_client(&self) -> Result<(String, String)> {
        let identity = locked(&self.authority).client()?;
        *locked(&self.shared.client) = Some(identity.certificate);
        Ok(identity.pem)
    }

    /// The token that it takes now.
    #[must_use]
    pub fn token(&self) -> String {
        self.shared.token()
    }

    /// Makes the token invalid and returns a new one. Open watches stay.
    pub fn rotate_token(&self) -> String {
        *locked(&self.shared.token) += 1;
        self.shared.token()
    }

    /// Creates or replaces an object and returns its version. One that is there already stays as it is.
    ///
    /// # Errors
    /// When the kind is not served or the name is missing.
    pub fn put(&self, object: Value) -> Result<u64> {
        self.shared.change(|store| store.put(object))
    }

    /// Puts many objects, and returns the version that is reached.
    ///
    /// # Errors
    /// As [`put`](Self::put); the objects before the bad one are in.
    pub fn load(&self, objects: Vec<Value>) -> Result<u64> {
        self.shared.change(|store| {
            for object in objects {
                store.put(object)?;
            }
            Ok(store.version())
        })
    }

    /// An object as it is now. The namespace of a Node is empty.
    ///
    /// # Errors
    /// When there is none.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        let place = kind::named(kind).with_context(|| format!("objects of kind {kind:?} are not served"))?;
        let key = object::Key { namespace: namespace.into(), name: name.into() };
        let found = self.shared.store().get(place, &key);
        let found = found.with_context(|| format!("there is no {kind} {namespace}/{name}"))?;
        Ok(serde_json::from_slice(&found.encoded())?)
    }

    /// Changes an object in place, as a client's merge patch would. The namespace of a Node is empty.
    ///
    /// # Errors
    /// When there is none.
    pub fn patch(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> Result<()> {
        let place = kind::named(kind).with_context(|| format!("objects of kind {kind:?} are not served"))?;
        let key = object::Key { namespace: namespace.into(), name: name.into() };
        let patched = self.shared.change(|store| patch::apply(store, place, &key, patch));
        patched.map(drop).map_err(|status| anyhow!("{kind} {namespace}/{name}: {}", status.message))
    }

    /// Deletes an object and returns the version of that. The namespace of a Node is empty.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<u64> {
        self.shared.change(|store| store.delete(kind, namespace, name))
    }

    /// Makes the server hold what a List manifest says and nothing else. What is there already stays as it is.
    ///
    /// # Errors
    /// When it is no JSON, or an object is refused by [`put`](Self::put); nothing is changed then.
    pub fn hold(&self, manifest: &str) -> Result<()> {
        let mut list: Value = serde_json::from_str(manifest).context("a manifest is no JSON")?;
        let Value::Array(items) = list["items"].take() else {
            return Err(anyhow!("a manifest without items"));
        };
        self.shared.change(|store| store.hold(items))
    }

    /// The version that it is at.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.store().version()
    }

    /// What it holds now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.store().snapshot()
    }

    /// Is restarted with a state: objects and version are of then, what was before is not remembered, and all
    /// connections are cut.
    ///
    /// # Panics
    /// When another program took the port meanwhile.
    pub fn restart_with(&self, state: Snapshot) {
        self.order(Command::Close);
        self.shared.change(|store| store.restore(state));
        if *self.shared.fault.borrow() != Some(Fault::Down) {
            self.order(Command::Open);
        }
    }

    /// Forgets history: watches that resume from before get 410, and so do further pages. Open watches go on.
    pub fn compact(&self) {
        self.shared.store().compact();
    }

    /// All open watches get an error event, 410, and end. None of them counts as open when this returns.
    pub fn expire_watches(&self) {
        self.shared.watches.forget_all();
        self.shared.expiry.send_modify(|count| *count += 1);
    }

    /// Resets all connections, in the middle of whatever they were at. Done when this returns.
    pub fn cut_connections(&self) {
        self.order(Command::Cut);
    }

    /// From now on this is wrong with it, or nothing. Done when this returns.
    ///
    /// # Panics
    /// When it was down and another program took its port meanwhile.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.fault.send_replace(fault);
        match fault {
            Some(Fault::Down) => self.order(Command::Close),
            Some(Fault::WrongCertificate) => {
                self.order(Command::Cut);
                self.order(Command::Open);
            }
            _ => self.order(Command::Open),
        }
    }

    /// How many watches are open.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.shared.watches.count()
    }

    /// How many watches were ever opened.
    #[must_use]
    pub fn watches_opened(&self) -> u64 {
        self.shared.watches.opened()
    }

    /// Waits until exactly so many watches are open.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn await_watches(&self, count: usize, patience: Duration) -> Result<()> {
        let waited = self.shared.watches.wait(|open, _| open == count, patience);
        waited.map_err(|(open, _)| anyhow!("{open} watches are open, not {count}"))
    }

    /// Waits until at least so many watches were ever opened.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn await_watches_opened(&self, count: u64, patience: Duration) -> Result<()> {
        let waited = self.shared.watches.wait(|_, opened| opened >= count, patience);
        waited.map_err(|(_, opened)| anyhow!("{opened} watches were opened, not {count}"))
    }

    /// All requests until now: method, path and query.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        locked(&self.shared.requests).clone()
    }

    /// The events that were posted, in their order.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.shared.events.all()
    }

    /// Whether whoever has the token may not post events, from now on.
    pub fn refuse_events(&self, refuse: bool) {
        self.shared.events.refuse(refuse);
    }

    /// Waits until at least so many events were posted, and returns all.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn await_events(&self, count: usize, patience: Duration) -> Result<Vec<Value>> {
        let waited = self.shared.events.wait(patience, |events| events.len() >= count);
        waited.map_err(|events| anyhow!("{} events were posted, not {count}: {events:?}", events.len()))
    }

    /// Waits until an event with this reason was posted, and returns the first such.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn await_event(&self, reason: &str, patience: Duration) -> Result<Value> {
        let is_there = |events: &[Value]| event::of_reason(events, reason).is_some();
        let events = self.shared.events.wait(patience, is_there);
        let events = events.map_err(|events| anyhow!("no event {reason} was posted: {events:?}"))?;
        event::of_reason(&events, reason).cloned().context("the event vanished")
    }

    /// Gives an order to the server's thread, and waits until it is carried out.
    fn order(&self, command: Command) {
        let (done, result) = std_mpsc::channel();
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(Order { command, done }).is_ok());
        match result.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("{error:#}"),
            Err(_) => assert!(!sent, "the API server's thread has ended"),
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed when it happened.
            let _ = thread.join();
        }
    }
}
