//! Taking what the page shows from the rest of the process: on a thread of its own, and only while somebody looks.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use modes::userspace::forward::Forwarder;
use tokio::runtime::Handle;

use super::assess::{Assessed, assess};
use crate::status::Reporter;
use crate::telemetry::shares::{self, Shares};
use crate::view::ServiceView;

/// Something newer is taken no sooner than this after the last.
const BETWEEN: Duration = Duration::from_secs(2);
/// Nor sooner than so many times as long as taking it took: on a busy node that is a while.
const REST: u32 = 20;
/// But then it is taken, even if it takes long because others are at work.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// What is older than this is not shown: nobody has looked meanwhile.
const STALE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// When; none if Services are not known.
    pub(super) taken: Option<Timestamp>,
    pub(super) services: Vec<ServiceView>,
    /// What there is to say of each, in the same order.
    pub(super) assessed: Vec<Assessed>,
    pub(super) shares: Shares,
    /// What could not be found out, and why.
    pub(super) gaps: Vec<String>,
}

impl Snapshot {
    /// Of Services and their connections.
    pub(super) fn new(services: Vec<ServiceView>, shares: Shares, gaps: Vec<String>) -> Self {
        let assessed = services.iter().enumerate();
        let assessed = assessed.map(|(number, service)| assess(service, number, &shares)).collect();
        Self { taken: Some(Timestamp::now()), services, assessed, shares, gaps }
    }
}

/// How it is now. The runtime must run on another thread.
pub(super) fn snapshot(reporter: &Reporter, runtime: &Handle) -> Snapshot {
    let services = match runtime.block_on(reporter.view()) {
        Ok(view) => view.services,
        Err(error) => {
            let gaps = vec![format!("Services and endpoints are not known: {error:#}")];
            return Snapshot { taken: None, ..Snapshot::new(Vec::new(), Shares::default(), gaps) };
        }
    };
    let mut gaps = Vec::new();
    let shares = match reporter.telemetry.traffic.forwarder().map(Forwarder::status) {
        Some(targets) => shares::carried(&services, &targets),
        None => shares::tracked(&services).unwrap_or_else(|error| {
            gaps.push(format!("Connections are not known: {error}"));
            Shares::default()
        }),
    };
    Snapshot::new(services, shares, gaps)
}

/// What was taken last.
type Latest = Arc<Mutex<Option<(Instant, Arc<Snapshot>)>>>;

/// Takes a snapshot when one is asked for.
#[derive(Debug)]
pub(super) struct Gatherer {
    latest: Latest,
    wish: SyncSender<()>,
}

impl Gatherer {
    /// Starts to wait for somebody who looks.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(take: impl FnMut() -> Snapshot + Send + 'static) -> io::Result<Self> {
        let (latest, (wish, wishes)) = (Latest::default(), sync_channel(1));
        let shared = Arc::clone(&latest);
        thread::Builder::new().name("status-page".to_owned()).spawn(move || work(take, &shared, &wishes))?;
        Ok(Self { latest, wish })
    }

    /// The last snapshot, if it is not too old. A newer one is on its way then.
    pub(super) fn latest(&self) -> Option<Arc<Snapshot>> {
        // If there is a wish already, it is the same.
        let _ = self.wish.try_send(());
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().filter(|(at, _)| at.elapsed() < STALE).map(|(_, snapshot)| Arc::clone(snapshot))
    }
}

fn work(mut take: impl FnMut() -> Snapshot, latest: &Latest, wishes: &Receiver<()>) {
    let put = |value| *latest.lock().unwrap_or_else(PoisonError::into_inner) = value;
    loop {
        match wishes.recv_timeout(STALE) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // Nobody looks any longer: of many Services, it is some megabytes.
                put(None);
                let Ok(()) = wishes.recv() else { return };
            }
        }
        let began = Instant::now();
        let snapshot = Arc::new(take());
        put(Some((Instant::now(), snapshot)));
        thread::sleep((began.elapsed() * REST).clamp(BETWEEN, LONGEST_REST));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn nothing_is_gathered_before_somebody_looks() {
        let (told, taken) = channel();
        let gatherer = Gatherer::start(move || {
            told.send(()).unwrap();
            Snapshot::new(Vec::new(), Shares::default(), Vec::new())
        });
        let gatherer = gatherer.unwrap();
        assert!(taken.recv_timeout(Duration::from_millis(50)).is_err(), "nobody has asked");
        assert!(gatherer.latest().is_none(), "nobody waits for it");
        taken.recv().unwrap();
        while gatherer.latest().is_none() {
            thread::yield_now();
        }
        assert!(gatherer.latest().is_some_and(|snapshot| snapshot.taken.is_some()));
    }
}
