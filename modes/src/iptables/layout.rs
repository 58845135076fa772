//! Chains and rules that do not depend on services, for every mode that has some in iptables: what brings them from what
//! there is to what should be, and takes away what another mode has left.

use kernel::iptables::{Iptables as Programs, Table};

use super::base;
use super::cleanup;
use super::compare::{self, Telling};
use super::installed::Installed;
use super::script::{Script, Size};
use crate::{Comparison, Error};

/// Marks packets that are to be masqueraded.
pub(crate) const MARK_MASQ: &str = "KUBE-MARK-MASQ";
/// Masquerades them.
pub(crate) const POSTROUTING: &str = "KUBE-POSTROUTING";

/// A chain whose rules do not depend on services.
pub(crate) struct FixedChain {
    pub(crate) table: Table,
    pub(crate) name: &'static str,
    pub(crate) rules: Vec<String>,
}

/// A rule in a chain that others use too.
pub(crate) struct Hook {
    pub(crate) table: Table,
    pub(crate) chain: &'static str,
    pub(crate) rule: String,
}

/// What a mode has on every node.
pub(crate) struct Layout {
    /// Each leads only to those before it, as far as they are in here.
    pub(crate) chains: Vec<FixedChain>,
    /// In the order in which missing ones are put in front.
    pub(crate) hooks: Vec<Hook>,
}

impl Layout {
    /// Writes the chains that are not as they should be.
    pub(super) fn write_chains(&self, installed: &Installed, script: &mut Script) {
        for chain in &self.chains {
            if installed.rules(chain.table, chain.name) != Some(&chain.rules) {
                script.write_fixed(chain);
            }
        }
    }

    /// Adds the hooks that are missing, and takes out those of another mode that lead to chains that stay.
    pub(super) fn write_hooks(
        &self,
        installed: &Installed,
        stays: impl Fn(Table, &str) -> bool,
        script: &mut Script,
    ) {
        self.missing_hooks(installed).for_each(|hook| script.hook(hook));
        for (table, chain, rule) in self.stale_hooks(installed, stays) {
            script.unhook(table, chain, rule);
        }
    }

    /// Hooks that are not there.
    pub(super) fn missing_hooks(&self, installed: &Installed) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(|hook| !installed.has(hook.table, hook.chain, &hook.rule))
    }

    /// Rules in the chains of others that lead to a chain that stays, and are no hooks of ours.
    pub(super) fn stale_hooks<'a>(
        &self,
        installed: &'a Installed,
        stays: impl Fn(Table, &str) -> bool,
    ) -> Vec<(Table, &'a str, &'a str)> {
        let mut stale = Vec::new();
        for (table, chain, rules) in installed.others().filter(|(_, chain, _)| is_built_in(chain)) {
            let leads_on = |rule: &&String| {
                let target = cleanup::target(rule);
                target != MARK_MASQ && stays(table, target)
            };
            let rules = rules.iter().filter(leads_on).filter(|rule| !self.has_hook(table, chain, rule));
            stale.extend(rules.map(|rule| (table, chain, rule.as_str())));
        }
        stale
    }

    fn has_hook(&self, table: Table, chain: &str, rule: &str) -> bool {
        self.hooks.iter().any(|hook| (hook.table, hook.chain, hook.rule.as_str()) == (table, chain, rule))
    }

    /// Everything at once, for a mode that has nothing else in iptables: what brings it, and what takes away chains
    /// that are then without use.
    pub(crate) fn scripts(&self, installed: &Installed, size: Size) -> Vec<Script> {
        let has =
            |table, name: &str| self.chains.iter().any(|chain| (chain.table, chain.name) == (table, name));
        let mut script = Script::default();
        self.write_chains(installed, &mut script);
        self.write_hooks(installed, has, &mut script);
        let stale = cleanup::removal(installed, |table, chain| {
            (base::is_ours(table, chain) && !has(table, chain)) || installed.has_own(table, chain)
        });
        std::iter::once(script).chain(stale).flat_map(|script| script.pieces(size)).collect()
    }

    /// Tells how what there is differs from it, for a mode that has nothing else in iptables.
    pub(crate) fn compare(&self, programs: &Programs, comparison: &mut Comparison) -> Result<(), Error> {
        let installed = Installed::read(programs)?;
        let has =
            |table, name: &str| self.chains.iter().any(|chain| (chain.table, chain.name) == (table, name));
        let mut telling = Telling::new(programs.ipv6(), comparison);
        telling.layout(self, &installed, has);
        telling
            .chains_of_others(&installed, |table, chain| base::is_ours(table, chain) && !has(table, chain));
        let own: Vec<_> = installed.own.keys().copied().collect();
        telling.unwanted_own(&compare::texts(programs, &own)?);
        Ok(())
    }
}

fn is_built_in(chain: &str) -> bool {
    ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].contains(&chain)
}
