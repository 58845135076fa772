//! Why a connection failed.

use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Causes that a user can do something about, each another thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Cause {
    /// A reset or an ICMP port unreachable in answer to the attempt.
    Refused,
    /// Reset after it was there.
    Reset,
    /// Closed before anything was said.
    Closed,
    /// Nothing came back.
    TimedOut,
    /// It was there, and nothing was said.
    NoAnswer,
    /// No route, or an ICMP host or net unreachable.
    Unreachable,
    /// A firewall of this host.
    NotPermitted,
    /// All local ports to the target are in use.
    NoLocalPort,
    /// This process may not open more.
    NoDescriptors,
    /// Something else.
    Other,
}

impl Cause {
    /// What an error of the system means.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNREFUSED) => Self::Refused,
            Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED) => Self::Reset,
            Some(Errno::ETIMEDOUT) => Self::TimedOut,
            Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN) => {
                Self::Unreachable
            }
            Some(Errno::EPERM | Errno::EACCES) => Self::NotPermitted,
            Some(Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) => Self::NoLocalPort,
            _ if kernel::socket::is_exhaustion(error) => Self::NoDescriptors,
            _ => Self::Other,
        }
    }

    /// Whether it never left this host, and the next one would fare the same.
    pub(super) fn is_local(self) -> bool {
        matches!(self, Self::NotPermitted | Self::NoLocalPort | Self::NoDescriptors)
    }

    /// In a few words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed before an answer",
            Self::TimedOut => "timed out",
            Self::NoAnswer => "connected, but no answer",
            Self::Unreachable => "unreachable",
            Self::NotPermitted => "not permitted here",
            Self::NoLocalPort => "no local port",
            Self::NoDescriptors => "no descriptor",
            Self::Other => "other",
        }
    }

    /// What to look at.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Refused => {
                "nothing listens there, or the Service has no endpoint: compare `pointsman get endpoints`"
            }
            Self::Reset => "the server ended it: look at its log and its limits",
            Self::Closed | Self::NoAnswer => {
                "the server does not greet with a line: use --by conntrack on the node, or serve `pointsman respond`"
            }
            Self::TimedOut => {
                "packets are dropped, or a pod is gone: see where with `pointsman trace`, or give a longer --timeout"
            }
            Self::Unreachable => "there is no route to the target or to an endpoint: see `ip route get`",
            Self::NotPermitted => "a firewall or a policy of this host forbids it",
            Self::NoLocalPort => {
                "all local ports are in use: widen net.ipv4.ip_local_port_range, give more addresses with --from, or \
                 use --close reset"
            }
            Self::NoDescriptors => "the limit of open files is reached: raise it (ulimit -n) or lower -c",
            Self::Other => "see the kernel's log",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_causes() {
        for (errno, cause) in [
            (Errno::ECONNREFUSED, Cause::Refused),
            (Errno::ECONNRESET, Cause::Reset),
            (Errno::ETIMEDOUT, Cause::TimedOut),
            (Errno::EHOSTUNREACH, Cause::Unreachable),
            (Errno::ENETUNREACH, Cause::Unreachable),
            (Errno::EPERM, Cause::NotPermitted),
            (Errno::EADDRNOTAVAIL, Cause::NoLocalPort),
            (Errno::EMFILE, Cause::NoDescriptors),
            (Errno::ENFILE, Cause::NoDescriptors),
            (Errno::EINVAL, Cause::Other),
        ] {
            assert_eq!(Cause::of(&errno.into()), cause, "{errno}");
        }
        assert_eq!(Cause::of(&io::Error::other("no number")), Cause::Other);
    }

    #[test]
    fn what_never_left_is_known() {
        assert!(Cause::NoLocalPort.is_local() && !Cause::Refused.is_local());
    }
}
