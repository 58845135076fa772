//! Which endpoint has how many of the connections to each port of a Service. Counting is pure; [`tracked`] reads.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use kernel::conntrack::Conntrack;
use modes::userspace::forward::TargetStatus;

use crate::view::{PortView, ServiceView};

/// IP protocol numbers that Services have.
const PROTOCOLS: [(u8, &str); 3] = [(6, "TCP"), (17, "UDP"), (132, "SCTP")];

/// A port: number of its Service, and its own number within that.
type Place = (usize, usize);

/// Connections by port and endpoint.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<Place, HashMap<SocketAddr, u64>>);

impl Shares {
    /// Those of a port.
    pub(super) fn of(&self, place: Place) -> Option<&HashMap<SocketAddr, u64>> {
        self.0.get(&place)
    }

    /// All those of a port.
    pub(super) fn total(&self, place: Place) -> u64 {
        self.of(place).map_or(0, |endpoints| endpoints.values().sum())
    }

    fn add(&mut self, place: Place, endpoint: SocketAddr, count: u64) {
        *self.0.entry(place).or_default().entry(endpoint).or_default() += count;
    }
}

/// Where ports of Services are reached.
#[derive(Debug, Default)]
struct Frontends {
    addresses: HashMap<(u8, SocketAddr), Place>,
    node_ports: HashMap<(u8, u16), Place>,
}

impl Frontends {
    fn of(services: &[ServiceView]) -> Self {
        let mut frontends = Self::default();
        for (number, service) in services.iter().enumerate() {
            for (port_number, port) in service.ports.iter().enumerate() {
                frontends.add(service, port, (number, port_number));
            }
        }
        frontends
    }

    fn add(&mut self, service: &ServiceView, port: &PortView, place: Place) {
        let known = PROTOCOLS.iter().find(|(_, name)| *name == port.protocol);
        let Some((protocol, _)) = known else { return };
        let addresses = [&service.cluster_ips, &service.external_ips, &service.load_balancer_ips];
        for address in addresses.into_iter().flatten() {
            self.addresses.entry((*protocol, (*address, port.port).into())).or_insert(place);
        }
        if let Some(node_port) = port.node_port {
            self.node_ports.entry((*protocol, node_port)).or_insert(place);
        }
    }

    /// The port that is reached there, if any. Node ports may answer on any address of the node.
    fn at(&self, protocol: u8, destination: SocketAddr) -> Option<Place> {
        let by_address = self.addresses.get(&(protocol, destination));
        by_address.or_else(|| self.node_ports.get(&(protocol, destination.port()))).copied()
    }
}

/// A number of connections: protocol, where they were sent, who answers.
type Counted = (u8, SocketAddr, SocketAddr, u64);

/// Sorts connections by the ports that they were sent to.
fn sorted(services: &[ServiceView], connections: impl IntoIterator<Item = Counted>) -> Shares {
    let (frontends, mut shares) = (Frontends::of(services), Shares::default());
    for (protocol, destination, replier, count) in connections {
        if let Some(place) = frontends.at(protocol, destination) {
            shares.add(place, replier, count);
        }
    }
    shares
}

/// Those that the kernel tracks; such as have just ended among them.
///
/// # Errors
/// When they cannot be listed.
pub(super) fn tracked(services: &[ServiceView]) -> Result<Shares, kernel::Error> {
    let mut conntrack = Conntrack::open()?;
    let mut counted: Vec<Counted> = Vec::new();
    for (protocol, _) in PROTOCOLS {
        for ipv6 in [false, true] {
            let detours = conntrack.count_detours(ipv6, protocol)?.into_iter();
            counted.extend(detours.map(|(way, count)| (way.protocol, way.destination, way.replier, count)));
        }
    }
    Ok(sorted(services, counted))
}

/// Those that userspace mode carries now.
pub(super) fn carried(services: &[ServiceView], targets: &[TargetStatus]) -> Shares {
    let places: HashMap<_, _> = services
        .iter()
        .enumerate()
        .flat_map(|(number, service)| {
            service.ports.iter().enumerate().map(move |(port_number, port)| {
                let protocol = port.protocol.to_lowercase();
                ((&*service.namespace, &*service.name, &*port.name, protocol), (number, port_number))
            })
        })
        .collect();
    let mut shares = Shares::default();
    for target in targets {
        let name = &target.key.name;
        let key = (&*name.namespace, &*name.name, &*name.port, name.protocol.to_string());
        let Some(place) = places.get(&key) else { continue };
        for status in target.endpoints.iter().filter(|status| status.active > 0) {
            let endpoint: (IpAddr, u16) = (status.endpoint.address, status.endpoint.port);
            shares.add(*place, endpoint.into(), u64::try_from(status.active).unwrap_or(u64::MAX));
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn web() -> ServiceView {
        let port = |name: &str, protocol: &str, port, node_port| PortView {
            name: name.into(),
            protocol: protocol.into(),
            port,
            node_port,
            endpoints: Vec::new(),
        };
        ServiceView {
            cluster_ips: vec!["10.96.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            external_ips: vec!["5.5.5.5".parse().unwrap()],
            load_balancer_ips: vec!["6.6.6.6".parse().unwrap()],
            ports: vec![port("http", "TCP", 80, Some(30080)), port("dns", "UDP", 80, None)],
            ..ServiceView::default()
        }
    }

    #[test]
    fn connections_count_for_the_port_that_they_were_sent_to() {
        let (one, two) = (at("10.1.0.1:8080"), at("10.1.0.2:8080"));
        let shares = sorted(
            &[ServiceView::default(), web()],
            [
                (6, at("10.96.0.1:80"), one, 3),
                (6, at("5.5.5.5:80"), one, 1),
                (6, at("6.6.6.6:80"), two, 1),
                (6, at("192.168.0.2:30080"), two, 4),
                (6, at("[fd00::1]:80"), at("[fd01::1]:8080"), 1),
                (17, at("10.96.0.1:80"), two, 7),
                (17, at("192.168.0.2:30080"), two, 1),
                (6, at("10.96.0.1:81"), two, 1),
                (6, at("10.96.0.2:80"), two, 1),
            ],
        );
        let http = shares.of((1, 0)).unwrap();
        assert_eq!((http[&one], http[&two], http.len()), (4, 5, 3));
        assert_eq!((shares.total((1, 0)), shares.total((1, 1)), shares.total((0, 0))), (10, 7, 0));
    }
}
