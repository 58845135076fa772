//! What can go wrong between us and the kernel.

use nix::errno::Errno;

use crate::iptables::OffendingLine;

/// Why the kernel could not be read or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks the capability.
    #[error(
        "no permission to {operation}: it takes CAP_NET_ADMIN (run as root, or give the container NET_ADMIN)"
    )]
    Permission {
        /// What was attempted.
        operation: String,
    },
    /// A file of the kernel that cannot be written by anybody here.
    #[error(
        "cannot {operation}: it is on a file system that is read-only here, as in a container without privileges"
    )]
    ReadOnly {
        /// What was attempted.
        operation: String,
    },
    /// The kernel was built or started without what is needed.
    #[error("the kernel lacks {what}: load the module or use a kernel built with it")]
    Unsupported {
        /// Subsystem that is missing.
        what: &'static str,
    },
    /// The kernel refused one operation, and with it the whole transaction.
    #[error("the kernel refused to {operation}: {errno}{}", explanation(.extended.as_deref()))]
    Refused {
        /// The operation, in netfilter's words: `add elements to set ip pointsman endpoints`.
        operation: String,
        /// Error number.
        errno: Errno,
        /// The kernel's own sentence (extended acknowledgement), if it gave one.
        extended: Option<String>,
    },
    /// The kernel's answer was lost (ENOBUFS) or missing: whether the transaction took effect is unknown.
    #[error("the kernel's answer to {operation} was lost: read its state again before the next change")]
    AnswerLost {
        /// What was attempted.
        operation: String,
    },
    /// The ruleset kept changing while it was read.
    #[error("{what} kept changing while being read; try again")]
    KeepsChanging {
        /// What was read.
        what: String,
    },
    /// A transaction larger than the socket takes.
    #[error("a transaction of {bytes} bytes is over the socket's limit of {limit}: raise net.core.wmem_max")]
    TooLarge {
        /// Size of the transaction.
        bytes: usize,
        /// What the socket takes at most.
        limit: usize,
    },
    /// A message from the kernel that does not parse.
    #[error("malformed netlink message from the kernel: {0}")]
    Malformed(&'static str),
    /// A program that is to be run is missing.
    #[error("{program} is not installed: install the package iptables")]
    NoProgram {
        /// Its file's name.
        program: String,
    },
    /// The xtables lock was held by another program for as long as we were willing to wait.
    #[error(
        "{} held the xtables lock for all of {seconds} s: iptables cannot be changed until it lets go",
        .holder.as_deref().unwrap_or("another program")
    )]
    Locked {
        /// For how long we waited.
        seconds: u64,
        /// Who holds it, `name (process 123)`, if that can be found.
        holder: Option<String>,
    },
    /// A script that makes a transaction larger than the socket of iptables takes, as happens in a user namespace.
    #[error("a script of {bytes} bytes makes a transaction too large for {program}: raise net.core.wmem_max")]
    ScriptTooLarge {
        /// The program's name.
        program: String,
        /// Size of the script.
        bytes: usize,
    },
    /// A program of iptables, or the kernel through it, refused what it was given.
    #[error("{program} refused {}: {said}", place(.line.as_ref()))]
    Rejected {
        /// The program's name.
        program: String,
        /// The line it blames, if it blames one.
        line: Option<OffendingLine>,
        /// What it said.
        said: String,
    },
    /// A system call failed.
    #[error("cannot {operation}: {cause}")]
    Io {
        /// What was attempted.
        operation: String,
        /// The system's error; part of the message, so not told again as a source.
        cause: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(operation: impl Into<String>, cause: impl Into<std::io::Error>) -> Self {
        Self::Io { operation: operation.into(), cause: cause.into() }
    }

    /// Whether a program of iptables said so, or could not be run.
    #[must_use]
    pub fn is_of_iptables(&self) -> bool {
        matches!(
            self,
            Self::NoProgram { .. }
                | Self::Locked { .. }
                | Self::ScriptTooLarge { .. }
                | Self::Rejected { .. }
        )
    }

    /// Whether something is still in use, as far as the kernel can tell now.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { errno: Errno::EBUSY, .. })
    }

    /// Whether the kernel was built or started without the address family.
    #[must_use]
    pub fn lacks_family(&self) -> bool {
        matches!(self, Self::Refused { errno: Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP, .. })
    }

    /// Whether it may be for what was asked, as opposed to a lack of memory, room or permission, something that is in
    /// use, or an outcome that is unknown.
    #[must_use]
    pub fn blames_the_request(&self) -> bool {
        const CIRCUMSTANCES: [Errno; 8] = [
            Errno::EAGAIN,
            Errno::EBUSY,
            Errno::EINTR,
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ENOMEM,
            Errno::ENOSPC,
            Errno::EROFS,
        ];
        match self {
            Self::Refused { errno, .. } => !CIRCUMSTANCES.contains(errno),
            Self::Rejected { .. } => true,
            _ => false,
        }
    }

    /// What an error number from the kernel means for an operation.
    pub(crate) fn from_errno(operation: String, errno: Errno, extended: Option<String>) -> Self {
        match errno {
            Errno::EPERM | Errno::EACCES => Self::Permission { operation },
            Errno::ENOBUFS => Self::AnswerLost { operation },
            errno => Self::Refused { operation, errno, extended },
        }
    }
}

fn explanation(extended: Option<&str>) -> String {
    extended.map(|text| format!(" ({text})")).unwrap_or_default()
}

fn place(line: Option<&OffendingLine>) -> String {
    line.map_or_else(|| "the script".to_owned(), ToString::to_string)
}
