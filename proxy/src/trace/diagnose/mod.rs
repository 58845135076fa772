//! Where a connection stops and why, each in a plain sentence that names the object to look at. Pure.

mod endpoints;
mod node;
mod policies;
mod stops;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::connections::Existing;
use super::model::{End, Packet, Way};
use super::policies::Said;
use crate::status::Status;
use crate::view::frontend::{self, Frontend};
use crate::view::{ServiceView, View};

pub(super) use endpoints::{allowed, difference};

/// What is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Matter {
    AddressOfPod,
    Affinity,
    DaemonNotRunning,
    Drift,
    Dropped,
    ExternalLocal,
    ExternalName,
    ForwardingOff,
    Headless,
    InternalLocal,
    LeftOut,
    NeverSynced,
    NoEndpoints,
    NoRouteToEndpoint,
    NoRules,
    NoService,
    NoSuchAddress,
    NodePortAddress,
    NotANodePort,
    NotReady,
    NotServed,
    OnlyTerminating,
    OtherFamily,
    OtherMode,
    PolicyDenied,
    PolicyDrift,
    PortNameMismatch,
    Refused,
    SourceRange,
    StaleFlow,
    SyncFailed,
    Untranslated,
    WrongPort,
    WrongProtocol,
}

/// Something worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    /// What is the matter.
    pub(super) name: Matter,
    /// Whether it keeps connections from being answered.
    pub(super) stops: bool,
    /// The same in a sentence.
    pub(super) says: String,
    /// What to look at: `Service demo/web`, `EndpointSlice demo/web-abc`, `sysctl net.ipv4.ip_forward`.
    pub(super) look_at: String,
}

impl Finding {
    fn stop(name: Matter, look_at: impl Into<String>, says: impl Into<String>) -> Self {
        Self { name, stops: true, says: says.into(), look_at: look_at.into() }
    }

    fn note(name: Matter, look_at: impl Into<String>, says: impl Into<String>) -> Self {
        Self { stops: false, ..Self::stop(name, look_at, says) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Look at {}.", self.says, self.look_at)
    }
}

/// What the node is like, as far as it matters to this connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether the destination's address is this node's own.
    pub(super) destination_is_local: bool,
    /// Whether packets are passed on from one interface to another, if that is known.
    pub(super) forwards: Option<bool>,
    /// Endpoints that there is no route to.
    pub(super) unreachable: Vec<SocketAddr>,
    /// Whether an endpoint is an address of this node's own.
    pub(super) serves_itself: bool,
    /// The address of this node at which a node port answers which does not at the destination.
    pub(super) answers_at: Option<IpAddr>,
}

/// All that is known of a connection.
pub(super) struct Case<'a> {
    pub(super) packet: &'a Packet,
    /// The mode whose rules decide.
    pub(super) rules: Option<&'static str>,
    /// What they lead to.
    pub(super) ways: &'a [Way],
    /// What the destination belongs to.
    pub(super) frontend: Option<Frontend<'a>>,
    /// The service port that was asked about, if one was: `demo/web:http`.
    pub(super) meant: Option<&'a str>,
    /// What the running process knows, or why there is none.
    pub(super) view: Result<&'a View, &'a str>,
    /// How it stands.
    pub(super) status: Option<&'a Status>,
    pub(super) existing: &'a [Existing],
    pub(super) facts: Facts,
    /// What policies say.
    pub(super) policies: &'a Said,
}

impl Case<'_> {
    /// The endpoints that it may be led to.
    fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.ways.iter().filter_map(|way| match way.end {
            End::Endpoint { to, .. } => Some(to),
            _ => None,
        })
    }
}

/// What there is to say of a connection; first what stands in its way.
pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = stops::findings(case);
    findings.extend(endpoints::findings(case));
    findings.extend(node::findings(case));
    findings.extend(policies::findings(case));
    findings.sort_by_key(|finding| !finding.stops);
    findings
}

/// Why a Service has no address that may be asked about, in the way of `what` is asked for.
pub(super) fn without_address(service: &ServiceView, what: &str) -> Finding {
    let object = frontend::object(service);
    let problem = service.problems.first().map(|why| why.strip_prefix("not served: ").unwrap_or(why));
    let is_headless = service.cluster_ips.is_empty() && problem.is_none_or(|why| why.contains("headless"));
    if service.kind == "ExternalName" {
        let says =
            "It is of type ExternalName, which is an alias in the cluster's DNS: no address leads to it.";
        return Finding::stop(
            Matter::ExternalName,
            format!("{object}, spec.type and spec.externalName"),
            says,
        );
    }
    match problem {
        _ if is_headless => {
            let says = "It is headless (clusterIP: None): its name resolves to the pods' own addresses, and no proxy is \
                        on the way.";
            Finding::stop(Matter::Headless, format!("{object}, spec.clusterIP"), says)
        }
        Some(why) => Finding::stop(Matter::NotServed, object, format!("It is not served: {why}.")),
        None => Finding::stop(Matter::NoSuchAddress, object, format!("It has no {what}.")),
    }
}
