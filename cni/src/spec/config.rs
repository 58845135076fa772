//! The network's configuration, as it comes on standard input.
//!
//! Keys that we do not know are no mistake: they may be the IPAM plugin's, which gets all of it as it came.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::decode::{decode, nullable, object};
use super::environment::{interface_mistake, is_identifier};
use super::runtime::{Args, RuntimeConfig, attachments, bandwidth, ports};
use super::{Attachment, Code, Dns, Error, Outcome, Route, Version};
use crate::attach::{Bandwidth, PortMapper, PortMapping};
use crate::network::PUBLISHED_FILE;

/// Our own IPAM, by the name of its plugin.
pub(crate) const OWN_IPAM: &str = "pointsman-ipam";
/// Where address files are, as with the reference plugin.
const DATA_DIR: &str = "/var/lib/cni/networks";
const STATE_DIR: &str = "/var/lib/cni/pointsman";
const GATE_SOCKET: &str = "/run/pointsman/cni.sock";
const GATE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any runtime waits.
const LONGEST_GATE_TIMEOUT: Duration = Duration::from_secs(600);
/// The name becomes that of a folder.
const LONGEST_NAME: usize = 200;
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

/// How a pod is joined to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By routes.
    Routed,
    /// By a bridge.
    Bridge,
}

/// What becomes of a pod whose policies are not known to be in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// It is not made.
    #[default]
    Closed,
    /// It is made, with a warning.
    Open,
    /// Nobody is asked.
    Off,
}

/// Who chooses addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ipam {
    /// We do.
    Own(Box<OwnIpam>),
    /// A plugin by this name.
    Plugin(String),
}

/// How our own IPAM chooses addresses, as with the reference plugin.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnIpam {
    #[serde(rename = "subnet")]
    single_subnet: Option<IpNet>,
    #[serde(rename = "rangeStart")]
    single_start: Option<IpAddr>,
    #[serde(rename = "rangeEnd")]
    single_end: Option<IpAddr>,
    #[serde(rename = "gateway")]
    single_gateway: Option<IpAddr>,
    /// Sets of ranges: a pod has an address from each set. None is said: the node's own ranges are meant.
    #[serde(deserialize_with = "nullable")]
    pub ranges: Vec<Vec<IpamRange>>,
    /// Routes for the pod.
    #[serde(deserialize_with = "nullable")]
    pub routes: Vec<Route>,
    /// Where address files are kept.
    pub data_dir: PathBuf,
    /// A file that says whom the container may ask for names.
    pub resolv_conf: Option<PathBuf>,
    /// Addresses that are asked for.
    #[serde(skip)]
    pub requested: Vec<String>,
}

impl Default for OwnIpam {
    fn default() -> Self {
        Self {
            single_subnet: None,
            single_start: None,
            single_end: None,
            single_gateway: None,
            ranges: Vec::new(),
            routes: Vec::new(),
            data_dir: DATA_DIR.into(),
            resolv_conf: None,
            requested: Vec::new(),
        }
    }
}

/// A range of addresses, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamRange {
    /// The whole of it.
    pub subnet: IpNet,
    /// The first address to give away.
    #[serde(default)]
    pub range_start: Option<IpAddr>,
    /// The last one.
    #[serde(default)]
    pub range_end: Option<IpAddr>,
    /// The address that is never given away.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

/// A network's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The version it is written in, and we answer in.
    pub version: Version,
    /// The network's name.
    pub name: String,
    /// How pods are joined to the node, if it is said.
    pub mode: Option<Mode>,
    /// The bridge's name.
    pub bridge: String,
    /// Whether a pod may reach itself by way of the bridge.
    pub hairpin: bool,
    /// Whether the bridge takes in everything.
    pub promiscuous: bool,
    /// Bytes of the largest packet, if it is said.
    pub mtu: Option<u32>,
    /// Who chooses addresses.
    pub ipam: Ipam,
    /// Where the daemon tells of the node's network.
    pub network_file: PathBuf,
    /// Where the daemon is asked for policies.
    pub gate_socket: PathBuf,
    /// What becomes of a pod without.
    pub gate: Gate,
    /// How long they are waited for.
    pub gate_timeout: Duration,
    /// Where we write down what we make.
    pub state_dir: PathBuf,
    /// By what ports of the node are led to pods.
    pub port_mapper: PortMapper,
    /// Ports of the node that lead to the pod.
    pub ports: Vec<PortMapping>,
    /// How much it may send and receive.
    pub bandwidth: Option<Bandwidth>,
    /// The hardware address that is asked for, as it is written, and by whom.
    pub mac: Option<(String, &'static str)>,
    /// Whom pods may ask for names.
    pub dns: Dns,
    /// What earlier plugins of a chain, or the whole of it, have made.
    pub previous: Option<Outcome>,
    /// The attachments that `GC` leaves alone.
    pub valid: Option<Vec<Attachment>>,
    /// All of it, as it came.
    pub raw: Vec<u8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    cni_version: Option<String>,
    name: Option<String>,
    mode: Option<Mode>,
    bridge: Option<String>,
    #[serde(deserialize_with = "nullable")]
    hairpin_mode: bool,
    #[serde(deserialize_with = "nullable")]
    promisc_mode: bool,
    mtu: Option<u32>,
    ipam: Option<Map<String, Value>>,
    network_file: Option<PathBuf>,
    gate_socket: Option<PathBuf>,
    #[serde(deserialize_with = "nullable")]
    gate: Gate,
    gate_timeout: Option<Value>,
    state_dir: Option<PathBuf>,
    #[serde(deserialize_with = "nullable")]
    port_mapper: PortMapper,
    #[serde(deserialize_with = "nullable")]
    dns: Dns,
    #[serde(deserialize_with = "nullable")]
    args: Args,
    #[serde(deserialize_with = "nullable")]
    runtime_config: RuntimeConfig,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Attachment>>,
}

impl Config {
    /// The version that `text` asks for, if it can be told and we speak it: an error is told in that version.
    #[must_use]
    pub fn version_of(text: &[u8]) -> Option<Version> {
        let asked = object(text).ok()?;
        Version::of(asked.get("cniVersion").and_then(Value::as_str)).ok()
    }

    /// What `text` says.
    ///
    /// # Errors
    /// When it is no configuration, is written in a version we do not speak, or makes no sense.
    pub fn decode(text: Vec<u8>) -> Result<Self, Error> {
        let whole = Value::Object(object(&text)?);
        // The version first: of another one's shape nothing is known.
        let version = whole.get("cniVersion").filter(|version| !version.is_null());
        let version = version.map(|version| decode::<String>(version, "cniVersion")).transpose()?;
        let version = Version::of(version.as_deref())?;
        let fields: Fields = decode(&whole, "")?;
        let name = network_name(fields.name.as_deref())?;
        let mtu = fields.mtu.filter(|mtu| *mtu != 0);
        if let Some(mtu) = mtu.filter(|mtu| !MTU.contains(mtu)) {
            return Err(refused("mtu", format!("{mtu} is not within {} to {}", MTU.start(), MTU.end())));
        }
        let bridge = fields.bridge.filter(|bridge| !bridge.is_empty()).unwrap_or_else(|| "cni0".into());
        if let Some(why) = interface_mistake(&bridge) {
            return Err(refused("bridge", format!("{bridge:?}: {why}")));
        }
        let previous = fields.prev_result.as_ref();
        let runtime = fields.runtime_config;
        let mac = [(&runtime.mac, "runtimeConfig.mac"), (&fields.args.cni.mac, "args.cni.mac")];
        let mac = mac.into_iter().find(|(mac, _)| !mac.is_empty()).map(|(mac, who)| (mac.clone(), who));
        let requested = [fields.args.cni.ips, runtime.ips].concat();
        Ok(Self {
            version,
            name,
            mode: fields.mode,
            bridge,
            hairpin: fields.hairpin_mode,
            promiscuous: fields.promisc_mode,
            mtu,
            ipam: ipam(fields.ipam, runtime.ip_ranges, requested)?,
            network_file: path(fields.network_file, PUBLISHED_FILE, "networkFile")?,
            gate_socket: path(fields.gate_socket, GATE_SOCKET, "gateSocket")?,
            gate: fields.gate,
            gate_timeout: fields.gate_timeout.map_or(Ok(GATE_TIMEOUT), |value| gate_timeout(&value))?,
            state_dir: path(fields.state_dir, STATE_DIR, "stateDir")?,
            port_mapper: fields.port_mapper,
            ports: ports(&runtime.port_mappings)?,
            bandwidth: bandwidth(runtime.bandwidth)?,
            mac,
            dns: fields.dns,
            previous: previous.map(|value| Outcome::from_json(value, "prevResult")).transpose()?,
            valid: fields.valid_attachments.as_deref().map(attachments),
            raw: text,
        })
    }
}

fn refused(what: &str, why: impl Into<String>) -> Error {
    Error::new(Code::CONFIG, format!("{what} makes no sense")).with(why)
}

fn network_name(name: Option<&str>) -> Result<String, Error> {
    let name = name.unwrap_or_default();
    if name.is_empty() {
        return Err(Error::new(Code::CONFIG, "name is missing").with("a network must have a name"));
    }
    if !is_identifier(name) || name.len() > LONGEST_NAME {
        let why = "it must begin with a letter or digit, and go on with letters, digits, _, . and -";
        return Err(refused("name", format!("{:?}: {why}", name.chars().take(40).collect::<String>())));
    }
    Ok(name.to_owned())
}

/// A path, which must not depend on where the runtime happens to be.
fn path(said: Option<PathBuf>, default: &str, what: &str) -> Result<PathBuf, Error> {
    let path = said.filter(|path| path != Path::new("")).unwrap_or_else(|| default.into());
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(refused(what, format!("{}: it must begin with /", path.display())))
    }
}

/// Seconds as a number, or a number with `ms`, `s` or `m` behind it.
fn gate_timeout(value: &Value) -> Result<Duration, Error> {
    let milliseconds = match value {
        Value::Number(seconds) => seconds.as_u64().and_then(|seconds| seconds.checked_mul(1000)),
        Value::String(text) => {
            let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at(unit);
            let unit = match unit {
                "ms" => Some(1),
                "s" => Some(1000),
                "m" => Some(60_000),
                _ => None,
            };
            number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit))
        }
        _ => None,
    };
    let duration = milliseconds.map(Duration::from_millis);
    duration.filter(|duration| *duration <= LONGEST_GATE_TIMEOUT).ok_or_else(|| {
        refused("gateTimeout", format!("{value}: it must be like \"5s\", and ten minutes at most"))
    })
}

/// Who chooses addresses. What another plugin's section holds is none of our business.
fn ipam(
    said: Option<Map<String, Value>>,
    ranges: Vec<Vec<IpamRange>>,
    requested: Vec<String>,
) -> Result<Ipam, Error> {
    let said = Value::Object(said.unwrap_or_default());
    let kind = said.get("type").filter(|kind| !kind.is_null());
    let kind: String = kind.map_or_else(|| Ok(String::new()), |kind| decode(kind, "ipam.type"))?;
    if !kind.is_empty() && kind != OWN_IPAM {
        if kind.contains('/') || matches!(kind.as_str(), "." | "..") || kind.contains('\0') {
            return Err(refused("ipam.type", format!("{kind:?} is no name of a plugin")));
        }
        return Ok(Ipam::Plugin(kind));
    }
    let mut own: OwnIpam = decode(&said, "ipam")?;
    own.data_dir = path(Some(own.data_dir), DATA_DIR, "ipam.dataDir")?;
    let single = own.single_subnet.map(|subnet| IpamRange {
        subnet,
        range_start: own.single_start,
        range_end: own.single_end,
        gateway: own.single_gateway,
    });
    let single: Vec<_> = single.map(|range| vec![range]).into_iter().collect();
    own.ranges = [ranges, single, own.ranges].concat();
    own.requested = requested;
    Ok(Ipam::Own(Box::new(own)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn config(mut value: Value) -> Result<Config, Error> {
        let object = value.as_object_mut().unwrap();
        object.entry("cniVersion").or_insert_with(|| "1.0.0".into());
        object.entry("name").or_insert_with(|| "pods".into());
        Config::decode(value.to_string().into_bytes())
    }

    fn own(value: Value) -> OwnIpam {
        match config(value).unwrap().ipam {
            Ipam::Own(own) => *own,
            Ipam::Plugin(name) => panic!("{name}"),
        }
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let config = config(json!({"type": "pointsman-cni"})).unwrap();
        assert_eq!((config.bridge.as_str(), config.gate, config.mode), ("cni0", Gate::Closed, None));
        assert_eq!(config.gate_timeout, Duration::from_secs(5));
        assert_eq!(config.network_file, Path::new("/run/pointsman/network.json"));
        assert_eq!(config.state_dir, Path::new("/var/lib/cni/pointsman"));
        assert_eq!(own(json!({})).data_dir, Path::new("/var/lib/cni/networks"));
        assert!(own(json!({"ipam": {"type": "pointsman-ipam"}})).ranges.is_empty());
    }

    #[test]
    fn all_is_taken() {
        let config = config(json!({
            "type": "pointsman-cni", "mode": "bridge", "bridge": "br0", "hairpinMode": true, "promiscMode": true,
            "mtu": 1400, "gate": "open", "gateTimeout": "500ms", "portMapper": "nftables", "unknown": {"a": [1]},
            "args": {"cni": {"ips": ["10.0.0.5"]}, "labels": {}},
            "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 2}], "mac": "c2:00:00:00:00:01",
                "ips": ["10.0.0.6/24"]},
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.9.9.9/32"}]},
            "cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}, {"containerID": "a", "ifname": "eth0"}],
            "ipam": {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.4", "dataDir": "/data",
                "ranges": [[{"subnet": "fd00::/64"}]], "routes": [{"dst": "10.1.0.0/16"}]}
        }))
        .unwrap();
        assert_eq!((config.mode, config.gate), (Some(Mode::Bridge), Gate::Open));
        assert_eq!(config.gate_timeout, Duration::from_millis(500));
        assert_eq!(config.previous.unwrap().ips.len(), 1);
        assert_eq!(config.valid.unwrap()[0].container, "a");
        let Ipam::Own(own) = config.ipam else { panic!() };
        assert_eq!(own.requested, ["10.0.0.5", "10.0.0.6/24"]);
        assert_eq!(own.ranges.len(), 2);
        assert_eq!(own.ranges[0][0].range_start, Some("10.0.0.4".parse().unwrap()));
    }

    #[test]
    fn another_plugins_section_is_not_looked_at() {
        let value = json!({"ipam": {"type": "dhcp", "subnet": 3, "routes": "all", "gateway": {}}});
        assert_eq!(config(value).unwrap().ipam, Ipam::Plugin("dhcp".into()));
    }

    #[test]
    fn mistakes_are_told_with_their_field_and_kind() {
        for (value, code, field) in [
            (json!({"cniVersion": "0.2.0"}), Code::INCOMPATIBLE_VERSION, "0.2.0"),
            (json!({"cniVersion": 1}), Code::DECODING, "cniVersion"),
            (json!({"name": ""}), Code::CONFIG, "name"),
            (json!({"name": "../etc"}), Code::CONFIG, "name"),
            (json!({"name": 5}), Code::DECODING, "name"),
            (json!({"mode": "tunnel"}), Code::DECODING, "mode"),
            (json!({"mtu": 12}), Code::CONFIG, "mtu"),
            (json!({"mtu": -1}), Code::DECODING, "mtu"),
            (json!({"bridge": "a/b"}), Code::CONFIG, "bridge"),
            (json!({"gateTimeout": "soon"}), Code::CONFIG, "gateTimeout"),
            (json!({"stateDir": "here"}), Code::CONFIG, "stateDir"),
            (json!({"ipam": []}), Code::DECODING, "ipam"),
            (json!({"ipam": {"type": "../../bin/sh"}}), Code::CONFIG, "ipam.type"),
            (json!({"ipam": {"subnet": "10.0.0.0/33"}}), Code::DECODING, "ipam.subnet"),
            (
                json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24", "gateway": "x"}]]}}),
                Code::DECODING,
                "ipam.ranges[0][0].gateway",
            ),
            (json!({"runtimeConfig": {"portMappings": [{"hostPort": 70000}]}}), Code::DECODING, "hostPort"),
            (json!({"prevResult": {"ips": [{}]}}), Code::DECODING, "prevResult.ips[0]"),
        ] {
            let error = config(value.clone()).unwrap_err();
            assert_eq!(error.code, code, "{value}: {error}");
            assert!(error.to_string().contains(field), "{value}: {error}");
        }
    }

    #[test]
    fn timeouts_have_units() {
        for (text, expected) in
            [(json!("5s"), 5000), (json!("250ms"), 250), (json!("1m"), 60_000), (json!(3), 3000)]
        {
            assert_eq!(gate_timeout(&text).unwrap(), Duration::from_millis(expected));
        }
        for text in
            [json!("5"), json!("-5s"), json!(""), json!("11m"), json!(1.5), json!(u64::MAX), json!([])]
        {
            assert!(gate_timeout(&text).is_err(), "{text}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop_oneof!["[a-z0-9./:]{0,12}", Just("10.0.0.0/24".to_owned()), Just("fd00::/64".to_owned())]
                .prop_map(Value::from),
        ];
        let key = prop::sample::select(vec![
            "cniVersion",
            "name",
            "type",
            "ipam",
            "ranges",
            "subnet",
            "routes",
            "dst",
            "gw",
            "prevResult",
            "ips",
            "address",
            "interfaces",
            "dns",
            "args",
            "cni",
            "runtimeConfig",
            "portMappings",
            "hostPort",
            "bandwidth",
            "mtu",
            "mode",
            "gateTimeout",
            "cni.dev/valid-attachments",
            "containerID",
            "ifname",
            "mac",
            "ip4",
        ]);
        leaf.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..6)
                    .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(error) = Config::decode(bytes) {
                prop_assert!(matches!(error.code, Code::DECODING | Code::CONFIG | Code::INCOMPATIBLE_VERSION));
            }
        }

        #[test]
        fn no_json_is_too_much(mut value in json_value()) {
            if let Some(object) = value.as_object_mut() {
                object.insert("cniVersion".into(), "1.1.0".into());
                object.insert("name".into(), "pods".into());
            }
            if let Err(error) = Config::decode(value.to_string().into_bytes()) {
                let shown = error.to_json(Version::NEWEST);
                prop_assert!(shown["code"].is_u64() && shown["msg"].is_string() && !error.msg.is_empty());
            }
        }
    }
}
