//! What a container runtime and a plugin say to each other: the Container Network Interface, as its specification has it.
//!
//! A runtime runs a plugin with its request in the environment ([`Environment`]) and the network's configuration on
//! standard input ([`Config`]). It answers on standard output with what it made ([`Outcome`]) or with why it could not
//! ([`Error`]). Versions 0.3.1, 0.4.0, 1.0.0 and 1.1.0 are spoken; they differ in few fields, see [`Version`].
//!
//! Nothing here touches anything but the bytes it is given.

mod arguments;
mod config;
mod decode;
mod environment;
mod error;
mod outcome;
mod runtime;
mod version;

pub use arguments::Arguments;
pub use config::{Config, Gate, Ipam, IpamRange, Mode, OwnIpam};
pub use decode::{MOST_BYTES, read};
pub(crate) use environment::is_identifier;
pub use environment::{Attachment, Command, Environment, Namespace};
pub use error::{Code, Error};
pub use outcome::{Address, Dns, Interface, Outcome, Route};
pub(crate) use runtime::{asked_address, asked_mac};
pub use version::Version;
