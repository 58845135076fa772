//! What can go wrong with an attachment.

use kernel::netns::NotOpened;

/// Why an attachment was not made, or is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is wanted makes no sense.
    #[error("{0}")]
    Bad(String),
    /// The pod's network namespace cannot be had.
    #[error(transparent)]
    Netns(#[from] NotOpened),
    /// The pod's network namespace is the node's own.
    #[error("network namespace {0} is the node's own: a pod that shares it gets no interface")]
    OwnNetns(String),
    /// There is such an interface in the pod. It was left alone.
    #[error("the pod has an interface {0} already")]
    InterfaceTaken(String),
    /// The bridge cannot be used.
    #[error("bridge {bridge}: {why}")]
    Bridge {
        /// Its name.
        bridge: String,
        /// Why not.
        why: String,
    },
    /// A port of the node leads to another pod. That was left alone.
    #[error("port {port} of the node is taken: it leads to {address} of {owner}")]
    PortTaken {
        /// `8080/tcp`, with the node's address before it if it is of one only.
        port: String,
        /// Where it leads to.
        address: String,
        /// Whose that is: container and interface, as the runtime calls them.
        owner: String,
    },
    /// Something that the kernel does later did not come about.
    #[error("{0} has not come about in {1} s")]
    Unsettled(String, u64),
    /// [`check`](super::check): it is not, or no longer, as it was made.
    #[error("{}", .0.join("; "))]
    Differs(Vec<String>),
    /// The file that keeps others from changing ports meanwhile cannot be locked.
    #[error("cannot lock {path}: {cause}")]
    Lock {
        /// The file.
        path: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}
