//! What is asked: who connects, and where to.

use std::net::{IpAddr, SocketAddr};

use endpoint_cache::Protocol;

use crate::BadUsage;

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whence {
    /// This node itself.
    Node,
    /// Anybody who comes in by the default route.
    Outside,
    /// Who has this address.
    Address(IpAddr),
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whither {
    /// To an address.
    At(SocketAddr),
    /// To a Service.
    Service {
        /// Its namespace; any if the name is unique.
        namespace: Option<String>,
        /// Its name.
        name: String,
        /// Name or number of a port; the only one if not given.
        port: Option<String>,
    },
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Who connects.
    pub(super) whence: Whence,
    /// Where to.
    pub(super) whither: Whither,
    /// By what, if that is said.
    pub(super) protocol: Option<Protocol>,
}

impl Query {
    /// Makes sense of what the command line says.
    ///
    /// # Errors
    /// When it makes none.
    pub(super) fn read(source: &str, destination: &str) -> Result<Self, BadUsage> {
        let whence = whence(source)?;
        let (place, protocol) = split_protocol(destination);
        let whither = whither(place, destination)?;
        let query = Self { whence, whither, protocol };
        match (query.whence, &query.whither) {
            (Whence::Address(from), Whither::At(to)) if from.is_ipv4() != to.is_ipv4() => {
                Err(BadUsage(format!(
                    "{from} and {} are of different families: no packet goes from one to the other",
                    to.ip()
                )))
            }
            _ => Ok(query),
        }
    }
}

fn whence(text: &str) -> Result<Whence, BadUsage> {
    match text {
        "node" => Ok(Whence::Node),
        "outside" => Ok(Whence::Outside),
        text => text.parse().map(Whence::Address).map_err(|_| {
            BadUsage(format!(
                "--source {text:?} is no address: give a pod's or client's address, node, or outside"
            ))
        }),
    }
}

/// A protocol is the last part, behind a whole destination: a Service may be called `udp`.
fn split_protocol(text: &str) -> (&str, Option<Protocol>) {
    let Some((place, last)) = text.rsplit_once('/') else { return (text, None) };
    let protocol = match last.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return (text, None),
    };
    let is_whole = place.contains('/') || place.contains(':');
    if is_whole { (place, Some(protocol)) } else { (text, None) }
}

fn whither(place: &str, whole: &str) -> Result<Whither, BadUsage> {
    if let Ok(address) = place.parse() {
        return Ok(Whither::At(address));
    }
    let bare = place.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        let example = SocketAddr::new(address, 80);
        return Err(BadUsage(format!("destination {whole:?} has no port: write {example}, say")));
    }
    let (service, port) = match place.split_once(':') {
        Some((service, port)) => (service, Some(port)),
        None => (place, None),
    };
    let (namespace, name) = match service.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, service),
    };
    let parts = namespace.into_iter().chain([name]).chain(port);
    if !parts.clone().all(is_name) {
        return Err(BadUsage(format!(
            "destination {whole:?} is neither ADDRESS:PORT, [ADDRESS]:PORT nor NAMESPACE/SERVICE[:PORT], with /tcp, \
             /udp or /sctp after it"
        )));
    }
    let owned = |text: &str| text.to_owned();
    Ok(Whither::Service { namespace: namespace.map(owned), name: owned(name), port: port.map(owned) })
}

/// A DNS label, which cannot be an address.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> Result<(Whither, Option<Protocol>), String> {
        let query = Query::read("node", text).map_err(|error| error.to_string())?;
        Ok((query.whither, query.protocol))
    }

    fn service(namespace: Option<&str>, name: &str, port: Option<&str>) -> Whither {
        let owned = |text: &str| text.to_owned();
        Whither::Service { namespace: namespace.map(owned), name: owned(name), port: port.map(owned) }
    }

    #[test]
    fn destinations_are_addresses_or_services() {
        let at = |text: &str| Whither::At(text.parse().unwrap());
        for (text, expected) in [
            ("10.96.0.10:53", (at("10.96.0.10:53"), None)),
            ("10.96.0.10:53/udp", (at("10.96.0.10:53"), Some(Protocol::Udp))),
            ("[fd00::1]:80/TCP", (at("[fd00::1]:80"), Some(Protocol::Tcp))),
            ("demo/web", (service(Some("demo"), "web", None), None)),
            ("demo/web:http", (service(Some("demo"), "web", Some("http")), None)),
            ("demo/web:53/udp", (service(Some("demo"), "web", Some("53")), Some(Protocol::Udp))),
            ("demo/web/udp", (service(Some("demo"), "web", None), Some(Protocol::Udp))),
            ("demo/udp", (service(Some("demo"), "udp", None), None)),
            ("web:80", (service(None, "web", Some("80")), None)),
        ] {
            assert_eq!(to(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_told_in_a_line() {
        for (text, part) in [
            ("10.96.0.10", "has no port: write 10.96.0.10:80"),
            ("fd00::1", "has no port: write [fd00::1]:80"),
            ("10.96.0.10:70000", "neither ADDRESS:PORT"),
            ("10.96.0.10:53/icmp", "neither ADDRESS:PORT"),
            ("", "neither ADDRESS:PORT"),
            ("a/b/c:d", "neither ADDRESS:PORT"),
            ("demo/Web", "neither ADDRESS:PORT"),
        ] {
            let error = to(text).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn sources_are_addresses_or_words() {
        let from = |text: &str| Query::read(text, "10.96.0.10:53").map(|query| query.whence);
        assert_eq!(from("outside"), Ok(Whence::Outside));
        assert_eq!(from("10.0.0.1"), Ok(Whence::Address([10, 0, 0, 1].into())));
        assert!(from("pod-1").is_err_and(|error| error.to_string().contains("give a pod's")));
        assert!(from("fd00::1").is_err_and(|error| error.to_string().contains("families")));
    }
}
