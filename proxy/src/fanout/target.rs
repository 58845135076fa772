//! Where to connect to, and what the process that runs here knows of it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail, ensure};
use endpoint_cache::Protocol;

use crate::view::frontend::{self, Frontend, Kind};
use crate::view::lookup::{self, Named, full_name};
use crate::view::{PortView, ServiceView, View, client};

/// Where, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) known: Option<Known>,
}

/// A Service's port, as the process sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// `namespace/name`, and `:port` if that has a name.
    pub(super) service: String,
    /// The mode that it is served in.
    pub(super) mode: String,
    /// How long a client stays with its endpoint, if it does.
    pub(super) affinity_seconds: Option<u32>,
    /// All endpoints, also those that are not used.
    pub(super) endpoints: Vec<KnownEndpoint>,
}

/// An endpoint of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownEndpoint {
    pub(super) address: SocketAddr,
    pub(super) node: Option<String>,
    /// Whether new connections may be sent to it.
    pub(super) used: bool,
}

impl Target {
    /// What a user's word means. An address needs nobody; a Service's name takes a process that knows it.
    pub(super) fn find(word: &str, udp: bool, socket: Option<&str>) -> anyhow::Result<Self> {
        if let Ok(address) = word.parse::<SocketAddr>() {
            ensure!(address.port() != 0, "{word}: port 0 is no port: write ADDRESS:PORT");
            let view = client::ask(socket).ok();
            return Ok(Self { address, known: view.and_then(|view| at_address(&view, address, udp)) });
        }
        if word.parse::<IpAddr>().is_ok() || word.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            bail!(
                "{word} has no port: write {}",
                SocketAddr::new(word.trim_matches(['[', ']']).parse()?, 80)
            );
        }
        let view = client::ask(socket).with_context(|| format!("cannot look {word} up"))?;
        by_name(&view, word, udp)
    }
}

fn protocol(udp: bool) -> Protocol {
    if udp { Protocol::Udp } else { Protocol::Tcp }
}

fn at_address(view: &View, address: SocketAddr, udp: bool) -> Option<Known> {
    // It may be a node's: a node port is the same on all of them.
    let Frontend { service, port, kind } = frontend::find(view, address, protocol(udp), true)?;
    Some(known(view, service, port, address.is_ipv4(), kind == Kind::ClusterIp))
}

fn by_name(view: &View, word: &str, udp: bool) -> anyhow::Result<Target> {
    let named = Named::read(word);
    let service = lookup::service(view, named)?;
    let Some(address) = service.cluster_ips.first() else {
        let name = full_name(service);
        bail!("Service {name} has no ClusterIP: give the ADDRESS:PORT of an endpoint instead");
    };
    let port = lookup::port(service, named.port, Some(protocol(udp).as_str()))?;
    Ok(Target {
        address: SocketAddr::new(*address, port.port),
        known: Some(known(view, service, port, address.is_ipv4(), true)),
    })
}

/// What is known of a port in one family.
fn known(view: &View, service: &ServiceView, port: &PortView, ipv4: bool, internal: bool) -> Known {
    let policy = if internal { &service.internal_traffic_policy } else { &service.external_traffic_policy };
    let local = policy == "Local";
    let of_family = port.endpoints.iter().filter(|endpoint| endpoint.address.is_ipv4() == ipv4);
    let endpoints = of_family.map(|endpoint| KnownEndpoint {
        address: endpoint.address,
        node: endpoint.node.clone(),
        used: if local { endpoint.used_by_local } else { endpoint.used_by_cluster },
    });
    let colon = if port.name.is_empty() { "" } else { ":" };
    Known {
        service: format!("{}/{}{colon}{}", service.namespace, service.name, port.name),
        mode: view.mode.clone(),
        affinity_seconds: service.affinity_seconds,
        endpoints: endpoints.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::EndpointView;

    fn view() -> View {
        let port = |name: &str, protocol: &str, port| PortView {
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            port,
            node_port: Some(30000 + port),
            ..PortView::default()
        };
        let service = |name: &str, last, ports: Vec<PortView>| ServiceView {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            cluster_ips: vec![[10, 96, 0, last].into()],
            ports,
            ..ServiceView::default()
        };
        let dns = vec![port("dns", "UDP", 53), port("dns-tcp", "TCP", 53), port("metrics", "TCP", 9153)];
        View {
            services: vec![service("dns", 1, dns), service("web", 2, vec![port("", "TCP", 80)])],
            ..View::default()
        }
    }

    fn found(word: &str, udp: bool) -> Result<String, String> {
        let target = by_name(&view(), word, udp).map_err(|error| error.to_string())?;
        Ok(target.address.to_string())
    }

    #[test]
    fn services_are_found_by_name() {
        assert_eq!(found("default/web", false), Ok("10.96.0.2:80".to_owned()));
        assert_eq!(found("default/dns", true), Ok("10.96.0.1:53".to_owned()));
        assert_eq!(found("default/dns:metrics", false), Ok("10.96.0.1:9153".to_owned()));
        assert_eq!(found("default/dns:9153", false), Ok("10.96.0.1:9153".to_owned()));
    }

    #[test]
    fn what_is_not_found_is_one_helpful_line() {
        for (word, words) in [
            ("default/wep", ["no Service default/wep", "did you mean default/web"]),
            ("default/dns", ["default/dns:PORT", "metrics (9153/TCP)"]),
            ("default/dns:none", ["no port \"none\"", "dns-tcp (53/TCP)"]),
            ("x/y", ["no Service x/y", "pointsman get services"]),
        ] {
            let error = found(word, false).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn targets_that_make_no_sense_are_one_helpful_line() {
        let nowhere = Some("/nonexistent/socket");
        for (word, part) in [
            ("10.0.0.1", "10.0.0.1:80"),
            ("fd00::1", "[fd00::1]:80"),
            ("10.0.0.1:0", "port 0"),
            ("default/web", "--socket"),
        ] {
            let error = format!("{:#}", Target::find(word, false, nowhere).unwrap_err());
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn endpoints_of_the_other_family_are_not_expected_to_answer() {
        let endpoint = |address: &str| EndpointView {
            address: address.parse().unwrap(),
            node: None,
            local: false,
            ready: true,
            serving: true,
            terminating: false,
            slice: "web-1".to_owned(),
            used_by_cluster: true,
            used_by_local: true,
            why_not: None,
        };
        let mut view = view();
        view.services[1].cluster_ips.push("fd00::2".parse().unwrap());
        view.services[1].ports[0].endpoints = ["10.0.0.1:80", "[fd00::1]:80"].map(endpoint).to_vec();
        for (frontend, expected) in [("10.96.0.2:80", "10.0.0.1:80"), ("[fd00::2]:80", "[fd00::1]:80")] {
            let known = at_address(&view, frontend.parse().unwrap(), false).unwrap();
            let addresses: Vec<_> = known.endpoints.iter().map(|it| it.address.to_string()).collect();
            assert_eq!(addresses, [expected]);
        }
    }

    #[test]
    fn addresses_are_known_if_somebody_knows_them() {
        let at = |text: &str, udp| at_address(&view(), text.parse().unwrap(), udp).map(|known| known.service);
        assert_eq!(at("10.96.0.2:80", false).as_deref(), Some("default/web"));
        assert_eq!(at("10.96.0.1:53", true).as_deref(), Some("default/dns:dns"));
        assert_eq!(at("192.168.0.2:30080", false).as_deref(), Some("default/web"));
        assert_eq!(at("10.96.0.2:81", false), None);
    }
}
