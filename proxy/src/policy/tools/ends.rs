//! Who is meant by a pod's name or an address, and which port by its name. Pure.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use endpoint_cache::Protocol;
use endpoint_cache::object::{DEFAULT_NAMESPACE, ObjectName};
use policy::{PodFacts, Snapshot};

/// Who connects or is connected to.
pub(super) struct End<'a> {
    /// One for each family, at most.
    pub(super) addresses: Vec<IpAddr>,
    pod: Option<PodFacts<'a>>,
}

/// Who `POD` or `IP` is.
pub(super) fn end<'a>(text: &str, snapshot: &'a Snapshot) -> anyhow::Result<End<'a>> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let pod = snapshot.pods().find(|pod| pod.addresses.contains(&address));
        return Ok(End { addresses: vec![address], pod });
    }
    let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
    let wanted = ObjectName::new(namespace, name);
    if let Some(pod) = snapshot.pods().find(|pod| *pod.name == wanted) {
        return Ok(End { addresses: pod.addresses.to_vec(), pod: Some(pod) });
    }
    let elsewhere = snapshot.pods().find(|pod| *pod.name.name == *name);
    let hint = elsewhere.map(|pod| format!(": is it {}?", pod.name)).unwrap_or_default();
    bail!(
        "policies know no pod {wanted}{hint} (pods with the node's network, without an address or ended are not known: \
         give an address)"
    )
}

/// Who `POD:PORT` or `IP:PORT` is, and the numbers that the port has there.
pub(super) fn destination<'a>(
    text: &str,
    protocol: Protocol,
    snapshot: &'a Snapshot,
) -> anyhow::Result<(End<'a>, Vec<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((end(&address.ip().to_string(), snapshot)?, vec![number(&address.port().to_string())?]));
    }
    let (who, port) = text
        .rsplit_once(':')
        .with_context(|| format!("{text:?} names no port: write POD:PORT or IP:PORT"))?;
    let end = end(who, snapshot)?;
    let ports = ports(&end, port, protocol)?;
    Ok((end, ports))
}

fn ports(end: &End<'_>, port: &str, protocol: Protocol) -> anyhow::Result<Vec<u16>> {
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(vec![number(port)?]);
    }
    let Some(pod) = end.pod else { bail!("no known pod is there that could name a port {port:?}") };
    let named = pod.ports().filter(|(name, of, _)| *name == port && *of == protocol);
    let mut numbers: Vec<u16> = named.map(|(_, _, number)| number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        let all: Vec<String> =
            pod.ports().map(|(name, protocol, number)| format!("{name} ({number}/{protocol})")).collect();
        let has = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        bail!("{} names no {protocol} port {port:?}; it names {has}", pod.name);
    }
    Ok(numbers)
}

fn number(port: &str) -> anyhow::Result<u16> {
    let number = port.parse().ok().filter(|number| *number > 0);
    number.with_context(|| format!("{port:?} is no port from 1 to 65535"))
}
