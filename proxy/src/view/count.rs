//! Counting endpoints, for sentences and cells. Pure.

use super::{EndpointView, PortView, ServiceView};

/// Whether traffic goes to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// All that there is of the port.
    Full,
    /// Some of it: traffic of one policy does, of the other not.
    Partial,
    /// None.
    Not,
}

impl Use {
    /// In a word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "yes",
            Self::Partial => "partly",
            Self::Not => "no",
        }
    }
}

impl ServiceView {
    /// Whether anything but the ClusterIP leads to a port.
    pub(crate) fn leads_from_outside(&self, port: &PortView) -> bool {
        port.node_port.is_some() || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// Whether traffic of a port goes to one of its endpoints.
    pub(crate) fn uses(&self, port: &PortView, endpoint: &EndpointView) -> Use {
        let external = self.leads_from_outside(port);
        let internal_local = self.internal_traffic_policy == "Local";
        let external_local = external && self.external_traffic_policy == "Local";
        let by_cluster = endpoint.used_by_cluster && (!internal_local || external);
        let by_local = endpoint.used_by_local && (internal_local || external_local);
        match (by_cluster || by_local, &endpoint.why_not) {
            (true, None) => Use::Full,
            (true, Some(_)) => Use::Partial,
            (false, _) => Use::Not,
        }
    }
}

impl PortView {
    /// How many endpoints there are of a kind. Dual-stack pods have one in each family, so the family with the most tells.
    pub(crate) fn count(&self, is: impl Fn(&EndpointView) -> bool) -> usize {
        let of = |v4: bool| self.endpoints.iter().filter(|e| e.address.is_ipv4() == v4 && is(e)).count();
        of(true).max(of(false))
    }

    /// `http (80/TCP)`, or `80/TCP`.
    pub(crate) fn text(&self) -> String {
        match self.name.as_str() {
            "" => format!("{}/{}", self.port, self.protocol),
            name => format!("{name} ({}/{})", self.port, self.protocol),
        }
    }
}
