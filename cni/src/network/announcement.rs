//! What a node tells the others about itself: annotations of its Node, those of flannel.

use std::collections::BTreeMap;
use std::net::IpAddr;

use endpoint_cache::Family;
use kernel::Mac;
use serde_json::json;

/// What comes before every name.
pub(super) const PREFIX: &str = "flannel.alpha.coreos.com/";

/// What a node tells the others about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// [`Backend::as_str`](super::Backend::as_str). While BIRD learns, what the annotation said before; if nothing,
    /// `vxlan` where there is a tunnel to send by.
    pub backend: String,
    /// VXLAN's number of the network.
    pub vni: u32,
    /// The VXLAN devices' hardware addresses.
    pub tunnels: BTreeMap<Family, Mac>,
    /// The node's addresses that others send to.
    pub addresses: BTreeMap<Family, IpAddr>,
}

impl Announcement {
    /// The annotations that say so, as names and values; `None` for one that is to be removed.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, Option<String>> {
        let data = |family| {
            let named = self.addresses.contains_key(&family);
            let mac = self.tunnels.get(&family);
            match mac {
                Some(mac) => Some(json!({ "VNI": self.vni, "VtepMAC": mac.to_string() }).to_string()),
                // As flannel has it where there is no tunnel.
                None => named.then(|| "null".to_owned()),
            }
        };
        let address = |family| self.addresses.get(&family).map(IpAddr::to_string);
        let pairs = [
            ("kube-subnet-manager", Some("true".to_owned())),
            ("backend-type", Some(self.backend.clone())),
            ("backend-data", data(Family::V4)),
            ("backend-v6-data", data(Family::V6)),
            ("public-ip", address(Family::V4)),
            ("public-ipv6", address(Family::V6)),
        ];
        pairs.into_iter().map(|(name, value)| (annotation(name), value)).collect()
    }

    /// The names of all annotations that are ours, for who removes them.
    #[must_use]
    pub fn names() -> Vec<String> {
        let names = [
            "kube-subnet-manager",
            "backend-type",
            "backend-data",
            "backend-v6-data",
            "public-ip",
            "public-ipv6",
        ];
        names.into_iter().map(annotation).collect()
    }
}

/// The whole name of an annotation.
pub(super) fn annotation(name: &str) -> String {
    format!("{PREFIX}{name}")
}
