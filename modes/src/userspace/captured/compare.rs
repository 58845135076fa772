//! Telling how the kernel differs from what leads to the forwarder.

use std::net::SocketAddr;
use std::sync::Arc;

use endpoint_cache::Desired;

use super::super::forward::TargetKey;
use super::super::targets;
use super::Captured;
use crate::{Comparison, Error};

impl Captured {
    pub(super) fn compare_all(&mut self, desired: &Desired) -> Result<Comparison, Error> {
        let led = self.led_to_forwarder(desired);
        let mut comparison = self.inner.compare(&led)?;
        for family in &self.families {
            self.return_path.compare(family.family, family.address, &mut comparison)?;
        }
        Ok(comparison)
    }

    /// What the kernel is to be told. Before the first sync, the ports are those that it would give if no other program
    /// had any.
    fn led_to_forwarder(&self, desired: &Desired) -> Desired {
        let is_at_work = self.in_place.is_anything();
        let mut ports = self.ports.clone();
        let mut place = |key: &TargetKey| -> Option<SocketAddr> {
            if is_at_work {
                return self.place(key);
            }
            let address = self.families.iter().find(|family| family.family == key.family)?.address;
            let port = ports.get_mut(&(key.family, key.name.protocol))?.assign(key)?;
            Some((address, port).into())
        };
        let services = desired.service_ports.iter().map(|service| {
            let targets = targets::of(service, self.masquerade_all);
            let places: Vec<_> = targets.map(|target| (place(&target.key), target.key)).collect();
            let of = |key: &TargetKey| places.iter().find(|(_, known)| known == key)?.0;
            Arc::new(targets::for_kernel(service, of))
        });
        Desired { service_ports: services.collect(), ..desired.clone() }
    }
}
