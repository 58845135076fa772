//! What is measured: proxies, Pointsman's other way, and nothing at all.

mod forwarder;
mod haproxy;
mod nginx;
mod pointsman;
mod running;

pub(crate) use forwarder::forward;
pub(crate) use running::Running;

use anyhow::Result;
use clap::ValueEnum;

use crate::place::Place;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Subject {
    /// HAProxy in TCP mode.
    Haproxy,
    /// The same with `option splice-auto`.
    HaproxySplice,
    /// nginx's stream module.
    Nginx,
    /// Pointsman's forwarder by itself, without the rest of the program.
    Forwarder,
    /// Pointsman's userspace mode, listening on ports of its own.
    Bound,
    /// Pointsman's userspace mode, behind ClusterIPs.
    Captured,
    /// Pointsman's nftables mode.
    Nftables,
    /// No proxy.
    Direct,
}

/// Bounds that every proxy is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Threads or processes that carry traffic.
    pub(crate) workers: usize,
    /// File descriptors of a process.
    pub(crate) descriptors: u64,
    /// Connections that are held idle.
    pub(crate) connections: usize,
}

impl Limits {
    /// Connections at once: some of those that were ended are still being ended.
    fn most_connections(self) -> usize {
        self.connections + 200
    }
}

impl Subject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::HaproxySplice => "HAProxy, splice-auto",
            Self::Nginx => "nginx stream",
            Self::Forwarder => "forwarder alone",
            Self::Bound => "userspace, bound",
            Self::Captured => "userspace, captured",
            Self::Nftables => "nftables",
            Self::Direct => "direct",
        }
    }

    /// Whether it carries bytes itself.
    pub(crate) fn is_a_proxy(self) -> bool {
        !matches!(self, Self::Nftables | Self::Direct)
    }

    /// Starts it, and waits until it serves.
    pub(crate) fn start(self, place: &Place, limits: Limits) -> Result<Running> {
        match self {
            Self::Haproxy => haproxy::start(place, limits, false),
            Self::HaproxySplice => haproxy::start(place, limits, true),
            Self::Nginx => nginx::start(place, limits),
            Self::Forwarder => forwarder::start(place),
            Self::Bound => pointsman::bound(place),
            Self::Captured => pointsman::captured(place),
            Self::Nftables => pointsman::nftables(place),
            Self::Direct => Ok(Running::nothing()),
        }
    }
}
