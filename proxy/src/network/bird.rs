//! BIRD, configured and kept running.
//!
//! On a thread of its own. Its configuration is checked before it is used; a change is taken up in flight. When it ends it is
//! started again. It ends with us, without a word to its neighbours: they keep our routes until the next one is there
//! (graceful restart), as the kernel keeps theirs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cni::network::bird::arguments;

use super::control::Control;
use super::files;
use super::input::{Inbox, Message};
use crate::backoff::Backoff;
use crate::event_loop::Offered;
use crate::telemetry::{ESTABLISHED, Network, Session};

/// How often it is looked after: while it starts, and later.
const BETWEEN_FIRST_LOOKS: Duration = Duration::from_millis(200);
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Waits after it has ended, from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Once all sessions are there, what they have to tell follows within this.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Sessions that are not there after this long are not waited for.
const SETTLED_AFTER: Duration = Duration::from_secs(20);
/// How long one of an earlier process may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Configurations that may wait; the last one counts.
const PENDING: usize = 8;
/// Bytes of a line of its log that are told.
const LONGEST_LINE: u64 = 4096;

/// Where BIRD's files are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its program.
    pub(super) program: PathBuf,
    /// Its configuration.
    pub(super) configuration: PathBuf,
    /// Its control socket.
    pub(super) control: PathBuf,
}

impl Place {
    /// In this folder.
    pub(super) fn within(folder: &Path, program: PathBuf) -> Self {
        Self { program, configuration: folder.join("bird.conf"), control: folder.join("bird.ctl") }
    }

    /// Ends the BIRD that runs there, if one does, and removes its files. True if there were any.
    ///
    /// # Errors
    /// When one stays.
    pub(super) fn remove(&self) -> anyhow::Result<bool> {
        end_earlier(&self.control);
        let mut any = false;
        for path in [&self.configuration, &self.control] {
            any |= files::remove(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(any)
    }
}

/// What the thread is told.
enum Told {
    Configure(String),
    Stop,
}

/// BIRD, on a thread of its own.
pub(super) struct Bird {
    sender: SyncSender<Told>,
    thread: JoinHandle<()>,
}

impl Bird {
    /// Begins; it is started with the first configuration.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn begin(place: Place, inbox: Inbox, telemetry: Arc<Network>) -> anyhow::Result<Self> {
        let (sender, told) = sync_channel(PENDING);
        let keeper = Keeper::new(place, inbox, telemetry);
        let thread = thread::Builder::new().name("bird".to_owned()).spawn(move || keeper.run(&told));
        Ok(Self { sender, thread: thread.context("cannot start a thread")? })
    }

    /// This is its configuration from now on. False if that has to be said again later. Never waits.
    pub(super) fn configure(&self, text: String) -> bool {
        self.sender.try_send(Told::Configure(text)).is_ok()
    }

    /// Ends it.
    pub(super) fn stop(self) {
        let _ = self.sender.send(Told::Stop);
        if self.thread.join().is_err() {
            tracing::error!("what keeps BIRD running panicked");
        }
    }
}

/// A BIRD that runs.
struct Running {
    child: Child,
    since: Instant,
    /// Since when all sessions are there.
    established: Option<Instant>,
    settled: bool,
}

struct Keeper {
    place: Place,
    inbox: Inbox,
    telemetry: Arc<Network>,
    /// The last one, which it has or is to have.
    configuration: Option<String>,
    running: Option<Running>,
    /// What the loop was last told of it.
    told: bool,
    start_at: Instant,
    backoff: Backoff,
}

impl Keeper {
    fn new(place: Place, inbox: Inbox, telemetry: Arc<Network>) -> Self {
        let backoff = Backoff::steady(FIRST_WAIT, LONGEST_WAIT);
        let start_at = Instant::now();
        Self { place, inbox, telemetry, configuration: None, running: None, told: false, start_at, backoff }
    }

    fn run(mut self, told: &Receiver<Told>) {
        loop {
            match told.recv_timeout(self.wait(Instant::now())) {
                Ok(Told::Configure(text)) => self.configure(text),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look(Instant::now());
            self.tell();
        }
        if let Some(running) = self.running.take() {
            end(running.child);
        }
    }

    /// Tells the loop what is new, if it has room for it.
    fn tell(&mut self) {
        let settled = self.running.as_ref().is_some_and(|running| running.settled);
        if self.told != settled && self.inbox.offer(Message::Bird { settled }) == Offered::Taken {
            self.told = settled;
        }
    }

    fn wait(&self, now: Instant) -> Duration {
        match &self.running {
            Some(running) if running.settled => BETWEEN_LOOKS,
            Some(_) => BETWEEN_FIRST_LOOKS,
            None if self.configuration.is_some() => self.start_at.saturating_duration_since(now),
            None => LONGEST_WAIT,
        }
    }

    /// Takes a configuration up. One that BIRD refuses changes nothing.
    fn configure(&mut self, text: String) {
        if self.configuration.as_ref() == Some(&text) {
            return;
        }
        let taken_up = self.place_configuration(&text).and_then(|()| match &mut self.running {
            Some(running) => {
                (running.settled, running.established, running.since) = (false, None, Instant::now());
                Control::open(&self.place.control)?.configure()
            }
            None => Ok(()),
        });
        match taken_up {
            Ok(()) => tracing::info!("BIRD has a new configuration"),
            Err(error) => {
                tracing::error!("BIRD's configuration stays as it was: {error:#}");
                self.telemetry.bird_failed(Some(format!("{error:#}")));
            }
        }
        // It is read when it starts again, if not before.
        self.configuration = Some(text);
    }

    /// Has BIRD itself say whether it makes sense before it is put in place.
    fn place_configuration(&self, text: &str) -> anyhow::Result<()> {
        let draft = self.place.configuration.with_extension("new");
        files::write(&draft, text.as_bytes()).with_context(|| format!("cannot write {}", draft.display()))?;
        let checked = Command::new(&self.place.program).arg("-p").arg("-c").arg(&draft).output();
        let checked = checked.with_context(|| self.cannot_start())?;
        if !checked.status.success() {
            let said = String::from_utf8_lossy(&checked.stderr);
            bail!("BIRD refuses it: {}", said.trim().chars().take(500).collect::<String>());
        }
        fs::rename(&draft, &self.place.configuration)
            .with_context(|| format!("cannot write {}", self.place.configuration.display()))
    }

    fn cannot_start(&self) -> String {
        format!("cannot start {} (BIRD 2: package bird2)", self.place.program.display())
    }

    /// Sees to it that it runs, and how it stands.
    fn look(&mut self, now: Instant) {
        let Some(running) = &mut self.running else {
            if self.configuration.is_some() && self.start_at <= now {
                self.start(now);
            }
            return;
        };
        match running.child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return self.ended(&status.to_string(), now),
            Err(error) => return self.ended(&error.to_string(), now),
        }
        let sessions = Control::open(&self.place.control).and_then(|mut control| control.sessions());
        match sessions {
            Ok(sessions) => self.hear(sessions, now),
            // It opens its socket when it has begun.
            Err(_) if now.saturating_duration_since(running.since) < TOLD_WITHIN => {}
            Err(error) => self.telemetry.bird_failed(Some(format!("{error:#}"))),
        }
    }

    fn start(&mut self, now: Instant) {
        match self.spawn() {
            Ok(child) => {
                tracing::info!(process = child.id(), "BIRD is started");
                self.running = Some(Running { child, since: now, established: None, settled: false });
            }
            Err(error) => self.ended(&format!("{error:#}"), now),
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        end_earlier(&self.place.control);
        // What was refused once may be taken by another version.
        if !self.place.configuration.exists()
            && let Some(text) = &self.configuration
        {
            self.place_configuration(text)?;
        }
        let mut command = Command::new(&self.place.program);
        command.args(arguments(&self.place.configuration, &self.place.control));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        kernel::process::end_with_this_thread(&mut command);
        let mut child = command.spawn().with_context(|| self.cannot_start())?;
        if let Some(log) = child.stderr.take() {
            let work = move || hand_on(BufReader::new(log));
            // Without the thread it is silent.
            let _ = thread::Builder::new().name("bird-log".to_owned()).spawn(work);
        }
        Ok(child)
    }

    fn ended(&mut self, how: &str, now: Instant) {
        self.running = None;
        let wait = self.backoff.next_wait();
        self.start_at = now + wait;
        self.telemetry.has_sessions(Vec::new());
        self.telemetry.bird_failed(Some(how.to_owned()));
        tracing::error!(retry_in = ?wait, "BIRD does not run, routes stay as they are: {how}");
    }

    /// What it said of its sessions.
    fn hear(&mut self, sessions: Vec<Session>, now: Instant) {
        let Some(running) = &mut self.running else { return };
        let all = sessions.iter().all(|session| session.state == ESTABLISHED);
        match all {
            true => running.established = running.established.or(Some(now)),
            false => running.established = None,
        }
        let past = |since: Instant, wait| now.saturating_duration_since(since) >= wait;
        let settles = running.established.is_some_and(|since| past(since, TOLD_WITHIN))
            || past(running.since, SETTLED_AFTER);
        if settles && !running.settled {
            running.settled = true;
            self.backoff.reset();
            let there = sessions.iter().filter(|session| session.state == ESTABLISHED).count();
            tracing::info!(sessions = sessions.len(), established = there, "BIRD has learned what there is");
        }
        self.telemetry.bird_failed(None);
        self.telemetry.has_sessions(sessions);
    }
}

/// One that an earlier process left would keep ours from starting.
fn end_earlier(control: &Path) {
    let Ok(mut earlier) = Control::open(control) else { return };
    tracing::info!("ending the BIRD that an earlier process left");
    if let Err(error) = earlier.end() {
        tracing::warn!("cannot end the BIRD that an earlier process left: {error:#}");
    }
    let since = Instant::now();
    while since.elapsed() < GONE_WITHIN && Control::open(control).is_ok() {
        thread::sleep(BETWEEN_FIRST_LOOKS);
    }
}

/// Ends it at once: it has nothing to tidy up that is not to stay.
fn end(mut child: Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::warn!("cannot end BIRD: {error}");
    }
}

/// Its log becomes part of ours.
fn hand_on(mut log: impl BufRead) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match std::io::Read::take(&mut log, LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => tracing::info!("BIRD: {}", String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
