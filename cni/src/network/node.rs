//! What a Node says, read and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use endpoint_cache::object::{Kind, Node, ObjectRef};
use endpoint_cache::{Family, Problem, parse_address, parse_range};
use ipnet::IpNet;
use kernel::Mac;
use serde::Deserialize;

use super::announcement::annotation;
use super::settings::{Backend, Settings};

/// The most bytes that are read of an annotation. flannel's have some 50.
const MOST: usize = 1024;

/// What a Node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// When it was created (RFC 3339): of two that claim the same, the older has it.
    pub(super) created: Option<String>,
    /// The ranges of its pods.
    pub(super) ranges: BTreeMap<Family, IpNet>,
    /// Where others send to.
    pub(super) addresses: BTreeMap<Family, IpAddr>,
    /// All of its addresses.
    pub(super) all_addresses: BTreeSet<IpAddr>,
    /// Its `InternalIP`s.
    pub(super) internal: Vec<IpAddr>,
    /// Hardware addresses of its VXLAN devices.
    pub(super) macs: BTreeMap<Family, Mac>,
    /// How it reaches others, by its own word.
    pub(super) backend: Option<String>,
    /// Addresses that an operator wants it to announce.
    pub(super) overwritten: BTreeMap<Family, IpAddr>,
}

/// `flannel.alpha.coreos.com/backend-data` of a node with a VXLAN device.
#[derive(Deserialize)]
struct BackendData {
    #[serde(rename = "VtepMAC")]
    mac: String,
    /// Older ones do not say.
    #[serde(rename = "VNI")]
    vni: Option<u32>,
}

/// Reads a Node. What cannot be used is left out, and told of.
pub(super) fn read(node: &Node, settings: &Settings) -> (Facts, Vec<Problem>) {
    let object = ObjectRef { kind: Kind::Node, name: node.object_name() };
    let mut reading = Reading { node, settings, object, problems: Vec::new() };
    let mut facts = Facts {
        created: node.metadata.creation_timestamp.clone().filter(|time| time.len() <= MOST),
        backend: reading.backend(),
        ..Facts::default()
    };
    reading.ranges(&mut facts);
    reading.addresses(&mut facts);
    for family in Family::BOTH {
        let mac = if facts.backend.as_deref().is_some_and(is_known) { reading.mac(family) } else { None };
        facts.macs.extend(mac.map(|mac| (family, mac)));
    }
    (facts, reading.problems)
}

fn is_known(backend: &str) -> bool {
    [Backend::Vxlan, Backend::HostGw, Backend::Bgp].iter().any(|known| known.as_str() == backend)
}

struct Reading<'a> {
    node: &'a Node,
    settings: &'a Settings,
    object: ObjectRef,
    problems: Vec<Problem>,
}

impl<'a> Reading<'a> {
    fn problem(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        // An object with a thousand mistakes is no thousand problems.
        if self.problems.len() < 16 {
            let object = self.object.clone();
            self.problems.push(Problem { object, field: field.into(), reason: reason.into() });
        }
    }

    /// An annotation, by its name without prefix, and the field that it is.
    fn annotation(&self, name: &str) -> Option<(&'a str, String)> {
        let name = annotation(name);
        let value = self.node.metadata.annotations.get(&name)?.trim();
        Some((value, format!("metadata.annotations[{name}]"))).filter(|(value, _)| !value.is_empty())
    }

    fn backend(&mut self) -> Option<String> {
        let (value, field) = self.annotation("backend-type")?;
        if !is_known(value) {
            let value = excerpt(value);
            self.problem(field, format!("{value} is no way to reach others that is known here."));
        }
        Some(value.chars().take(MOST).collect())
    }

    fn ranges(&mut self, facts: &mut Facts) {
        let spec = &self.node.spec;
        let single = std::slice::from_ref(&spec.pod_cidr);
        let texts = if spec.pod_cidrs.is_empty() { single } else { &spec.pod_cidrs };
        for (at, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            let field = format!("spec.podCIDRs[{at}]");
            let Some(range) = parse_range(text) else {
                self.problem(field, format!("{} is no range: left out.", excerpt(text)));
                continue;
            };
            let family = Family::of(range.addr());
            if let Some(why) = self.unusable(range) {
                self.problem(field, format!("{range} {why}: left out."));
            } else if let Some(first) = facts.ranges.get(&family) {
                let reason = format!("{range} is a second range of {family}, after {first}: left out.");
                self.problem(field, reason);
            } else if self.settings.families.contains(&family) {
                facts.ranges.insert(family, range);
            }
        }
    }

    /// Why a range cannot be pods'.
    fn unusable(&self, range: IpNet) -> Option<&'static str> {
        let clusters = &self.settings.cluster_cidrs;
        let mut same_family =
            clusters.iter().filter(|cluster| cluster.addr().is_ipv4() == range.addr().is_ipv4());
        let first = range.network();
        let is_link_local = match first {
            IpAddr::V4(first) => first.is_link_local(),
            IpAddr::V6(first) => first.is_unicast_link_local(),
        };
        if range.prefix_len() == 0 || first.is_unspecified() {
            Some("is everything")
        } else if first.is_loopback() || first.is_multicast() || is_link_local {
            Some("is not for ordinary addresses")
        } else if !clusters.is_empty() && !same_family.any(|cluster| cluster.contains(&range)) {
            Some("is not within the cluster's ranges")
        } else {
            None
        }
    }

    /// flannel's annotations come before what the Node's status says: they tell on which of its addresses it listens.
    fn addresses(&mut self, facts: &mut Facts) {
        for (at, found) in self.node.status.addresses.iter().enumerate() {
            if found.address_type != "InternalIP" {
                continue;
            }
            let field = format!("status.addresses[{at}].address");
            let Some(address) = self.address(&found.address, field) else { continue };
            facts.internal.push(address);
            facts.all_addresses.insert(address);
            facts.addresses.entry(Family::of(address)).or_insert(address);
        }
        for (family, name) in [(Family::V4, "public-ip"), (Family::V6, "public-ipv6")] {
            let said = self.announced(family, name);
            let overwritten = self.announced(family, &format!("{name}-overwrite"));
            facts.overwritten.extend(overwritten.map(|address| (family, address)));
            if let Some(address) = overwritten.or(said) {
                facts.addresses.insert(family, address);
                facts.all_addresses.insert(address);
            }
        }
    }

    fn announced(&mut self, family: Family, name: &str) -> Option<IpAddr> {
        let (value, field) = self.annotation(name)?;
        let address = self.address(value, field.clone())?;
        if Family::of(address) != family {
            self.problem(field, format!("{address} is no address of {family}: left out."));
            return None;
        }
        Some(address)
    }

    fn address(&mut self, text: &str, field: String) -> Option<IpAddr> {
        let address = parse_address(text);
        let usable = address
            .filter(|address| !(address.is_unspecified() || address.is_loopback() || address.is_multicast()));
        if usable.is_none() {
            self.problem(field, format!("{} is no address that can be sent to: left out.", excerpt(text)));
        }
        usable
    }

    fn mac(&mut self, family: Family) -> Option<Mac> {
        let name = if family == Family::V4 { "backend-data" } else { "backend-v6-data" };
        let (value, field) = self.annotation(name)?;
        if value == "null" {
            return None;
        }
        match read_mac(value, self.settings.vni) {
            Ok(mac) => Some(mac),
            Err(why) => {
                self.problem(field, format!("{} {why}: there is no tunnel to it.", excerpt(value)));
                None
            }
        }
    }
}

fn read_mac(text: &str, vni: u32) -> Result<Mac, &'static str> {
    if text.len() > MOST {
        return Err("is too long");
    }
    let data: BackendData = serde_json::from_str(text).map_err(|_| "is not what VXLAN's annotation holds")?;
    let mac: Mac = data.mac.parse().map_err(|_| "holds no hardware address")?;
    if !mac.is_unicast() {
        return Err("holds the hardware address of a group");
    }
    if data.vni.is_some_and(|theirs| theirs != vni) {
        return Err("is of another network (VNI)");
    }
    Ok(mac)
}

/// Text from outside, short enough for a sentence.
fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(64).collect();
    if excerpt.len() < text.len() {
        excerpt.push_str("...");
    }
    format!("{excerpt:?}")
}
