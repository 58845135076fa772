//! `STATUS`: would `ADD` work?

use std::os::unix::net::UnixStream;

use super::Request;
use super::delegate::{self, Ask};
use super::record::{Found, Records};
use crate::ipam::{self, Boot, Fate};
use crate::network::Published;
use crate::spec::{Code, Error, Gate, Ipam};

/// Looks at all that `ADD` depends on.
pub(super) fn status(request: &Request) -> Result<(), Error> {
    let config = &request.config;
    let published = match request.published() {
        Ok(published) => published,
        Err(error) => return Err(Error { code: Code::NOT_AVAILABLE, ..error }),
    };
    match &config.ipam {
        Ipam::Own(own) => {
            if own.ranges.is_empty() && published.is_none() {
                return Err(not_ready(request));
            }
            ipam::status(&config.name, own, published.as_ref())?;
        }
        Ipam::Plugin(name) => {
            delegate::run(name, request, Ask::Same)?;
        }
    }
    gate(request, published.as_ref())
}

/// The node's network is not in working order. When a daemon that runs says so, pods that run feel it. When none runs, the
/// kernel goes on with what it has.
fn not_ready(request: &Request) -> Error {
    let why = format!("{} is not there", request.config.network_file.display());
    let running = Records::of(&request.config.state_dir).list().is_ok_and(|all| {
        let boot = Boot::current();
        let is_running = |found: &Found| match found {
            Found::Whole(record) => {
                record.network == request.config.name && record.birth.fate(&boot) == Fate::Alive
            }
            Found::Torn => false,
        };
        all.iter().any(|(_, found)| is_running(found))
    });
    if running && UnixStream::connect(&request.config.gate_socket).is_ok() {
        let msg = "the node's pod network does not work, and running pods may not reach everything";
        return Error::new(Code::LIMITED_CONNECTIVITY, msg).with(why);
    }
    Error::new(Code::NOT_AVAILABLE, "the node's pod network is not ready").with(why)
}

/// A pod that would wait for its policies in vain would not be made.
fn gate(request: &Request, published: Option<&Published>) -> Result<(), Error> {
    let config = &request.config;
    if config.gate != Gate::Closed {
        return Ok(());
    }
    UnixStream::connect(&config.gate_socket).map(|_| ()).map_err(|error| {
        let hint = match published {
            Some(_) => "the daemon has told of the network, so it ran a while ago",
            None => "without the daemon, the plugin works with \"gate\": \"off\"",
        };
        Error::new(Code::NOT_AVAILABLE, "no daemon tells when policies are in force")
            .with(format!("{}: {error}; {hint}", config.gate_socket.display()))
    })
}
