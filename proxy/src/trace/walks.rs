//! The rules of all modes that are in the kernel, and which of them decide.

use super::model::{End, Packet, Surroundings, Walk};
use super::{iptables, ipvs, nftables};

type Walker = fn(&Packet, &dyn Surroundings) -> anyhow::Result<Option<Walk>>;

/// In the order in which packets meet them, as far as modes are concerned: those of ipvs mode are also in part iptables'.
const MODES: [(&str, Walker); 3] =
    [("nftables", nftables::walk), ("ipvs", ipvs::walk), ("iptables", iptables::walk)];

/// What is in the kernel.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// The mode whose rules decide.
    pub(super) rules: Option<&'static str>,
    /// Where they lead.
    pub(super) walk: Walk,
    /// Other modes that have rules.
    pub(super) also_there: Vec<String>,
}

/// Walks a packet through all rules.
///
/// # Errors
/// When none can be read.
pub(super) fn walk(packet: &Packet, around: &dyn Surroundings) -> anyhow::Result<Walks> {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for (mode, walk) in MODES {
        match walk(packet, around) {
            Ok(Some(walk)) => found.push((mode, walk)),
            Ok(None) => {}
            Err(error) => failed.push((mode, error)),
        }
    }
    if found.is_empty() && !failed.is_empty() {
        return Err(failed.swap_remove(0).1);
    }
    let mut walks = choose(found);
    let unread = failed.iter().map(|(mode, error)| format!("rules of {mode} mode cannot be read: {error:#}"));
    walks.walk.unknown.extend(unread);
    Ok(walks)
}

/// The first that do something with it.
fn choose(mut found: Vec<(&'static str, Walk)>) -> Walks {
    let does_something =
        |walk: &Walk| walk.ways.iter().any(|way| !matches!(way.end, End::Untranslated { .. }));
    if found.is_empty() {
        return Walks::default();
    }
    let first = found.iter().position(|(_, walk)| does_something(walk)).unwrap_or_default();
    let (rules, walk) = found.remove(first);
    let also_there = found.into_iter().map(|(mode, _)| mode.to_owned()).collect();
    Walks { rules: Some(rules), walk, also_there }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::model::Way;

    fn ending(end: End) -> Walk {
        Walk { ways: vec![Way { share: 1.0, steps: Vec::new(), end }], unknown: Vec::new() }
    }

    #[test]
    fn rules_that_do_something_decide() {
        let nothing = || ending(End::Untranslated { masquerade: false });
        let walks = choose(vec![("nftables", nothing()), ("iptables", ending(End::Rejected))]);
        assert_eq!((walks.rules, walks.also_there), (Some("iptables"), vec!["nftables".to_owned()]));
        assert_eq!(choose(vec![("nftables", nothing()), ("iptables", nothing())]).rules, Some("nftables"));
        assert_eq!(choose(Vec::new()).rules, None);
    }
}
