//! What the network loop asks of the kernel; in tests, of something else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cni::network::{Applier, Delta, Desired, Error, News, Report, Uplink, Way};
use endpoint_cache::Family;
use ipnet::IpNet;

/// Waits for news.
pub(super) type Watch = Box<dyn FnMut() -> Result<News, Error> + Send>;

/// As [`Applier`] does.
pub(super) trait Kernel: Send {
    /// The devices that lead to the other nodes, of a node with these addresses.
    fn uplinks(&mut self, node: &[IpAddr]) -> Result<BTreeMap<Family, Uplink>, Error>;

    /// What BIRD has learned.
    fn learned(&mut self) -> Result<BTreeMap<IpNet, Way>, Error>;

    /// Brings the kernel to what is desired, whatever it holds.
    fn resync(&mut self, desired: &Desired) -> Result<Report, Error>;

    /// Brings it there from what the last call left.
    fn apply(&mut self, delta: &Delta, desired: &Desired) -> Result<Report, Error>;

    /// Listens from now on, in one place or several.
    fn watch(&mut self) -> Result<Vec<Watch>, Error>;
}

impl Kernel for Applier {
    fn uplinks(&mut self, node: &[IpAddr]) -> Result<BTreeMap<Family, Uplink>, Error> {
        Self::uplinks(self, node)
    }

    fn learned(&mut self) -> Result<BTreeMap<IpNet, Way>, Error> {
        Self::learned(self)
    }

    fn resync(&mut self, desired: &Desired) -> Result<Report, Error> {
        Self::resync(self, desired)
    }

    fn apply(&mut self, delta: &Delta, desired: &Desired) -> Result<Report, Error> {
        Self::apply(self, delta, desired)
    }

    fn watch(&mut self) -> Result<Vec<Watch>, Error> {
        let mut monitor = Self::watch(self)?;
        let mut watches: Vec<Watch> = vec![Box::new(move || monitor.next())];
        if let Some(mut tables) = self.watch_masquerade()? {
            watches.push(Box::new(move || Ok(News::Damage(tables.next_disturbance()?.to_string()))));
        }
        Ok(watches)
    }
}
