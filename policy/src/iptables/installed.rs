//! What the kernel holds, as far as it is ours, and how it differs from what it should hold.

use std::collections::{BTreeSet, HashMap, HashSet};

use endpoint_cache::Family;
use kernel::ipset::{Entry, Header, Ipsets};
use kernel::iptables::{Iptables as Programs, SavedLine, Table};

use super::names::{FORWARD, Way, is_own_chain, is_own_set};
use super::plan::Plan;
use super::rules;
use super::sets::FilledSet;
use super::whole::Whole;
use crate::enforcer::Error;

/// Chains and rules of table filter.
#[derive(Debug, Default)]
pub(super) struct Installed {
    own: HashMap<String, Vec<String>>,
    /// The first rules of the chains that lead to us.
    first: HashMap<String, Vec<String>>,
    /// Rules of others' chains that lead to ours.
    hooks: Vec<(String, String)>,
}

impl Installed {
    pub(super) fn read(programs: &Programs) -> Result<Self, Error> {
        let mut installed = Self::default();
        programs.save(Table::Filter, |line| installed.take_in(line))?;
        Ok(installed)
    }

    pub(super) fn take_in(&mut self, line: SavedLine<'_>) {
        match line {
            SavedLine::Chain(chain) if is_own_chain(chain) => {
                self.own.entry(chain.to_owned()).or_default();
            }
            SavedLine::Chain(_) => {}
            SavedLine::Rule { chain, rule } if is_own_chain(chain) => {
                self.own.entry(chain.to_owned()).or_default().push(rule.to_owned());
            }
            SavedLine::Rule { chain, rule } => {
                let wanted = rules::hooks().iter().filter(|(hooked, _)| *hooked == chain).count();
                if wanted > 0 {
                    let first = self.first.entry(chain.to_owned()).or_default();
                    if first.len() < wanted {
                        first.push(rule.to_owned());
                    }
                }
                if target(rule).is_some_and(|target| is_own_chain(&target)) {
                    self.hooks.push((chain.to_owned(), rule.to_owned()));
                }
            }
        }
    }

    /// The rules of a chain of ours.
    pub(super) fn rules(&self, chain: &str) -> Option<&Vec<String>> {
        self.own.get(chain)
    }

    /// Our chains.
    pub(super) fn chains(&self) -> impl Iterator<Item = &String> {
        self.own.keys()
    }

    /// Rules of others' chains that lead to ours.
    pub(super) fn hooks(&self) -> &[(String, String)] {
        &self.hooks
    }

    /// What brings chains from what is there to what should be, but for those that packets come by.
    pub(super) fn chains_to(&self, whole: &Whole, plan: &mut Plan) {
        for (chain, rules) in &whole.chains {
            if !self.rules(chain).is_some_and(|found| is_as(chain, found, rules)) {
                plan.script.write(chain, rules);
            }
        }
        for chain in self.chains().filter(|chain| *chain != FORWARD && !whole.chains.contains_key(*chain)) {
            plan.script.remove(chain.clone());
        }
    }

    /// Whether packets come to us before they come to anybody else, and only there.
    pub(super) fn is_hooked(&self) -> bool {
        let hooks = rules::hooks();
        let in_place = |chain: &str| {
            let wanted = hooks.iter().filter(|(hooked, _)| *hooked == chain).map(|(_, rule)| rule);
            self.first.get(chain).is_some_and(|first| first.iter().eq(wanted))
        };
        self.hooks.len() == hooks.len() && hooks.iter().all(|(chain, _)| in_place(chain))
    }
}

/// Whether a chain has the rules that it should have. The order of those that lead to judges does not matter.
fn is_as(chain: &str, found: &[String], wanted: &[String]) -> bool {
    if !Way::BOTH.iter().any(|way| way.dispatch() == chain) {
        return found == wanted;
    }
    let is_head = |rule: &&String| !target(rule).is_some_and(|target| target.starts_with("KUBE-POD-"));
    let sorted = |rules: &[String]| rules.iter().cloned().collect::<BTreeSet<_>>();
    found.len() == wanted.len()
        && found.iter().take_while(is_head).eq(wanted.iter().take_while(is_head))
        && sorted(found) == sorted(wanted)
}

/// Where a rule leads. Words in quotes, as of comments, lead nowhere.
fn target(rule: &str) -> Option<String> {
    let plain = rule.replace("\\\"", "");
    let unquoted: String = plain.split('"').step_by(2).collect();
    let mut words = unquoted.split(' ');
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next().map(str::to_owned)
}

/// What brings sets from what is there to what should be.
///
/// # Errors
/// When they cannot be read.
pub(super) fn sets_to(
    whole: &Whole,
    family: Family,
    ipsets: &mut Ipsets,
    plan: &mut Plan,
) -> Result<(), Error> {
    let headers: HashMap<String, Header> = ipsets
        .headers()?
        .into_iter()
        .filter(|header| is_own_set(&header.name, family))
        .map(|header| (header.name.clone(), header))
        .collect();
    for wanted in &whole.sets {
        match headers.get(&wanted.set.name) {
            // One of another shape is refused when it is to be made.
            Some(header) if header.is(&wanted.set) => entries_to(wanted, ipsets, plan)?,
            _ => plan.new_sets.push(wanted.clone()),
        }
    }
    let wanted: HashSet<&String> = whole.sets.iter().map(|wanted| &wanted.set.name).collect();
    plan.old_sets.extend(headers.into_keys().filter(|name| !wanted.contains(name)));
    Ok(())
}

fn entries_to(wanted: &FilledSet, ipsets: &mut Ipsets, plan: &mut Plan) -> Result<(), Error> {
    let found: BTreeSet<Entry> = ipsets.entries(&wanted.set.name)?.into_iter().collect();
    let (set, purpose) = (&wanted.set.name, wanted.purpose);
    plan.edit(set, purpose, true, wanted.entries.difference(&found).copied());
    plan.edit(set, purpose, false, found.difference(&wanted.entries).copied());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_lead_where_their_target_is() {
        for (rule, leads_to) in [
            ("-j A", Some("A")),
            ("-s 10.0.0.1/32 -g A", Some("A")),
            ("-m comment --comment \"an -j A\" -j B", Some("B")),
            ("-m comment --comment \"an \\\" -j A\" -j LOG --log-prefix \" -j C\"", Some("LOG")),
            ("-m comment --comment \" -j A\"", None),
            ("", None),
        ] {
            assert_eq!(target(rule).as_deref(), leads_to, "{rule}");
        }
    }

    #[test]
    fn the_order_matters_but_for_rules_that_lead_to_judges() {
        let rules = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let wanted = rules(&["-j A", "-j B", "-j KUBE-POD-FW-1", "-j KUBE-POD-FW-2"]);
        let dispatch = Way::Original.dispatch();
        assert!(is_as(dispatch, &rules(&["-j A", "-j B", "-j KUBE-POD-FW-2", "-j KUBE-POD-FW-1"]), &wanted));
        assert!(!is_as(dispatch, &rules(&["-j B", "-j A", "-j KUBE-POD-FW-1", "-j KUBE-POD-FW-2"]), &wanted));
        assert!(!is_as(dispatch, &rules(&["-j A", "-j KUBE-POD-FW-1", "-j B", "-j KUBE-POD-FW-2"]), &wanted));
        assert!(!is_as("A", &rules(&["-j KUBE-POD-FW-2", "-j KUBE-POD-FW-1"]), &wanted[2..]));
        assert!(is_as("A", &wanted, &wanted));
    }
}
