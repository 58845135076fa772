//! `pointsman trace --live`: follows real packets. Hops are told by nftables' own tracing, where that is to be had,
//! and what becomes of a connection by connection tracking.
//!
//! `record` puts together what the kernel tells, and is pure; `names` asks the kernel what chains and rules are called,
//! `told` is what users are told, `print` prints it. Nothing is left behind: the table that has packets traced ends with
//! this process, however that ends.

mod filter;
mod names;
mod print;
mod record;
mod told;
mod tracing;

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context;
use kernel::follow::Follower;
use kernel::socket::{Events, Interest, Poller};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::cli::Output;

pub(crate) use filter::Filter;
use print::Printer;
use record::Record;
use told::Summary;
use tracing::Tracing;

/// News taken between two looks at the clock.
const AT_ONCE: usize = 1024;

/// When it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// After so many connections.
    pub(crate) connections: usize,
    /// After so long.
    pub(crate) time: Duration,
}

/// Follows connections that match, and prints what happens to them, until a bound is reached or a signal comes.
///
/// # Errors
/// When the kernel cannot be listened to, with what to do about it.
pub(crate) fn follow(filter: Filter, bounds: Bounds, output: Output) -> anyhow::Result<()> {
    let is_unread = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match run(filter, bounds, output) {
        // Whoever reads has seen enough.
        Err(error) if error.downcast_ref().is_some_and(is_unread) => Ok(()),
        ended => ended,
    }
}

fn run(filter: Filter, bounds: Bounds, output: Output) -> anyhow::Result<()> {
    let poller = Poller::new().context("cannot wait for news")?;
    let mut follower = Follower::open()?;
    let (mut interrupted, sender) = UnixStream::pair().context("cannot make a pipe for signals")?;
    for signal in [SIGINT, SIGTERM] {
        let sender = sender.try_clone().context("cannot make a pipe for signals")?;
        pipe::register(signal, sender).context("cannot handle signals")?;
    }
    interrupted.set_nonblocking(true)?;
    poller.add(&follower, Interest::Readable, 0)?;
    poller.add(&interrupted, Interest::Readable, 1)?;
    let tracing = Tracing::start(&filter, bounds.connections);
    let printer = Printer::new(output);
    let mut session = Session {
        record: Record::new(filter, bounds.connections, tracing.own_table().cloned()),
        tracing,
        start: Instant::now(),
        ends: bounds.time,
    };
    session.introduce(&filter, bounds, &printer);
    let mut events = Events::default();
    let why = loop {
        session.hear(&mut follower)?;
        session.tell(&printer)?;
        if session.record.is_complete() {
            break "so many were asked for";
        }
        if session.start.elapsed() >= session.ends {
            break "the time is over";
        }
        if io::Read::read(&mut interrupted, &mut [0; 8]).is_ok() {
            break "interrupted";
        }
        poller.wait(&mut events, Some(session.patience())).context("cannot wait for news")?;
    };
    session.finish(&printer, why)
}

/// A run of it.
struct Session {
    record: Record,
    tracing: Tracing,
    start: Instant,
    /// When, from the start.
    ends: Duration,
}

impl Session {
    /// Says what will be missing, then what is done.
    fn introduce(&self, filter: &Filter, bounds: Bounds, printer: &Printer) {
        tracing::doubts(&self.tracing).iter().for_each(|doubt| printer.remark(doubt));
        let Bounds { connections, time } = bounds;
        printer.remark(&format!("following {filter}: at most {connections}, for {time:?}; Ctrl-C ends it"));
    }

    /// Takes what has come, but not for ever.
    fn hear(&mut self, follower: &mut Follower) -> anyhow::Result<()> {
        for _ in 0..AT_ONCE {
            let Some(news) = follower.next_now()? else { break };
            self.record.take(self.start.elapsed(), news);
        }
        self.record.tick(self.start.elapsed());
        Ok(())
    }

    fn tell(&mut self, printer: &Printer) -> anyhow::Result<()> {
        while let Some(event) = self.record.next_event() {
            printer.print(&told::told(event, &mut self.tracing))?;
        }
        if self.record.needs_no_hops() {
            self.tracing.stop();
        }
        Ok(())
    }

    /// How long to wait if nothing comes.
    fn patience(&self) -> Duration {
        let until = self.record.deadline().map_or(self.ends, |deadline| deadline.min(self.ends));
        until.saturating_sub(self.start.elapsed())
    }

    fn finish(mut self, printer: &Printer, why: &'static str) -> anyhow::Result<()> {
        self.record.close(self.start.elapsed());
        self.tell(printer)?;
        let seconds = self.start.elapsed().as_secs_f64();
        printer.summarize(&Summary { connections: self.record.connections(), seconds, why })
    }
}
