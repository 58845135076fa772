//! Changes that the kernel did not make.

use std::fmt;

use nix::errno::Errno;

use super::types::{Operation, Server};
use crate::Error;
use crate::netlink::Refusal;

/// An operation that the kernel refused. Those before and behind it were made nonetheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of those given, counted from 0.
    pub operation: usize,
    /// Error number.
    pub errno: Errno,
    what: Operation,
    extended: Option<String>,
}

impl Refused {
    pub(super) fn new(operation: usize, what: Operation, refusal: Refusal) -> Self {
        Self { operation, errno: refusal.errno, what, extended: refusal.extended }
    }

    /// Whether what was to be added was there already.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.errno == Errno::EEXIST
    }

    /// Whether what was to be changed or removed, or the virtual server of a destination, was not there.
    #[must_use]
    pub fn missing(&self) -> bool {
        // The same number says for a virtual server that it has no such scheduler.
        self.errno == Errno::ESRCH || (self.errno == Errno::ENOENT && self.server().is_none())
    }

    /// Whether the kernel does not have the scheduler.
    #[must_use]
    pub fn no_scheduler(&self) -> bool {
        self.errno == Errno::ENOENT && self.server().is_some()
    }

    fn server(&self) -> Option<&Server> {
        match &self.what {
            Operation::AddServer(server) | Operation::SetServer(server) => Some(server),
            _ => None,
        }
    }

    /// What IPVS means by the number, as it has no words of its own.
    fn explanation(&self) -> Option<String> {
        match (self.errno, self.server()) {
            (Errno::ENOENT, Some(server)) => {
                let name = server.scheduler.as_str();
                Some(format!("the kernel has no scheduler {name}: module ip_vs_{name}"))
            }
            (Errno::ENOENT, None) => Some("there is no such destination".to_owned()),
            (Errno::ESRCH, _) => Some("there is no such virtual server".to_owned()),
            (Errno::EEXIST, _) => Some("there is one already".to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::from(self.clone()).fmt(f)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let extended = refused.extended.clone().or_else(|| refused.explanation());
        Self::from_errno(refused.what.to_string(), refused.errno, extended)
    }
}
