//! `pointsman policy check`: is a connection allowed, and by whom, or who does not?

use anyhow::ensure;
use endpoint_cache::Protocol;
use policy::Connection;
use serde::{Deserialize, Serialize};

use super::judge::Judgement;
use super::known::Known;
use super::{Answer, ends};
use crate::cli::CheckFlags;

/// What policies say of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    /// Whether it is allowed whichever addresses and port are used.
    pub(super) allowed: bool,
    /// One for each family that both ends have, and each number that the port's name stands for.
    pub(super) connections: Vec<Judgement>,
}

impl Answer for Check {
    fn is_yes(&self) -> bool {
        !self.allowed
    }
}

/// Answers the question.
///
/// # Errors
/// When it makes no sense, or there is nobody to ask.
pub(super) fn check(flags: &CheckFlags, socket: Option<&str>) -> anyhow::Result<Check> {
    let known = Known::of(flags.manifests.as_deref(), socket)?;
    of(&known, &flags.from, &flags.to, flags.protocol.into())
}

pub(super) fn of(known: &Known, from: &str, to: &str, protocol: Protocol) -> anyhow::Result<Check> {
    let snapshot = &known.view.snapshot;
    let source = ends::end(from, snapshot)?;
    let (destination, ports) = ends::destination(to, protocol, snapshot)?;
    let cluster = known.cluster();
    let mut connections = Vec::new();
    for source in &source.addresses {
        let reached = destination.addresses.iter().filter(|address| address.is_ipv4() == source.is_ipv4());
        for destination in reached {
            connections.extend(ports.iter().map(|port| {
                cluster.judge(&Connection {
                    source: *source,
                    destination: *destination,
                    protocol,
                    port: *port,
                })
            }));
        }
    }
    ensure!(
        !connections.is_empty(),
        "{from} and {to} have no address family in common, so they cannot connect"
    );
    Ok(Check { allowed: connections.iter().all(|connection| connection.allowed), connections })
}
