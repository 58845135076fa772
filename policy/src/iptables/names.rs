//! Names of chains and sets. The rest of a name is a hash that nobody can find a second text for, since those who may
//! make policies choose what goes into it.

use data_encoding::BASE32;
use endpoint_cache::Family;
use sha2::{Digest, Sha256};

use crate::program::{PolicyKey, Profile, SetKey};

/// What packets meet that are routed, or bridged.
pub(super) const FORWARD: &str = "KUBE-POLICY-FORWARD";
/// What packets meet that the node itself sends.
pub(super) const OUTPUT: &str = "KUBE-POLICY-OUTPUT";
/// Notes in the mark of a packet that a policy allows it.
pub(super) const ALLOW: &str = "KUBE-POLICY-ALLOW";
/// What becomes of what no policy allows.
pub(super) const DENY: &str = "KUBE-POLICY-DENY";
/// What becomes of addresses that are no known pod's.
pub(super) const UNKNOWN: &str = "KUBE-POLICY-UNKNOWN";

/// Which way a packet goes, as seen from who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Way {
    /// To the server.
    Original,
    /// Back.
    Reply,
}

impl Way {
    pub(super) const BOTH: [Self; 2] = [Self::Original, Self::Reply];

    /// The chain that leads packets of this way to their judges.
    pub(super) fn dispatch(self) -> &'static str {
        match self {
            Self::Original => "KUBE-POLICY-ORIGINAL",
            Self::Reply => "KUBE-POLICY-REPLY",
        }
    }

    fn of_profile(self) -> &'static str {
        match self {
            Self::Original => "KUBE-POD-FW-",
            Self::Reply => "KUBE-POD-FR-",
        }
    }

    fn of_policy(self) -> &'static str {
        match self {
            Self::Original => "KUBE-NWPLCY-",
            Self::Reply => "KUBE-NWPLCR-",
        }
    }
}

/// Characters of the hash in a name.
const HASH: usize = 16;

fn hash(text: &str) -> String {
    // Five bits a character.
    let digest = Sha256::digest(text);
    BASE32.encode(&digest[..HASH * 5 / 8]).to_ascii_lowercase()
}

/// The chain that judges packets of the pods of a profile.
pub(super) fn profile_chain(profile: &Profile, way: Way) -> String {
    format!("{}{}", way.of_profile(), hash(&format!("{profile:?}")))
}

/// The chain of a policy's rules.
pub(super) fn policy_chain(key: &PolicyKey, way: Way) -> String {
    format!("{}{}", way.of_policy(), hash(&format!("{key:?}")))
}

/// Whether a chain is ours. kube-router's have capital letters in their hashes.
#[must_use]
pub fn is_own_chain(name: &str) -> bool {
    let fixed = [FORWARD, OUTPUT, ALLOW, DENY, UNKNOWN, Way::Original.dispatch(), Way::Reply.dispatch()];
    let prefixes = Way::BOTH.into_iter().flat_map(|way| [way.of_profile(), way.of_policy()]);
    fixed.contains(&name) || prefixes.into_iter().any(|prefix| name.strip_prefix(prefix).is_some_and(is_hash))
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
}

fn set_prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "KUBE-NP4-",
        Family::V6 => "KUBE-NP6-",
    }
}

/// The set of all known pods of this node.
pub(super) fn pods_set(family: Family) -> String {
    format!("{}PODS", set_prefix(family))
}

/// The set of the ranges that pods of this node have their addresses from.
pub(super) fn ranges_set(family: Family) -> String {
    format!("{}RANGES", set_prefix(family))
}

/// The set of the pods that have a profile.
pub(super) fn subjects_set(profile: &Profile, family: Family) -> String {
    format!("{}{}", set_prefix(family), hash(&format!("subjects: {profile:?}")))
}

/// The set that clauses refer to.
pub(super) fn members_set(key: &SetKey, family: Family) -> String {
    // Two may be displayed alike; their debug form is not.
    format!("{}{}", set_prefix(family), hash(&format!("members: {key:?}")))
}

/// Whether a set is ours, of a family.
pub(super) fn is_own_set(name: &str, family: Family) -> bool {
    let own = |rest: &str| matches!(rest, "PODS" | "RANGES") || is_hash(rest);
    name.strip_prefix(set_prefix(family)).is_some_and(own)
}

#[cfg(test)]
mod tests {
    use endpoint_cache::object::ObjectName;

    use super::*;
    use crate::policy::Direction;

    #[test]
    fn names_fit_and_are_known_again() {
        let policy = ObjectName::new("default", "web");
        let profile = Profile { direction: Direction::Ingress, policies: vec![policy.clone()] };
        for way in Way::BOTH {
            let chains =
                [profile_chain(&profile, way), policy_chain(&(Direction::Egress, policy.clone()), way)];
            for chain in chains.iter().map(String::as_str).chain([way.dispatch()]) {
                // `XT_EXTENSION_MAXNAMELEN` less the terminating zero.
                assert!(chain.len() <= 28 && is_own_chain(chain), "{chain}");
            }
        }
        for family in Family::BOTH {
            for set in [subjects_set(&profile, family), pods_set(family), ranges_set(family)] {
                assert!(set.len() <= 31 && is_own_set(&set, family), "{set}");
            }
        }
    }

    #[test]
    fn chains_of_others_are_not_taken_for_ours() {
        for chain in
            ["KUBE-POD-FW-ABCDEFGH234567AB", "KUBE-NWPLCY-", "KUBE-POLICY", "KUBE-FORWARD", "FORWARD"]
        {
            assert!(!is_own_chain(chain), "{chain}");
        }
        assert!(!is_own_set("KUBE-NP4-", Family::V4) && !is_own_set("KUBE-NP4-PODS", Family::V6));
        assert!(!is_own_set("KUBE-NODE-PORT-TCP", Family::V4));
    }
}
