//! What we have programmed in one family, and how a change of services turns into a script. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use endpoint_cache::{Change, ServicePort};
use kernel::iptables::Table;

use super::base::{self, Shared};
use super::cleanup;
use super::context::Context;
use super::installed::{Fingerprint, Installed};
use super::script::{Script, Size};
use super::service::{self, Contribution, OwnChain};

/// Rules by their text. Their order does not matter.
type Rules = BTreeSet<Box<str>>;

/// Rules that are removed one by one from a shared chain of whatever length. Beyond, as soon as they are more than one
/// in [`SHARE`], the chain is written anew: `iptables` finds the rule to remove by comparing it with every other.
const FEW: usize = 4;
const SHARE: usize = 256;

/// The state of one family's rules, as far as the next change needs to know it.
pub(super) struct Program {
    context: Context,
    /// What service ports have in the chains that they share.
    shared: BTreeMap<Shared, Rules>,
    /// How many rules service ports have in chains of their own.
    own_rules: usize,
    /// How many rules do not depend on services.
    fixed_rules: [(Table, usize); 2],
}

impl Program {
    /// The scripts that lead from the state before some changes to the state after.
    pub(super) fn update(&mut self, changes: &[Change], size: Size) -> Vec<Script> {
        let (mut script, mut edits) = (Script::default(), Edits::default());
        for change in changes {
            let (before, after) = (change.before.as_deref(), change.after.as_deref());
            let service = after.or(before).filter(|service| service.family == self.context.family());
            if let Some(service) = service {
                self.change(service, before, after, &mut script, &mut edits);
            }
        }
        for (shared, edit) in edits.0 {
            let rules = self.shared.entry(shared).or_default();
            let rewrite = edit.is_large_beside(rules) && size.allows(length(rules));
            edit.apply(shared, rules, &shared.tail(&self.context), rewrite, &mut script);
        }
        script.pieces(size)
    }

    /// How many rules there are in each table that has any.
    pub(super) fn rules(&self) -> [(Table, usize); 2] {
        self.fixed_rules.map(|(table, fixed)| {
            let shared = self.shared.iter().filter(|(shared, _)| shared.table() == table);
            let shared: usize = shared.map(|(_, rules)| rules.len()).sum();
            let own = if table == Table::Nat { self.own_rules } else { 0 };
            (table, shared + own + fixed)
        })
    }

    fn change(
        &mut self,
        service: &ServicePort,
        before: Option<&ServicePort>,
        after: Option<&ServicePort>,
        script: &mut Script,
        edits: &mut Edits,
    ) {
        let of = |service: Option<&ServicePort>| -> Contribution {
            service.map(|service| service::of(service, &self.context)).unwrap_or_default()
        };
        let (was, is) = (of(before), of(after));
        self.own_rules = self.own_rules + is.own_rules() - was.own_rules();
        let by_name: HashMap<_, _> = was.chains.iter().map(|chain| (chain.name, &chain.rules)).collect();
        let changed = is.chains.iter().filter(|chain| by_name.get(&chain.name) != Some(&&chain.rules));
        write_chains(service, changed, script);
        let stays: HashSet<_> = is.chains.iter().map(|chain| chain.name).collect();
        let gone = was.chains.iter().filter(|chain| !stays.contains(&chain.name));
        gone.for_each(|chain| script.remove_chain(&chain.name));
        for (shared, rule) in is.shared.iter().filter(|rule| !was.shared.contains(rule)) {
            edits.of(*shared).added.push(rule.as_str().into());
        }
        for (shared, rule) in was.shared.iter().filter(|rule| !is.shared.contains(rule)) {
            edits.of(*shared).removed.push(rule.as_str().into());
        }
    }
}

/// Writes chains of a service port, if there are any to write.
fn write_chains<'a>(
    service: &ServicePort,
    chains: impl IntoIterator<Item = &'a OwnChain>,
    script: &mut Script,
) {
    let mut chains = chains.into_iter().peekable();
    if chains.peek().is_some() {
        script.about(&service.name);
        chains.for_each(|chain| script.write_chain(chain));
    }
}

#[derive(Default)]
struct Edits(BTreeMap<Shared, Edit>);

impl Edits {
    fn of(&mut self, shared: Shared) -> &mut Edit {
        self.0.entry(shared).or_default()
    }
}

/// What changes in a shared chain.
#[derive(Default)]
struct Edit {
    added: Vec<Box<str>>,
    removed: Vec<Box<str>>,
}

impl Edit {
    /// Whether to write the whole chain takes less than to edit it.
    fn is_large_beside(&self, rules: &Rules) -> bool {
        self.removed.len() > FEW && self.removed.len() * SHARE > rules.len()
    }

    /// Edits a chain's rules, or writes them all anew.
    fn apply(self, shared: Shared, rules: &mut Rules, tail: &[String], rewrite: bool, script: &mut Script) {
        // In `filter`, where what comes goes ahead of what leaves, also if all is written anew.
        if !rewrite || shared.table() == Table::Filter {
            self.added.iter().for_each(|rule| script.add(shared, rule));
        }
        for rule in &self.removed {
            rules.remove(rule);
            if !rewrite {
                script.remove(shared, rule);
            }
        }
        rules.extend(self.added);
        if rewrite {
            script.rewrite(shared, whole(rules, tail));
        }
    }
}

/// Rough bytes that it takes to write a chain.
fn length(rules: &Rules) -> usize {
    rules.iter().map(|rule| rule.len() + 32).sum()
}

fn whole<'a>(rules: &'a Rules, tail: &'a [String]) -> impl Iterator<Item = &'a str> {
    rules.iter().map(AsRef::as_ref).chain(tail.iter().map(String::as_str))
}

/// A full sync under way: what should be is compared with what is there.
pub(super) struct Resync {
    program: Program,
    installed: Installed,
    script: Script,
    size: Size,
}

impl Resync {
    pub(super) fn new(context: Context, installed: Installed, size: Size) -> Self {
        let mut script = Script::default();
        base::layout(&context).write_chains(&installed, &mut script);
        for shared in Shared::ALL {
            if installed.rules(shared.table(), shared.chain()).is_none() {
                script.make(shared.table(), shared.chain());
            }
        }
        let fixed_rules = [Table::Nat, Table::Filter].map(|table| (table, base::count(&context, table)));
        let program = Program { context, shared: BTreeMap::new(), own_rules: 0, fixed_rules };
        let mut resync = Self { program, installed, script, size };
        resync.guard_localhost();
        resync
    }

    /// A chain that the kubelet may have too, and fill: only what is missing is added.
    fn guard_localhost(&mut self) {
        let Some(guard) = base::localhost_guard(&self.program.context) else { return };
        if self.installed.rules(guard.table, guard.chain).is_none() {
            self.script.make(guard.table, guard.chain);
        }
        if !self.installed.has(guard.table, guard.chain, &guard.rule) {
            self.script.hook(&guard);
        }
    }

    /// Sees to a service port. Returns chains to be sent ahead when there are enough of them.
    pub(super) fn add(&mut self, service: &ServicePort) -> Option<Script> {
        let contribution = service::of(service, &self.program.context);
        self.program.own_rules += contribution.own_rules();
        let Contribution { chains, shared } = contribution;
        let own = &mut self.installed.own;
        let differs = |chain: &&OwnChain| own.remove(&chain.name) != Some(Fingerprint::of(&chain.rules));
        write_chains(service, chains.iter().filter(differs), &mut self.script);
        for (shared, rule) in shared {
            self.program.shared.entry(shared).or_default().insert(rule.into());
        }
        self.script.split_off_chains(self.size)
    }

    /// All service ports have been seen to. Returns the rest of the work, and the removal of chains that nobody leads
    /// to any more, which may fail if somebody does.
    pub(super) fn finish(mut self) -> (Program, Vec<Script>, Vec<Script>) {
        for shared in Shared::ALL {
            self.compare(shared);
        }
        base::layout(&self.program.context).write_hooks(
            &self.installed,
            base::is_of_this_mode,
            &mut self.script,
        );
        let of_another_mode =
            |table, chain: &str| base::is_ours(table, chain) && !base::is_of_this_mode(table, chain);
        let removals = cleanup::removal(&self.installed, of_another_mode);
        let removals = removals.into_iter().flat_map(|removal| removal.pieces(self.size)).collect();
        (self.program, self.script.pieces(self.size), removals)
    }

    /// Brings a shared chain from what is there to what should be.
    fn compare(&mut self, shared: Shared) {
        let Program { context, shared: all, .. } = &mut self.program;
        let tail = shared.tail(context);
        let found = self.installed.rules(shared.table(), shared.chain()).unwrap_or_default();
        let body = found.iter().filter(|rule| !tail.contains(rule)).map(|rule| rule.as_str().into());
        let mut rules: Rules = body.collect();
        let in_order = found.ends_with(&tail) && rules.len() + tail.len() == found.len();
        let wanted = all.remove(&shared).unwrap_or_default();
        if !in_order && !self.size.allows(length(&wanted)) {
            rules.clear();
            self.script.rewrite(shared, whole(&rules, &tail));
        }
        let edit = Edit {
            added: wanted.difference(&rules).cloned().collect(),
            removed: rules.difference(&wanted).cloned().collect(),
        };
        let large = edit.is_large_beside(&rules) || edit.added.len() > rules.len();
        let rewrite = (!in_order || large) && self.size.allows(length(&wanted));
        edit.apply(shared, &mut rules, &tail, rewrite, &mut self.script);
        all.insert(shared, rules);
    }
}
