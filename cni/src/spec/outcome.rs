//! What `ADD` made, as the runtime is told, and as it tells the plugins that come after.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::decode::{decode, nullable};
use super::{Error, Version};

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// Interfaces, on the node and in the container.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(deserialize_with = "nullable")]
    pub ips: Vec<Address>,
    /// Routes in the container.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Whom the container may ask for names.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Bytes of the largest packet, since 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace it is in, by path; none on the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// A socket that carries its packets, since 1.1.0. Ours have none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// Its PCI device, since 1.1.0. Ours have none.
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address, with the length of its prefix.
    pub address: IpNet,
    /// The gateway of its range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route. What is optional is there since 1.1.0, but for the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// By way of whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Bytes of the largest packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Bytes of the largest TCP segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Lower ones are taken first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// The routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The kernel's number of the scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

impl Route {
    /// A route that says no more than where to and by way of whom.
    #[must_use]
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Whom a container may ask for names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers, in the order in which they are asked.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to look short names up in.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// What else the resolver is told.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Outcome {
    /// What was made, from any version's form.
    ///
    /// # Errors
    /// When it is of no version's form; names the field.
    pub fn from_json(value: &Value, what: &str) -> Result<Self, Error> {
        let old = value.get("ip4").is_some() || value.get("ip6").is_some();
        if old { Ancient::convert(value, what) } else { decode(value, what) }
    }

    /// In the form of a version: what that does not know is left out.
    #[must_use]
    pub fn to_json(&self, version: Version) -> Value {
        let mut shown = self.clone();
        if version < Version::V1_1_0 {
            for interface in &mut shown.interfaces {
                interface.mtu = None;
                interface.socket_path.clear();
                interface.pci_id.clear();
            }
            for route in &mut shown.routes {
                *route = Route::new(route.dst, route.gw);
            }
        }
        let mut object = match serde_json::to_value(&shown) {
            Ok(Value::Object(object)) => object,
            // Nothing in it can fail to be shown.
            _ => Map::new(),
        };
        if version < Version::V1_0_0 {
            tell_families(&mut object, &shown.ips);
        }
        object.insert("cniVersion".into(), version.as_str().into());
        Value::Object(object)
    }

    /// Adds what a later plugin of a chain made.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        let before = self.interfaces.len();
        self.interfaces.extend(later.interfaces);
        let moved = later
            .ips
            .into_iter()
            .map(|ip| Address { interface: ip.interface.map(|interface| interface + before), ..ip });
        self.ips.extend(moved);
        self.routes.extend(later.routes);
        if !later.dns.is_empty() {
            self.dns = later.dns;
        }
        self
    }
}

/// Until 1.0.0, each address said of which family it is.
fn tell_families(object: &mut Map<String, Value>, ips: &[Address]) {
    let shown = object.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten();
    for (shown, ip) in shown.zip(ips) {
        if let Some(shown) = shown.as_object_mut() {
            let family = if ip.address.addr().is_ipv4() { "4" } else { "6" };
            shown.insert("version".into(), family.into());
        }
    }
}

/// The form before 0.3.0: one address a family, each with its routes.
#[derive(Deserialize)]
struct Ancient {
    ip4: Option<AncientFamily>,
    ip6: Option<AncientFamily>,
    #[serde(default, deserialize_with = "nullable")]
    dns: Dns,
}

#[derive(Deserialize)]
struct AncientFamily {
    ip: IpNet,
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "nullable")]
    routes: Vec<Route>,
}

impl Ancient {
    fn convert(value: &Value, what: &str) -> Result<Outcome, Error> {
        let ancient: Self = decode(value, what)?;
        let mut outcome = Outcome { dns: ancient.dns, ..Outcome::default() };
        for family in [ancient.ip4, ancient.ip6].into_iter().flatten() {
            outcome.ips.push(Address { address: family.ip, gateway: family.gateway, interface: None });
            outcome.routes.extend(family.routes);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::Code;

    fn outcome() -> Outcome {
        let value = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "pm1", "mac": "00:11:22:33:44:55", "mtu": 1450},
                {"name": "eth0", "sandbox": "/run/netns/a", "socketPath": "/run/a", "pciID": "0000:00:1f.6"}
            ],
            "ips": [
                {"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 1},
                {"address": "fd00::5/64", "interface": 1}
            ],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "priority": 10, "table": 99, "scope": 0, "advmss": 1360}],
            "dns": {"nameservers": ["10.0.0.1"]},
            "someday": true
        });
        Outcome::from_json(&value, "prevResult").unwrap()
    }

    #[test]
    fn each_version_has_its_form() {
        let newest = outcome().to_json(Version::V1_1_0);
        assert_eq!(newest["cniVersion"], "1.1.0");
        assert_eq!(newest["interfaces"][0]["mtu"], 1450);
        assert_eq!(newest["interfaces"][1]["pciID"], "0000:00:1f.6");
        assert_eq!(newest["routes"][0]["advmss"], 1360);
        assert_eq!(newest["ips"][0].get("version"), None);

        let one = outcome().to_json(Version::V1_0_0);
        assert_eq!(one["interfaces"][1], json!({"name": "eth0", "sandbox": "/run/netns/a"}));
        assert_eq!(one["routes"], json!([{"dst": "0.0.0.0/0"}]));
        assert_eq!(one["ips"][0].get("version"), None);

        for version in [Version::V0_4_0, Version::V0_3_1] {
            let old = outcome().to_json(version);
            assert_eq!(old["cniVersion"], version.as_str());
            assert_eq!(old["ips"][0]["version"], "4");
            assert_eq!(old["ips"][1]["version"], "6");
            assert_eq!(Outcome::from_json(&old, "").unwrap().ips, outcome().ips);
        }
    }

    #[test]
    fn the_oldest_form_is_understood() {
        let value = json!({
            "ip4": {"ip": "10.0.0.5/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "fd00::5/64"},
            "dns": {}
        });
        let outcome = Outcome::from_json(&value, "").unwrap();
        assert_eq!(outcome.ips.len(), 2);
        assert_eq!(outcome.routes.len(), 1);
    }

    #[test]
    fn a_chain_adds_to_what_was_made_before() {
        let later = Outcome {
            interfaces: vec![Interface { name: "net1".into(), ..Interface::default() }],
            ips: vec![Address { address: "10.9.0.1/32".parse().unwrap(), gateway: None, interface: Some(0) }],
            ..Outcome::default()
        };
        let both = outcome().and(later);
        assert_eq!(both.ips[2].interface, Some(2));
        assert_eq!(both.interfaces[2].name, "net1");
        assert_eq!(both.dns, outcome().dns, "what is not said again stays");
    }

    #[test]
    fn nulls_are_as_good_as_nothing_and_nonsense_is_named() {
        let value = json!({"interfaces": null, "ips": null, "routes": null, "dns": null});
        assert_eq!(Outcome::from_json(&value, "").unwrap(), Outcome::default());
        let error =
            Outcome::from_json(&json!({"ips": [{"address": "10.0.0.300/24"}]}), "prevResult").unwrap_err();
        assert_eq!(error.code, Code::DECODING);
        assert!(error.to_string().contains("prevResult.ips[0].address"), "{error}");
    }
}
