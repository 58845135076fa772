//! Names of the chains that a service port has for itself: kube-proxy's, so that people and scripts find them.

use std::fmt;

use data_encoding::BASE32;
use endpoint_cache::{Endpoint, ServicePortName};
use sha2::{Digest, Sha256};

/// What a service port's chain is for. Ordered so that each leads only to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Who may use the load-balancer addresses.
    Fw,
    /// What comes from outside: masquerading and the short cut of policy Local.
    Ext,
    /// Chooses among the endpoints of policy Cluster.
    Svc,
    /// Chooses among the endpoints of policy Local.
    Svl,
    /// One endpoint.
    Sep,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Fw, Self::Ext, Self::Svc, Self::Svl, Self::Sep];

    fn prefix(self) -> &'static str {
        match self {
            Self::Svc => "KUBE-SVC-",
            Self::Svl => "KUBE-SVL-",
            Self::Ext => "KUBE-EXT-",
            Self::Fw => "KUBE-FW-",
            Self::Sep => "KUBE-SEP-",
        }
    }
}

/// Characters of the hash in a name.
const SUFFIX: usize = 16;

/// The name of a chain that belongs to a service port. Ordered so that chains lead only to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ChainName {
    kind: Kind,
    /// Capital letters and digits.
    suffix: [u8; SUFFIX],
}

impl ChainName {
    /// Reads a name; `None` for a chain that belongs to no service port.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Kind::ALL.into_iter().find_map(|kind| {
            let suffix: [u8; SUFFIX] = text.strip_prefix(kind.prefix())?.as_bytes().try_into().ok()?;
            let plain = suffix.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            plain.then_some(Self { kind, suffix })
        })
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.prefix())?;
        // Names are written so often that it matters how.
        f.write_str(std::str::from_utf8(&self.suffix).unwrap_or_default())
    }
}

/// The chains of one service port.
pub(super) struct Names {
    /// The hash of what all its names begin with.
    seed: Sha256,
    own: [u8; SUFFIX],
}

impl Names {
    pub(super) fn new(name: &ServicePortName) -> Self {
        let seed = Sha256::new_with_prefix(format!("{name}{}", name.protocol));
        let own = suffix(seed.clone());
        Self { seed, own }
    }

    /// A chain of the service port as a whole.
    pub(super) fn of(&self, kind: Kind) -> ChainName {
        ChainName { kind, suffix: self.own }
    }

    /// The chain of an endpoint.
    pub(super) fn endpoint(&self, endpoint: &EndpointText) -> ChainName {
        ChainName { kind: Kind::Sep, suffix: suffix(self.seed.clone().chain_update(&endpoint.0)) }
    }
}

fn suffix(hash: Sha256) -> [u8; SUFFIX] {
    // Five bits a character.
    let (mut suffix, digest) = ([0; SUFFIX], hash.finalize());
    BASE32.encode_mut(&digest[..SUFFIX * 5 / 8], &mut suffix);
    suffix
}

/// An endpoint as kube-proxy writes, hashes and sorts it: `10.0.0.1:80`, `[fd00::1]:80`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndpointText(String);

impl EndpointText {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self(std::net::SocketAddr::new(endpoint.address, endpoint.port).to_string())
    }
}

impl fmt::Display for EndpointText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use endpoint_cache::Protocol;

    use super::*;

    fn names(port: &str) -> Names {
        Names::new(&ServicePortName {
            namespace: "ns1".into(),
            name: "svc1".into(),
            port: port.into(),
            protocol: Protocol::Tcp,
        })
    }

    #[test]
    fn names_are_those_of_kube_proxy() {
        let endpoint = Endpoint { address: [10, 180, 0, 1].into(), port: 80, local: false };
        let names = names("p80");
        for (kind, name) in [
            (Kind::Svc, "KUBE-SVC-XPGD46QRK7WJZT7O"),
            (Kind::Svl, "KUBE-SVL-XPGD46QRK7WJZT7O"),
            (Kind::Ext, "KUBE-EXT-XPGD46QRK7WJZT7O"),
            (Kind::Fw, "KUBE-FW-XPGD46QRK7WJZT7O"),
        ] {
            assert_eq!(names.of(kind).to_string(), name);
        }
        let chain = names.endpoint(&EndpointText::new(&endpoint));
        assert_eq!(chain.to_string(), "KUBE-SEP-SXIVWICOYRO3J4NJ");
    }

    #[test]
    fn names_are_read_back() {
        let name = names("").of(Kind::Fw);
        assert_eq!(ChainName::parse(&name.to_string()), Some(name));
        for other in ["KUBE-SVC-", "KUBE-SVC-XPGD46QRK7WJZT7", "KUBE-SVC-XPGD46QRK7WJZT7o", "KUBE-SERVICES"] {
            assert_eq!(ChainName::parse(other), None, "{other}");
        }
    }
}
