//! Which Service an address belongs to, by what the running process knows. Pure.

use std::net::{IpAddr, SocketAddr};

use endpoint_cache::Protocol;

use super::{PortView, ServiceView, View};

/// What kind of address of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ClusterIp,
    ExternalIp,
    LoadBalancerIp,
    NodePort,
}

impl Kind {
    /// As Kubernetes has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "external IP",
            Self::LoadBalancerIp => "load-balancer IP",
            Self::NodePort => "node port",
        }
    }
}

/// A port of a Service, at one of its addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frontend<'a> {
    pub(crate) service: &'a ServiceView,
    pub(crate) port: &'a PortView,
    pub(crate) kind: Kind,
}

impl Frontend<'_> {
    /// `Service demo/web`
    pub(crate) fn object(&self) -> String {
        object(self.service)
    }

    /// `demo/web:http`
    pub(crate) fn name(&self) -> String {
        port_name(self.service, self.port)
    }
}

/// `Service demo/web`
pub(crate) fn object(service: &ServiceView) -> String {
    format!("Service {}/{}", service.namespace, service.name)
}

/// `demo/web:http`, or `demo/web:80` of a port without a name.
pub(crate) fn port_name(service: &ServiceView, port: &PortView) -> String {
    let own = if port.name.is_empty() { port.port.to_string() } else { port.name.clone() };
    format!("{}/{}:{own}", service.namespace, service.name)
}

/// The kind of a Service's address; not of the node's.
pub(crate) fn kind_of(service: &ServiceView, address: IpAddr) -> Option<Kind> {
    let of = |kind, addresses: &[IpAddr]| addresses.contains(&address).then_some(kind);
    of(Kind::ClusterIp, &service.cluster_ips)
        .or_else(|| of(Kind::ExternalIp, &service.external_ips))
        .or_else(|| of(Kind::LoadBalancerIp, &service.load_balancer_ips))
}

/// What a destination belongs to. `is_local` says whether its address is the node's. Of several Services that want it, one
/// without problems has it.
pub(crate) fn find(view: &View, to: SocketAddr, protocol: Protocol, is_local: bool) -> Option<Frontend<'_>> {
    let at = |service: &ServiceView, port: &PortView| {
        let kind = kind_of(service, to.ip()).filter(|_| port.port == to.port());
        kind.or((is_local && port.node_port == Some(to.port())).then_some(Kind::NodePort))
    };
    let of = |service| ports(service).filter(|port| port.protocol.eq_ignore_ascii_case(protocol.as_str()));
    let found = view.services.iter().flat_map(|service| {
        of(service).filter_map(move |port| Some(Frontend { service, port, kind: at(service, port)? }))
    });
    found.min_by_key(|frontend| (frontend.kind == Kind::NodePort, !frontend.service.problems.is_empty()))
}

fn ports(service: &ServiceView) -> impl Iterator<Item = &PortView> {
    service.ports.iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::lookup::tests::view;

    #[test]
    fn addresses_belong_to_services() {
        let view = view();
        for (text, protocol, is_local, expected) in [
            ("10.96.0.10:53", Protocol::Udp, false, Some(("kube-dns", Kind::ClusterIp))),
            ("192.0.2.1:80", Protocol::Tcp, false, Some(("web", Kind::ExternalIp))),
            ("192.0.2.2:80", Protocol::Tcp, false, Some(("web", Kind::LoadBalancerIp))),
            ("192.0.2.2:81", Protocol::Tcp, false, None),
            ("198.51.100.1:30080", Protocol::Tcp, true, Some(("web", Kind::NodePort))),
            ("198.51.100.2:30080", Protocol::Tcp, false, None),
            ("198.51.100.1:30080", Protocol::Udp, true, None),
        ] {
            let found = find(&view, text.parse().unwrap(), protocol, is_local);
            assert_eq!(found.map(|it| (it.service.name.as_str(), it.kind)), expected, "{text}");
        }
    }
}
