//! The names and shapes of what is in our table. The theory is told in `mod.rs`.

use std::sync::Arc;

use endpoint_cache::Family;
use kernel::nft::{self, Chain, ChainType, DataType, Hook, HookPoint, MapTo, Set, Table};

use crate::digest::digest;
use crate::policy::Direction;
use crate::program::{PolicyKey, Profile, SetKey};

/// Name of our table, in family `ip` and in family `ip6`.
pub(super) const TABLE: &str = "pointsman-policy";

/// `NFT_NAME_MAXLEN`, less the NUL.
const LONGEST_NAME: usize = 255;

/// A comment as `nft` lists and reads it: 128 bytes at most, with the NUL.
pub(super) fn comment(text: &str) -> String {
    const LONGEST: usize = 127;
    let text = nft::listable(text);
    text[..text.floor_char_boundary(LONGEST)].to_owned()
}

/// Our table of an address family.
#[must_use]
pub fn table(family: Family) -> Table {
    let family = match family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    };
    Table { family, name: TABLE.to_owned() }
}

/// Sets that are there whatever the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fixed {
    /// The generations whose connections go on unjudged.
    Generations,
    /// Every known pod of this node.
    Pods,
    /// Each of them twice: a pod that reaches itself.
    Itself,
    /// The ranges that this node's pods' addresses are from.
    Ranges,
    /// Whoever is isolated in a direction: stays as it is when its profile changes.
    Isolated(Direction),
    /// The same, and its profile's chain.
    Subjects(Direction),
}

impl Fixed {
    pub(super) const ALL: [Self; 8] = [
        Self::Generations,
        Self::Pods,
        Self::Itself,
        Self::Ranges,
        Self::Isolated(Direction::Egress),
        Self::Isolated(Direction::Ingress),
        Self::Subjects(Direction::Egress),
        Self::Subjects(Direction::Ingress),
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Generations => "generations",
            Self::Pods => "pods",
            Self::Itself => "itself",
            Self::Ranges => "pod-ranges",
            Self::Isolated(Direction::Egress) => "egress-isolated",
            Self::Isolated(Direction::Ingress) => "ingress-isolated",
            Self::Subjects(Direction::Egress) => "egress-subjects",
            Self::Subjects(Direction::Ingress) => "ingress-subjects",
        }
    }

    pub(super) fn definition(self, family: Family) -> Set {
        let ip = address_type(family);
        let (key, data, comment) = match self {
            Self::Generations => {
                (vec![DataType::Mark], MapTo::Nothing, "connections with these marks have been judged")
            }
            Self::Pods => (vec![ip], MapTo::Nothing, "every known pod of this node"),
            Self::Itself => (vec![ip, ip], MapTo::Nothing, "a pod that reaches itself"),
            Self::Ranges => (vec![ip], MapTo::Nothing, "addresses of this node's pods, known or not"),
            Self::Isolated(Direction::Egress) => (vec![ip], MapTo::Nothing, "who may not send just anything"),
            Self::Isolated(Direction::Ingress) => {
                (vec![ip], MapTo::Nothing, "who may not be sent just anything")
            }
            Self::Subjects(_) => (vec![ip], MapTo::Verdict, "by which policies that is"),
        };
        Set {
            name: self.name().to_owned(),
            key,
            data,
            interval: self == Self::Ranges,
            dynamic: false,
            size: None,
            comment: comment.to_owned(),
        }
    }
}

/// The type of an address.
pub(super) fn address_type(family: Family) -> DataType {
    match family {
        Family::V4 => DataType::Ipv4Addr,
        Family::V6 => DataType::Ipv6Addr,
    }
}

/// The set that holds what a clause asks for.
pub(super) fn set(key: &SetKey, family: Family) -> Set {
    let ip = address_type(family);
    let fields = match key {
        SetKey::Pods(_) | SetKey::Block(_) => vec![ip],
        SetKey::Ports(..) => vec![ip, DataType::InetProto, DataType::InetService],
    };
    Set {
        name: set_name(key),
        key: fields,
        data: MapTo::Nothing,
        interval: matches!(key, SetKey::Block(_)),
        dynamic: false,
        size: None,
        comment: comment(&key.to_string()),
    }
}

pub(super) fn set_name(key: &SetKey) -> String {
    let kind = match key {
        SetKey::Pods(_) => "peers",
        SetKey::Ports(..) => "ports",
        SetKey::Block(_) => "block",
    };
    // Displays of two keys may be alike; their debug form is not.
    format!("{kind}-{}", digest(&format!("{key:?}")))
}

/// `ingress/namespace/name`, or a number where that is no name for a chain.
pub(super) fn policy_chain((direction, name): &PolicyKey) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let told = format!("{}/{}/{}", direction.as_str(), name.namespace, name.name);
    if told.len() <= LONGEST_NAME && name.namespace.chars().chain(name.name.chars()).all(plain) {
        return told;
    }
    format!("{}/{}", direction.as_str(), digest(&told))
}

/// `ingress-profile/number`
pub(super) fn profile_chain(profile: &Arc<Profile>) -> String {
    format!("{}-profile/{}", profile.direction.as_str(), profile.name())
}

/// Names of the chains that are there whatever the policies.
pub(super) mod chain {
    pub(crate) const FORWARD: &str = "forward";
    pub(crate) const OUTPUT: &str = "output";
    pub(crate) const CONNECTIONS: &str = "connections";
    pub(crate) const UNTRACKED: &str = "untracked";
    pub(crate) const UNKNOWN: &str = "unknown-pods";
    pub(crate) const INTO_PODS: &str = "into-pods";
    pub(crate) const ALLOWED: &str = "allowed";
    pub(crate) const DENIED: &str = "denied";
}

/// A chain that is called, or one at a hook.
pub(super) fn chain(name: &str) -> Chain {
    let point = match name {
        chain::FORWARD => Some(HookPoint::Forward),
        chain::OUTPUT => Some(HookPoint::Output),
        _ => None,
    };
    /// `filter`: after destinations are translated, before sources are.
    const PRIORITY: i32 = 0;
    let hook = point.map(|point| Hook { kind: ChainType::Filter, point, priority: PRIORITY });
    Chain { name: name.to_owned(), hook }
}
