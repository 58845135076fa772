//! What the kernel's connection tracking is to be like: the flags `--conntrack-*` and the section `conntrack` of
//! kube-proxy's configuration.
//!
//! Each parameter is written only if it is otherwise, so that values which are right already need no privilege. kube-proxy
//! ends if one cannot be written; here that is a warning, since Services work with whatever is there.
//! `plan` decides, this file reads and writes.

mod plan;

use std::fmt;
use std::fs;
use std::num::NonZero;
use std::thread;
use std::time::Duration;

use kernel::sysctl;

pub use self::plan::{Change, Parameter};

const MODULE: &str = "nf_conntrack";
const HASH_SIZE: &str = "hashsize";

/// What is asked for, in kube-proxy's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Connections to track at most, for each processor; at 0, the kernel's limit stays.
    pub max_per_core: u32,
    /// Connections to track at most, whatever the number of processors, unless `max_per_core` is 0.
    pub min: u32,
    /// How long an idle TCP connection is remembered; at 0, the kernel's value stays.
    pub tcp_established: Duration,
    /// How long a half-closed TCP connection is remembered; at 0, the kernel's value stays.
    pub tcp_close_wait: Duration,
    /// Have TCP packets outside the window pass. If false, the kernel's value stays.
    pub tcp_be_liberal: bool,
    /// How long a UDP flow without answer is remembered; at 0, the kernel's value stays.
    pub udp: Duration,
    /// How long a UDP flow with answers is remembered; at 0, the kernel's value stays.
    pub udp_stream: Duration,
}

impl Default for Conntrack {
    /// kube-proxy's defaults.
    fn default() -> Self {
        Self {
            max_per_core: 32_768,
            min: 131_072,
            tcp_established: Duration::from_secs(24 * 60 * 60),
            tcp_close_wait: Duration::from_secs(60 * 60),
            tcp_be_liberal: false,
            udp: Duration::ZERO,
            udp_stream: Duration::ZERO,
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Written.
    pub set: Vec<Change>,
    /// Could not be written.
    pub refused: Vec<Refusal>,
}

/// A parameter that could not be set, and why.
#[derive(Debug)]
pub struct Refusal {
    /// What was to be written.
    pub change: Change,
    /// Why it was not.
    pub cause: kernel::Error,
}

impl Refusal {
    /// What to do about it.
    fn advice(&self) -> &'static str {
        if self.change.there.is_none() {
            return "load the module nf_conntrack on the host, and start Pointsman again";
        }
        let container = matches!(self.cause, kernel::Error::ReadOnly { .. });
        if !container && self.change.parameter.is_of_the_machine() {
            return "it is the machine's, and set in its own network namespace only: set it on the host";
        }
        "set it on the host, or run pointsman --init-only in a privileged init container, or ask for 0 to let it be"
    }
}

impl fmt::Display for Refusal {
    /// One line: what, where, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { parameter, there, wanted } = self.change;
        let there = there.map_or_else(|| "as it is".to_owned(), |value| value.to_string());
        write!(f, "{parameter} stays {there} instead of {wanted}: {} ({})", self.cause, self.advice())
    }
}

/// Sets what is asked for where it is otherwise, and logs what was set and what could not be.
pub fn apply(asked: &Conntrack) -> Outcome {
    let mut outcome = Outcome::default();
    for change in plan::plan(asked, processors(), read) {
        match write(change) {
            Ok(()) => outcome.set.push(change),
            Err(cause) => outcome.refused.push(Refusal { change, cause }),
        }
    }
    if !outcome.set.is_empty() {
        let set: Vec<_> = outcome.set.iter().map(ToString::to_string).collect();
        tracing::info!("connection tracking: set {}", set.join(" "));
    }
    for refusal in &outcome.refused {
        tracing::warn!("connection tracking: {refusal}");
    }
    outcome
}

/// Processors of the machine, not of this process: the table is the machine's.
fn processors() -> u32 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    online.and_then(|list| plan::count(&list)).unwrap_or_else(|| {
        let ours = thread::available_parallelism().map_or(1, NonZero::get);
        ours.try_into().unwrap_or(u32::MAX)
    })
}

fn read(parameter: Parameter) -> Option<u64> {
    let value = match parameter.sysctl() {
        Some(name) => sysctl::get(name),
        None => sysctl::get_of_module(MODULE, HASH_SIZE),
    };
    value.ok()?.parse().ok()
}

fn write(change: Change) -> Result<(), kernel::Error> {
    let value = change.wanted.to_string();
    match change.parameter.sysctl() {
        Some(name) => sysctl::set(name, &value),
        None => sysctl::set_of_module(MODULE, HASH_SIZE, &value),
    }
    .map(drop)
}
