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
mod tests;
