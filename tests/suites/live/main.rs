//! `pointsman trace --live`: what it tells of real packets, and that nothing is left of it.

mod ends;
mod following;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testbed::mode::IPTABLES_LEGACY;
use testbed::suite::{everywhere, modes, run};
use testbed::{Subject, binary};

fn main() -> ExitCode {
    // Userspace mode's own endpoint is the forwarder.
    let modes = modes().iter().filter(|mode| !mode.is_userspace());
    let tables = [following::SCENARIOS, ends::SCENARIOS];
    run(everywhere(modes, &tables, Subject::prepare, Subject::explain))
}

/// One that runs on the node.
struct Live {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it has said to people so far.
    said: String,
}

/// What one came to.
struct Ended {
    status: ExitStatus,
    said: String,
    events: Vec<Value>,
}

impl Live {
    /// Starts it, and waits until it listens.
    fn start(s: &Subject, args: &[&str]) -> Result<Self> {
        let mut command = std::process::Command::new(binary()?);
        command.args(["trace", "--live", "--output", "json"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = s.bed.node.run(|| command.spawn())?.context("cannot start pointsman")?;
        let stderr = BufReader::new(child.stderr.take().context("it has no stderr")?);
        let mut live = Self { child, stderr, said: String::new() };
        while !live.said.contains("following ") {
            let read = live.stderr.read_line(&mut live.said)?;
            ensure!(read > 0, "it ended before it listened: {}", live.said);
        }
        Ok(live)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Waits until it has ended.
    fn ended(mut self) -> Result<Ended> {
        let output = self.child.wait_with_output()?;
        while self.stderr.read_line(&mut self.said)? > 0 {}
        let lines = String::from_utf8(output.stdout)?;
        let events: Result<Vec<Value>, _> = lines.lines().map(serde_json::from_str).collect();
        Ok(Ended { status: output.status, said: self.said, events: events.with_context(|| lines.clone())? })
    }
}

impl Ended {
    /// The events of a kind.
    fn of(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// The only event of a kind.
    fn only(&self, kind: &str) -> Result<&Value> {
        match self.of(kind)[..] {
            [event] => Ok(event),
            _ => anyhow::bail!("not one event {kind:?} in {:#?}\n{}", self.events, self.said),
        }
    }
}

/// All that nftables holds on the node, without what counters count.
fn ruleset(s: &Subject) -> Result<String> {
    s.bed.node.output("nft", &["--stateless", "list", "ruleset"])
}

/// Whether hops are told in the mode that a scenario runs in: iptables-legacy has none for nftables to tell, and the
/// kernel would log them.
fn has_hops(s: &Subject) -> bool {
    s.mode() != IPTABLES_LEGACY
}
