//! What the runtime says of one container in the configuration: `runtimeConfig`, which holds capabilities, and `args`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::config::IpamRange;
use super::decode::nullable;
use super::{Attachment, Code, Error};
use crate::attach::{Bandwidth, PortMapping};

/// More ports than this are no pod's.
const MOST_PORTS: usize = 4096;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RuntimeConfig {
    #[serde(deserialize_with = "nullable")]
    pub port_mappings: Vec<Port>,
    pub bandwidth: Option<Bandwidth>,
    #[serde(deserialize_with = "nullable")]
    pub ips: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub ip_ranges: Vec<Vec<IpamRange>>,
    #[serde(deserialize_with = "nullable")]
    pub mac: String,
}

/// A port as runtimes write it: what is not set may be empty.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    #[serde(default)]
    host_port: u16,
    #[serde(default)]
    container_port: u16,
    #[serde(default, deserialize_with = "nullable")]
    protocol: String,
    #[serde(rename = "hostIP", default, deserialize_with = "nullable")]
    host_ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Args {
    #[serde(deserialize_with = "nullable")]
    pub cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CniArgs {
    #[serde(deserialize_with = "nullable")]
    pub ips: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub mac: String,
}

fn refused(what: &str, why: String) -> Error {
    Error::new(Code::CONFIG, format!("{what} makes no sense")).with(why)
}

/// The ports of the node that lead to the pod. One without a port of the node is none.
pub(super) fn ports(ports: &[Port]) -> Result<Vec<PortMapping>, Error> {
    if ports.len() > MOST_PORTS {
        return Err(refused("runtimeConfig.portMappings", format!("there are more than {MOST_PORTS}")));
    }
    ports.iter().filter(|port| port.host_port != 0).map(port).collect()
}

fn port(port: &Port) -> Result<PortMapping, Error> {
    let refused = |why: String| Err(refused("runtimeConfig.portMappings", why));
    if port.container_port == 0 {
        return refused(format!("host port {} leads to port 0 of the container", port.host_port));
    }
    let protocol = match port.protocol.to_ascii_lowercase() {
        protocol if protocol.is_empty() => "tcp".to_owned(),
        protocol => protocol,
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return refused(format!("protocol {protocol:?} of host port {}", port.host_port));
    }
    let host_ip = match port.host_ip.as_str() {
        "" => None,
        text => match text.parse() {
            Ok(address) => Some(address),
            Err(_) => return refused(format!("hostIP {text:?} of host port {}", port.host_port)),
        },
    };
    Ok(PortMapping { host_port: port.host_port, container_port: port.container_port, protocol, host_ip })
}

/// A bandwidth that can be kept: who may send at some rate must be able to send something at once.
pub(super) fn bandwidth(asked: Option<Bandwidth>) -> Result<Option<Bandwidth>, Error> {
    let Some(bandwidth) = asked else { return Ok(None) };
    let directions = [
        ("ingress", bandwidth.ingress_rate, bandwidth.ingress_burst),
        ("egress", bandwidth.egress_rate, bandwidth.egress_burst),
    ];
    for (name, rate, burst) in directions {
        if (rate == 0) != (burst == 0) {
            let why = format!("{name}Rate is {rate} and {name}Burst {burst}: both or none must be set");
            return Err(refused("runtimeConfig.bandwidth", why));
        }
    }
    Ok(Some(bandwidth).filter(|bandwidth| *bandwidth != Bandwidth::default()))
}

/// An address that somebody asks for, with or without the length of a prefix.
pub(crate) fn asked_address(text: &str, who: &str) -> Result<IpAddr, Error> {
    let address = match text.split_once('/') {
        None => text.parse::<IpAddr>().ok(),
        Some(_) => text.parse::<IpNet>().ok().map(|net| net.addr()),
    };
    address
        .map(|address| address.to_canonical())
        .ok_or_else(|| refused(who, format!("{text:?} is no address")))
}

/// A hardware address that a pod may have, as it is usually written.
pub(crate) fn asked_mac(text: &str, who: &str) -> Result<String, Error> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|byte| match byte.bytes().all(|digit| digit.is_ascii_hexdigit()) && byte.len() == 2 {
            true => u8::from_str_radix(byte, 16).ok(),
            false => None,
        })
        .collect();
    match bytes.as_deref() {
        Some(&[first, b, c, d, e, f]) if first & 1 == 0 && [first, b, c, d, e, f] != [0; 6] => {
            Ok(format!("{first:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
        }
        _ => Err(refused(who, format!("{text:?} is no hardware address of one station"))),
    }
}

/// The attachments that `GC` leaves alone.
pub(super) fn attachments(listed: &[Attachment]) -> Vec<Attachment> {
    let mut listed = listed.to_vec();
    listed.sort();
    listed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ports_of(value: serde_json::Value) -> Result<Vec<PortMapping>, Error> {
        ports(&serde_json::from_value::<Vec<Port>>(value).unwrap())
    }

    #[test]
    fn ports_are_taken_as_runtimes_write_them() {
        let taken = ports_of(json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "fd00::1"},
            {"hostPort": 0, "containerPort": 81, "protocol": "tcp"},
            {"hostPort": 82, "containerPort": 82}
        ]))
        .unwrap();
        let said: Vec<_> = taken.iter().map(|port| (port.host_port, port.protocol.as_str())).collect();
        assert_eq!(said, [(8080, "tcp"), (53, "udp"), (82, "tcp")]);
        assert_eq!(taken[1].host_ip, Some("fd00::1".parse().unwrap()));
    }

    #[test]
    fn ports_without_sense_are_refused() {
        for port in [
            json!({"hostPort": 1, "containerPort": 0}),
            json!({"hostPort": 1, "containerPort": 1, "protocol": "icmp"}),
            json!({"hostPort": 1, "containerPort": 1, "hostIP": "localhost"}),
        ] {
            assert_eq!(ports_of(json!([port])).unwrap_err().code, Code::CONFIG);
        }
    }

    #[test]
    fn a_rate_needs_a_burst() {
        let of = |ingress_rate, ingress_burst| {
            bandwidth(Some(Bandwidth { ingress_rate, ingress_burst, ..Bandwidth::default() }))
        };
        assert!(of(1000, 0).is_err());
        assert!(of(0, 1000).is_err());
        assert!(of(1000, 1000).unwrap().is_some());
        assert_eq!(of(0, 0).unwrap(), None, "no limit is no bandwidth");
    }

    #[test]
    fn addresses_may_have_prefixes() {
        assert_eq!(asked_address("10.0.0.5/24", "").unwrap().to_string(), "10.0.0.5");
        assert_eq!(asked_address("fd00::5", "").unwrap().to_string(), "fd00::5");
        assert_eq!(asked_address("::ffff:10.0.0.5", "").unwrap().to_string(), "10.0.0.5");
        assert!(asked_address("10.0.0.5/33", "IP").is_err());
        assert!(asked_address("", "IP").is_err());
    }

    #[test]
    fn hardware_addresses_are_those_of_a_station() {
        assert_eq!(asked_mac("C2:11-22:33:44:5f", "").unwrap(), "c2:11:22:33:44:5f");
        for wrong in ["", "c2:11:22:33:44", "01:00:5e:00:00:01", "00:00:00:00:00:00", "c2:11:22:33:44:+5"] {
            assert!(asked_mac(wrong, "mac").is_err(), "{wrong}");
        }
    }
}
