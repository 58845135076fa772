//! By a chain of iptables, for nodes that have nothing else.
//!
//! Rules are written as `iptables-save` prints them, so that they are known again.

use std::fmt::Write as _;
use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::Error;
use kernel::iptables::{Backend, Iptables, SavedLine, Table};

use crate::network::desired::Masquerade;

const CHAIN: &str = "PM-MASQUERADE";
const HOOK: &str = "POSTROUTING";

/// What there is, or is to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    exists: bool,
    chain: Vec<String>,
    hooks: Vec<String>,
}

impl Rules {
    fn wanted(wanted: &Masquerade, family: Family) -> Self {
        let here = |range: &&IpNet| Family::of(range.addr()) == family;
        let pods: Vec<_> = wanted.pods.iter().filter(here).collect();
        if pods.is_empty() {
            return Self::default();
        }
        let nodes = wanted.nodes.iter().filter(|node| Family::of(**node) == family);
        let nodes: Vec<IpNet> = nodes.map(|node: &IpAddr| IpNet::from(*node)).collect();
        let exempt = wanted.exempt.iter().filter(here).copied().chain(IpNet::aggregate(&nodes));
        let random = if wanted.random_fully { " --random-fully" } else { "" };
        let mut chain = vec!["-m addrtype --dst-type LOCAL -j RETURN".to_owned()];
        chain.extend(exempt.map(|range| format!("-d {range} -j RETURN")));
        chain.push(format!("-j MASQUERADE{random}"));
        let hook = |pods| format!("-s {pods} -m comment --comment pointsman-masquerade -j {CHAIN}");
        Self { exists: true, chain, hooks: pods.into_iter().map(hook).collect() }
    }

    /// Takes in what is listed of table nat.
    fn note(&mut self, line: SavedLine<'_>) {
        match line {
            SavedLine::Chain(CHAIN) => self.exists = true,
            SavedLine::Rule { chain: CHAIN, rule } => self.chain.push(rule.to_owned()),
            SavedLine::Rule { chain: HOOK, rule } if rule.ends_with(&format!("-j {CHAIN}")) => {
                self.hooks.push(rule.to_owned());
            }
            SavedLine::Chain(_) | SavedLine::Rule { .. } => {}
        }
    }

    /// The script that makes these of what there is, and how many rules it writes.
    fn script(&self, found: &Self) -> (String, usize) {
        let (mut script, mut written) = ("*nat\n".to_owned(), 0);
        let mut line = |text: String| {
            script += &text;
            script.push('\n');
            written += 1;
        };
        for hook in found.hooks.iter().filter(|hook| !self.hooks.contains(hook)) {
            line(format!("-D {HOOK} {hook}"));
        }
        if self.chain != found.chain || self.exists != found.exists {
            // Empties it, if it is there.
            line(format!(":{CHAIN} - [0:0]"));
            self.chain.iter().for_each(|rule| line(format!("-A {CHAIN} {rule}")));
        }
        for hook in self.hooks.iter().filter(|hook| !found.hooks.contains(hook)) {
            line(format!("-A {HOOK} {hook}"));
        }
        if !self.exists && found.exists {
            line(format!("-X {CHAIN}"));
        }
        let _ = writeln!(script, "COMMIT");
        (script, written)
    }
}

/// Brings the rules to what is wanted, whatever there is; returns how many were written.
pub(super) fn resync(backend: Backend, wanted: Option<&Masquerade>) -> Result<usize, Error> {
    let mut written = 0;
    for family in Family::BOTH {
        let wanted = wanted.map(|wanted| Rules::wanted(wanted, family)).unwrap_or_default();
        let iptables = match Iptables::find(backend, family == Family::V6) {
            Ok(iptables) => iptables,
            // Nothing can be there.
            Err(Error::NoProgram { .. }) if !wanted.exists => continue,
            Err(error) => return Err(error),
        };
        let mut found = Rules::default();
        // To list the table by itself would make it.
        iptables.save_all(|table, line| {
            if table == Table::Nat {
                found.note(line);
            }
        })?;
        if found != wanted {
            let (script, rules) = wanted.script(&found);
            iptables.restore(&script)?;
            written += rules;
        }
    }
    Ok(written)
}

/// Removes the chain. True if it was there.
pub(super) fn cleanup(backend: Backend) -> Result<bool, Error> {
    Ok(resync(backend, None)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_makes_what_is_wanted_of_what_there_is() {
        let masquerade = Masquerade {
            pods: ["10.244.1.0/24".parse().unwrap()].into(),
            exempt: ["10.244.0.0/16".parse().unwrap()].into(),
            nodes: ["192.0.2.2".parse().unwrap(), "192.0.2.3".parse().unwrap()].into(),
            random_fully: true,
        };
        let wanted = Rules::wanted(&masquerade, Family::V4);
        let (script, written) = wanted.script(&Rules::default());
        assert_eq!(
            script,
            "*nat\n:PM-MASQUERADE - [0:0]\n\
             -A PM-MASQUERADE -m addrtype --dst-type LOCAL -j RETURN\n\
             -A PM-MASQUERADE -d 10.244.0.0/16 -j RETURN\n\
             -A PM-MASQUERADE -d 192.0.2.2/31 -j RETURN\n\
             -A PM-MASQUERADE -j MASQUERADE --random-fully\n\
             -A POSTROUTING -s 10.244.1.0/24 -m comment --comment pointsman-masquerade -j PM-MASQUERADE\n\
             COMMIT\n"
        );
        assert_eq!(written, 6);
        assert_eq!(Rules::wanted(&masquerade, Family::V6), Rules::default());
        let (script, _) = Rules::default().script(&wanted);
        assert!(
            script.contains("-D POSTROUTING -s 10.244.1.0/24")
                && script.ends_with("-X PM-MASQUERADE\nCOMMIT\n")
        );
    }
}
