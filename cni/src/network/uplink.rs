//! The device that leads to the other nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::link::{Address, Link};
use kernel::route::{MAIN, Route, Scope};
use regex::Regex;

use super::settings::Interface;
use crate::PROTOCOL;

/// The device that leads to the other nodes in a family, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its index.
    pub link: u32,
    /// Its name.
    pub name: String,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// The node's address on it.
    pub address: IpAddr,
    /// The ranges whose addresses are on its link: reached without a router.
    pub on_link: Vec<IpNet>,
}

impl Uplink {
    /// Whether an address is reached without a router.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.on_link.iter().any(|range| range.contains(&address))
    }
}

/// What the kernel has, among which the devices are looked for.
pub(super) struct Surroundings {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<Route>,
    /// The device that packets to [`Interface::Reaching`] leave by.
    pub(super) reaching: Option<u32>,
}

impl Surroundings {
    /// The devices, one a family. `node` are the own Node's addresses.
    pub(super) fn uplinks(
        &self,
        interface: &Interface,
        node: &[IpAddr],
    ) -> Result<BTreeMap<Family, Uplink>, String> {
        let chosen = match interface {
            Interface::Auto => None,
            Interface::Named(name) => {
                Some(self.named(name).ok_or_else(|| format!("there is no device {name}"))?)
            }
            Interface::Matching(pattern) => Some(self.matching(pattern)?),
            Interface::Reaching(to) => {
                let found = self.reaching.and_then(|link| self.link(link));
                Some(found.ok_or_else(|| format!("there is no way to {to}"))?)
            }
        };
        let found = Family::BOTH.into_iter().filter_map(|family| {
            let link = chosen.or_else(|| self.automatic(family, node))?;
            Some((family, self.uplink(family, link, node)?))
        });
        let found: BTreeMap<_, _> = found.collect();
        if found.is_empty() {
            return Err(match chosen {
                Some(link) => format!("device {} has no address that others could send to", link.name),
                None => "no device has an address of the Node, and there is no default route".to_owned(),
            });
        }
        Ok(found)
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    fn named(&self, name: &str) -> Option<&Link> {
        let address: Option<IpAddr> = name.parse().ok();
        self.links
            .iter()
            .find(|link| link.name == name || self.of(link.index).any(|found| Some(found.address) == address))
    }

    fn matching(&self, pattern: &str) -> Result<&Link, String> {
        let pattern =
            Regex::new(pattern).map_err(|error| format!("{pattern:?} is no regular expression: {error}"))?;
        let mut links: Vec<_> = self.links.iter().collect();
        links.sort_unstable_by_key(|link| link.index);
        let matches = |link: &&Link| {
            pattern.is_match(&link.name)
                || self.of(link.index).any(|found| pattern.is_match(&found.address.to_string()))
        };
        links.into_iter().find(matches).ok_or_else(|| format!("no device matches {:?}", pattern.as_str()))
    }

    fn automatic(&self, family: Family, node: &[IpAddr]) -> Option<&Link> {
        let is_nodes =
            |found: &&Address| Family::of(found.address) == family && node.contains(&found.address);
        let has_it = self.addresses.iter().find(is_nodes).and_then(|found| self.link(found.link));
        // An address of the loopback device is reached by whichever device.
        has_it.filter(|link| link.name != "lo").or_else(|| {
            let is_default = |route: &&Route| {
                route.destination.prefix_len() == 0
                    && Family::of(route.destination.addr()) == family
                    && route.table == MAIN
                    && route.link != 0
            };
            let default = self.routes.iter().filter(is_default).min_by_key(|route| route.metric)?;
            self.link(default.link)
        })
    }

    fn of(&self, link: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |found| found.link == link)
    }

    fn uplink(&self, family: Family, link: &Link, node: &[IpAddr]) -> Option<Uplink> {
        let here = |found: &&Address| Family::of(found.address) == family && !found.link_local_scope;
        let is_nodes = |address: IpAddr| Family::of(address) == family && node.contains(&address);
        let on_device = self.of(link.index).filter(here).map(|found| found.address);
        // The Node's own address comes first, be it on the loopback device.
        let on_any = self.addresses.iter().map(|found| found.address).find(|address| is_nodes(*address));
        let lo = self.links.iter().find(|link| link.name == "lo").map(|lo| lo.index);
        let on_loopback = on_any.filter(|address| {
            self.addresses.iter().any(|found| found.address == *address && Some(found.link) == lo)
        });
        let mut addresses: Vec<_> = on_device.collect();
        addresses.sort_by_key(|address| !is_nodes(*address));
        let address = addresses.first().copied().filter(|address| is_nodes(*address));
        let address = address.or(on_loopback).or(addresses.first().copied())?;
        let prefixes = self.of(link.index).filter(here).filter_map(|found| {
            let range = IpNet::new(found.address, found.prefix).ok()?.trunc();
            (range.prefix_len() < range.max_prefix_len()).then_some(range)
        });
        let routes = self.routes.iter().filter(|route| {
            route.link == link.index
                && route.gateway.is_none()
                && route.table == MAIN
                && route.protocol != PROTOCOL
                && route.destination.prefix_len() > 0
                && Family::of(route.destination.addr()) == family
                && (route.scope == Scope::Link || family == Family::V6)
        });
        let mut on_link: Vec<IpNet> = prefixes.chain(routes.map(|route| route.destination)).collect();
        on_link.retain(|range| !matches!(range, IpNet::V6(v6) if v6.addr().is_unicast_link_local()));
        on_link.sort_unstable();
        on_link.dedup();
        Some(Uplink { link: link.index, name: link.name.clone(), mtu: link.mtu, address, on_link })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        let link = |index, name: &str, mtu| Link { index, name: name.into(), mtu, ..Link::default() };
        let address = |link, address: &str, prefix| Address {
            link,
            address: address.parse().unwrap(),
            prefix,
            link_local_scope: address.starts_with("fe80"),
        };
        let route = |destination: &str, gateway: Option<&str>, link| Route {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            onlink: false,
            link,
            source: None,
            table: MAIN,
            protocol: 2,
            scope: if gateway.is_none() { Scope::Link } else { Scope::Universe },
            metric: None,
            mtu: None,
        };
        Surroundings {
            links: vec![
                link(1, "lo", 65536),
                link(3, "eth1", 9000),
                link(2, "eth0", 1500),
                link(4, "wg0", 1420),
            ],
            addresses: vec![
                address(1, "127.0.0.1", 8),
                address(1, "203.0.113.9", 32),
                address(2, "192.0.2.1", 24),
                address(2, "192.0.2.7", 24),
                address(2, "2001:db8::1", 64),
                address(2, "fe80::1", 64),
                address(3, "198.51.100.1", 24),
            ],
            routes: vec![
                route("0.0.0.0/0", Some("192.0.2.254"), 2),
                route("192.0.2.0/24", None, 2),
                route("192.0.3.0/24", None, 2),
                route("fe80::/64", None, 2),
            ],
            reaching: Some(3),
        }
    }

    fn found(interface: &Interface, node: &[&str]) -> Result<Vec<(String, String)>, String> {
        let node: Vec<IpAddr> = node.iter().map(|address| address.parse().unwrap()).collect();
        let found = surroundings().uplinks(interface, &node)?;
        Ok(found.into_values().map(|uplink| (uplink.name, uplink.address.to_string())).collect())
    }

    fn pair(name: &str, address: &str) -> (String, String) {
        (name.into(), address.into())
    }

    #[test]
    fn the_device_with_the_nodes_address_comes_first() {
        let auto = Interface::Auto;
        assert_eq!(found(&auto, &["198.51.100.1"]), Ok(vec![pair("eth1", "198.51.100.1")]));
        let both = vec![pair("eth0", "192.0.2.7"), pair("eth0", "2001:db8::1")];
        assert_eq!(found(&auto, &["192.0.2.7", "2001:db8::1"]), Ok(both));
        // Behind a translator, or on the loopback device: by the default route.
        assert_eq!(found(&auto, &["233.252.0.1"]), Ok(vec![pair("eth0", "192.0.2.1")]));
        assert_eq!(found(&auto, &["203.0.113.9"]), Ok(vec![pair("eth0", "203.0.113.9")]));
    }

    #[test]
    fn the_operator_may_choose() {
        let eth0 = vec![pair("eth0", "192.0.2.1"), pair("eth0", "2001:db8::1")];
        let eth1 = vec![pair("eth1", "198.51.100.1")];
        assert_eq!(found(&Interface::Named("eth1".into()), &["192.0.2.1"]), Ok(eth1.clone()));
        assert_eq!(found(&Interface::Named("198.51.100.1".into()), &[]), Ok(eth1.clone()));
        assert_eq!(found(&Interface::Matching("^eth".into()), &[]), Ok(eth0));
        assert_eq!(found(&Interface::Matching(r"^198\.51".into()), &[]), Ok(eth1.clone()));
        assert_eq!(found(&Interface::Reaching("198.51.100.9".parse().unwrap()), &[]), Ok(eth1));
    }

    #[test]
    fn what_cannot_be_is_told_in_words() {
        for (interface, word) in [
            (Interface::Named("eth9".into()), "eth9"),
            (Interface::Named("wg0".into()), "wg0 has no address"),
            (Interface::Matching("(".into()), "no regular expression"),
            (Interface::Matching("nothing".into()), "no device matches"),
        ] {
            let why = found(&interface, &[]).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn what_is_on_the_link_is_known_by_addresses_and_routes() {
        let found = surroundings().uplinks(&Interface::Auto, &[]).unwrap();
        let uplink = &found[&Family::V4];
        let reached = ["192.0.2.200", "192.0.3.1", "198.51.100.1", "8.8.8.8"];
        assert_eq!(
            reached.map(|address| uplink.reaches(address.parse().unwrap())),
            [true, true, false, false]
        );
        assert_eq!(uplink.mtu, 1500);
    }
}
