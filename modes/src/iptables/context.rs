//! What this mode's rules depend on besides services.

use endpoint_cache::{Desired, Family};
use kernel::sysctl;

use crate::Settings;
use crate::context::{Context as Common, Unset};

use super::rule::{self, Is, Rule};

/// More endpoints than this, and rules for each endpoint go without a comment, as in kube-proxy: the kernel holds 256
/// bytes for each.
const FEW_ENDPOINTS: usize = 1000;

/// Everything that the rules of a family depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) common: Common,
    /// Whether node ports answer on loopback addresses.
    pub(super) localhost_node_ports: bool,
    /// Whether packets that conntrack finds invalid are dropped on their way through the node.
    pub(super) drop_invalid: bool,
    /// Whether rules for each endpoint have comments.
    pub(super) endpoint_comments: bool,
}

impl Context {
    pub(super) fn new(family: Family, settings: &Settings, desired: &Desired) -> Self {
        let of_family = desired.service_ports.iter().filter(|service| service.family == family);
        let endpoints: usize = of_family.map(|service| service.serving_endpoints.len()).sum();
        Self {
            common: Common::new(family, settings, &desired.node, &desired.service_cidrs, Unset::All),
            localhost_node_ports: family == Family::V4 && settings.localhost_node_ports,
            drop_invalid: !conntrack_is_liberal(),
            endpoint_comments: endpoints <= FEW_ENDPOINTS,
        }
    }

    pub(super) fn family(&self) -> Family {
        self.common.family
    }

    /// `0x4000/0x4000`
    pub(super) fn mark(&self) -> String {
        rule::mark(&self.common)
    }

    /// Adds a match on whether a packet comes from one of this node's pods; `None` if that cannot be told.
    pub(super) fn told_from_pods(&self, is: Is, rule: Rule) -> Option<Rule> {
        rule::told_from_pods(&self.common, is, rule)
    }
}

/// Whether conntrack takes packets outside the window as valid; then nothing is to be dropped for being invalid.
fn conntrack_is_liberal() -> bool {
    sysctl::get("net.netfilter.nf_conntrack_tcp_be_liberal").is_ok_and(|value| value != "0")
}
