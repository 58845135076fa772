//! Which local port a service port has. Pure.
//!
//! A Service's own port where that is free and needs no privilege, so that a database is where everybody expects it;
//! else one of a range, by the service port's name. Ports of TCP and UDP are apart.

use std::ops::RangeInclusive;
use std::sync::Arc;

use endpoint_cache::{Protocol, ServicePortName};

use crate::userspace::ports::Ports;

/// Below are ports that only root may listen on.
const UNPRIVILEGED: u16 = 1024;
/// Below the ports that Linux gives to outgoing connections, and those of Kubernetes' node ports.
const RANGE: RangeInclusive<u16> = 20_000..=29_999;

/// Each service port's local port.
#[derive(Debug)]
pub(super) struct Assigned {
    tcp: Ports<Arc<ServicePortName>>,
    udp: Ports<Arc<ServicePortName>>,
    changed: bool,
}

impl Assigned {
    /// What was assigned earlier. What cannot be used is left out.
    pub(super) fn new(known: impl IntoIterator<Item = (Arc<ServicePortName>, u16)>) -> Self {
        let mut assigned = Self { tcp: Ports::new(RANGE), udp: Ports::new(RANGE), changed: false };
        for (name, port) in known.into_iter().filter(|(_, port)| *port >= UNPRIVILEGED) {
            if let Some(ports) = assigned.ports(&name) {
                ports.assign_exactly(&name, port);
            }
        }
        assigned
    }

    /// The port that a service port has, or gets now. `None` when none is free, or its protocol has none.
    pub(super) fn assign(&mut self, name: &Arc<ServicePortName>, own: u16) -> Option<u16> {
        let ports = self.ports(name)?;
        if let Some(port) = ports.get(name) {
            return Some(port);
        }
        let port = match own >= UNPRIVILEGED && ports.assign_exactly(name, own) {
            true => Some(own),
            false => ports.assign(name),
        };
        self.changed = true;
        port
    }

    /// Another program has a port: the service port gets another.
    pub(super) fn refuse(&mut self, name: &Arc<ServicePortName>, port: u16) -> Option<u16> {
        self.changed = true;
        self.ports(name)?.refuse(name, port)
    }

    /// All but these are gone.
    pub(super) fn retain(&mut self, stays: impl Fn(&ServicePortName) -> bool) {
        let gone: Vec<_> = self.all().map(|(name, _)| Arc::clone(name)).filter(|name| !stays(name)).collect();
        gone.iter().for_each(|name| self.release(name));
    }

    /// A service port is gone.
    pub(super) fn release(&mut self, name: &Arc<ServicePortName>) {
        if let Some(ports) = self.ports(name) {
            ports.release(name);
        }
        self.changed = true;
    }

    /// Every service port that has one, sorted by protocol and name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<ServicePortName>, u16)> {
        self.tcp.assigned().chain(self.udp.assigned())
    }

    /// Whether anything changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn ports(&mut self, name: &ServicePortName) -> Option<&mut Ports<Arc<ServicePortName>>> {
        match name.protocol {
            Protocol::Tcp => Some(&mut self.tcp),
            Protocol::Udp => Some(&mut self.udp),
            Protocol::Sctp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, protocol: Protocol) -> Arc<ServicePortName> {
        let (namespace, port) = ("test".into(), "".into());
        Arc::new(ServicePortName { namespace, name: name.into(), port, protocol })
    }

    fn tcp(service: &str) -> Arc<ServicePortName> {
        name(service, Protocol::Tcp)
    }

    #[test]
    fn its_own_port_where_that_is_to_be_had() {
        let mut assigned = Assigned::new([]);
        assert_eq!(assigned.assign(&tcp("db"), 5432), Some(5432));
        assert_eq!(assigned.assign(&name("db", Protocol::Udp), 5432), Some(5432), "that is UDP's");
        for (service, own) in [("web", 80), ("other-db", 5432)] {
            let port = assigned.assign(&tcp(service), own).unwrap();
            assert!(RANGE.contains(&port), "{service}: {port}");
            assert_eq!(assigned.assign(&tcp(service), own), Some(port));
        }
        assert_eq!(assigned.assign(&name("sctp", Protocol::Sctp), 5432), None);
    }

    #[test]
    fn what_was_assigned_stays_and_what_is_gone_is_free() {
        let known = [(tcp("a"), 5432), (tcp("low"), 80), (tcp("b"), 5432), (tcp("gone"), 6000)];
        let mut assigned = Assigned::new(known);
        assert_eq!(assigned.all().map(|(_, port)| port).collect::<Vec<_>>(), [5432, 6000]);
        assert!(!assigned.take_changed());
        assert_eq!(assigned.assign(&tcp("a"), 1234), Some(5432));
        assert!(!assigned.take_changed());
        assigned.retain(|name| &*name.name != "gone");
        assert!(assigned.take_changed());
        assert_eq!(assigned.assign(&tcp("new"), 6000), Some(6000));
    }

    #[test]
    fn a_port_that_another_program_has_is_nobodys() {
        let mut assigned = Assigned::new([(tcp("a"), 5432)]);
        let other = assigned.refuse(&tcp("a"), 5432).unwrap();
        assert!(RANGE.contains(&other) && assigned.take_changed());
        assert_ne!(assigned.assign(&tcp("b"), 5432), Some(5432));
    }
}
