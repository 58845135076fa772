//! Telling how what is in the tables differs from what should be, in the words of `iptables`.

use std::collections::{BTreeMap, HashMap};

use endpoint_cache::ServicePort;
use kernel::iptables::{Iptables as Programs, SavedLine, Table};

use super::base::{self, Shared};
use super::context::Context;
use super::installed::{Fingerprint, Installed};
use super::layout::Layout;
use super::names::ChainName;
use super::service::{self, Contribution, OwnChain};
use crate::difference::name;
use crate::{Comparison, Error};

/// Compares a family's tables with what should be there.
pub(super) fn run<'a>(
    programs: &Programs,
    context: &Context,
    services: impl Iterator<Item = &'a ServicePort>,
    comparison: &mut Comparison,
) -> Result<(), Error> {
    let mut installed = Installed::read(programs)?;
    let wanted = Wanted::gather(context, services, &mut installed);
    let mut telling = Telling::new(programs.ipv6(), comparison);
    telling.layout(&base::layout(context), &installed, base::is_of_this_mode);
    telling.localhost_guard(context, &installed);
    wanted.shared.iter().for_each(|(shared, rules)| telling.shared(*shared, rules, context, &installed));
    let names = wanted.own.iter().map(|(chain, _)| chain.name).chain(installed.own.keys().copied());
    let mut texts = texts(programs, &names.collect::<Vec<_>>())?;
    for (chain, service) in &wanted.own {
        telling.own(chain, service, texts.remove(&chain.name).as_deref());
    }
    telling.unwanted_own(&texts);
    telling.chains_of_others(&installed, |table, chain| {
        base::is_ours(table, chain) && !base::is_of_this_mode(table, chain)
    });
    Ok(())
}

/// What service ports should have.
struct Wanted {
    /// Chains of their own that are not as they should be, with the service port's name.
    own: Vec<(OwnChain, String)>,
    /// Rules in shared chains, with the service port's name.
    shared: BTreeMap<Shared, BTreeMap<String, String>>,
}

impl Wanted {
    /// Leaves in `installed` the chains that no service port has.
    fn gather<'a>(
        context: &Context,
        services: impl Iterator<Item = &'a ServicePort>,
        installed: &mut Installed,
    ) -> Self {
        let shared = Shared::ALL.into_iter().map(|shared| (shared, BTreeMap::new())).collect();
        let mut wanted = Self { own: Vec::new(), shared };
        for service in services {
            let Contribution { chains, shared } = service::of(service, context);
            for chain in chains {
                if installed.own.remove(&chain.name) != Some(Fingerprint::of(&chain.rules)) {
                    wanted.own.push((chain, name(service)));
                }
            }
            for (shared, rule) in shared {
                wanted.shared.entry(shared).or_default().insert(rule, name(service));
            }
        }
        wanted
    }
}

/// The rules of some service ports' chains, of which otherwise only fingerprints are known. Chains that are not there are
/// not in it.
pub(super) fn texts(
    programs: &Programs,
    chains: &[ChainName],
) -> Result<BTreeMap<ChainName, Vec<String>>, Error> {
    let mut texts = BTreeMap::new();
    if chains.is_empty() {
        return Ok(texts);
    }
    let asked: HashMap<_, _> = chains.iter().map(|chain| (chain.to_string(), *chain)).collect();
    programs.save(Table::Nat, |line| match line {
        SavedLine::Chain(chain) => {
            if let Some(name) = asked.get(chain) {
                texts.entry(*name).or_default();
            }
        }
        SavedLine::Rule { chain, rule } => {
            if let Some(name) = asked.get(chain) {
                texts.entry(*name).or_default().push(rule.to_owned());
            }
        }
    })?;
    Ok(texts)
}

/// Puts what differs in a family into words.
pub(super) struct Telling<'a> {
    program: &'static str,
    comparison: &'a mut Comparison,
}

impl<'a> Telling<'a> {
    pub(super) fn new(ipv6: bool, comparison: &'a mut Comparison) -> Self {
        Self { program: if ipv6 { "ip6tables" } else { "iptables" }, comparison }
    }

    /// Chains that do not depend on services, and how packets come to ours. `stays` says which chains are the mode's.
    pub(super) fn layout(
        &mut self,
        layout: &Layout,
        installed: &Installed,
        stays: impl Fn(Table, &str) -> bool,
    ) {
        for chain in &layout.chains {
            let wanted: Vec<_> = chain.rules.iter().map(|rule| (rule.as_str(), None)).collect();
            let found = installed.rules(chain.table, chain.name);
            self.chain(chain.table, chain.name, &wanted, found, |found| found == chain.rules);
        }
        for hook in layout.missing_hooks(installed) {
            self.missing(hook.table, hook.chain, &hook.rule, None);
        }
        for (table, chain, rule) in layout.stale_hooks(installed, stays) {
            self.unwanted(table, chain, rule);
        }
    }

    /// Of a chain that the kubelet may have too, only our rule counts.
    fn localhost_guard(&mut self, context: &Context, installed: &Installed) {
        let Some(guard) = base::localhost_guard(context) else { return };
        if !installed.has(guard.table, guard.chain, &guard.rule) {
            self.missing(guard.table, guard.chain, &guard.rule, None);
        }
    }

    fn shared(
        &mut self,
        shared: Shared,
        rules: &BTreeMap<String, String>,
        context: &Context,
        installed: &Installed,
    ) {
        let tail = shared.tail(context);
        let body = rules.iter().map(|(rule, service)| (rule.as_str(), Some(service.as_str())));
        let wanted: Vec<_> = body.chain(tail.iter().map(|rule| (rule.as_str(), None))).collect();
        let found = installed.rules(shared.table(), shared.chain());
        // The order of what services have there does not matter.
        self.chain(shared.table(), shared.chain(), &wanted, found, |found| found.ends_with(&tail));
    }

    fn own(&mut self, chain: &OwnChain, service: &str, found: Option<&[String]>) {
        let wanted: Vec<_> = chain.rules.iter().map(|rule| (rule.as_str(), Some(service))).collect();
        let is_in_order = |found: &[String]| found == chain.rules;
        self.chain(Table::Nat, &chain.name.to_string(), &wanted, found, is_in_order);
    }

    /// Chains that no service port has.
    pub(super) fn unwanted_own(&mut self, chains: &BTreeMap<ChainName, Vec<String>>) {
        for (chain, rules) in chains {
            let name = chain.to_string();
            let service = rules.iter().find_map(|rule| owner(rule));
            self.comparison.unwanted(service, || self.program.to_owned() + &new_chain(Table::Nat, &name));
            rules.iter().for_each(|rule| self.unwanted(Table::Nat, &name, rule));
        }
    }

    /// Chains of another mode.
    pub(super) fn chains_of_others(
        &mut self,
        installed: &Installed,
        is_unwanted: impl Fn(Table, &str) -> bool,
    ) {
        let mut unwanted: Vec<_> = installed
            .others()
            .filter(|(table, chain, _)| is_unwanted(*table, chain))
            .map(|(table, chain, _)| self.program.to_owned() + &new_chain(table, chain))
            .collect();
        unwanted.sort_unstable();
        unwanted.into_iter().for_each(|chain| self.comparison.unwanted(None, || chain));
    }

    /// A chain with its rules and whose they are. Where all are there and no others, they may be in a wrong order.
    fn chain(
        &mut self,
        table: Table,
        chain: &str,
        wanted: &[(&str, Option<&str>)],
        found: Option<&[String]>,
        is_in_order: impl Fn(&[String]) -> bool,
    ) {
        if found.is_none() {
            let service = wanted.first().and_then(|(_, service)| *service);
            let service = service.filter(|_| ChainName::parse(chain).is_some());
            self.comparison.missing(service, || self.program.to_owned() + &new_chain(table, chain));
        }
        let found = found.unwrap_or_default();
        let mut left: HashMap<&str, usize> = HashMap::new();
        found.iter().for_each(|rule| *left.entry(rule).or_default() += 1);
        let mut equal = wanted.len() == found.len();
        for (rule, service) in wanted {
            match left.get_mut(rule).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => {
                    equal = false;
                    self.missing(table, chain, rule, *service);
                }
            }
        }
        for rule in found {
            if let Some(count) = left.get_mut(rule.as_str()).filter(|count| **count > 0) {
                *count -= 1;
                self.unwanted(table, chain, rule);
            }
        }
        if equal && !is_in_order(found) {
            let program = self.program;
            let what = || format!("the order of the rules of {program} -t {table} chain {chain}");
            self.comparison.missing(None, what);
        }
    }

    fn missing(&mut self, table: Table, chain: &str, rule: &str, service: Option<&str>) {
        self.comparison.missing(service, || format!("{} -t {table} -A {chain} {rule}", self.program));
    }

    fn unwanted(&mut self, table: Table, chain: &str, rule: &str) {
        self.comparison.unwanted(owner(rule), || format!("{} -t {table} -A {chain} {rule}", self.program));
    }
}

fn new_chain(table: Table, chain: &str) -> String {
    format!(" -t {table} -N {chain}")
}

/// The service port that a rule's comment begins with.
fn owner(rule: &str) -> Option<&str> {
    let (_, comment) = rule.split_once("--comment ")?;
    let comment = comment.trim_start_matches('"');
    let word = comment.split([' ', '"']).next()?;
    word.contains('/').then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_tell_whose_rules_are() {
        for (rule, service) in [
            (
                "-d 10.0.0.1/32 -m comment --comment \"ns/web:http cluster IP\" -j KUBE-SVC-X",
                Some("ns/web:http"),
            ),
            ("-m comment --comment ns/web -j DNAT", Some("ns/web")),
            ("-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES", None),
            ("-j DROP", None),
        ] {
            assert_eq!(owner(rule), service, "{rule}");
        }
    }

    #[test]
    fn rules_that_are_there_too_often_or_in_another_order_are_told() {
        let told = |wanted: &[&str], found: &[&str]| {
            let mut comparison = Comparison::default();
            let wanted: Vec<_> = wanted.iter().map(|rule| (*rule, None)).collect();
            let found: Vec<String> = found.iter().map(|rule| (*rule).to_owned()).collect();
            let order = |found: &[String]| found.iter().eq(wanted.iter().map(|(rule, _)| rule));
            Telling::new(false, &mut comparison).chain(Table::Nat, "C", &wanted, Some(&found), order);
            let texts = comparison.differences().iter().map(|it| format!("{} {}", it.sign, it.what));
            texts.collect::<Vec<_>>()
        };
        assert_eq!(told(&["-j A", "-j B"], &["-j A", "-j B"]), [""; 0]);
        assert_eq!(told(&["-j A"], &["-j A", "-j A"]), ["- iptables -t nat -A C -j A"]);
        assert_eq!(told(&["-j A", "-j B"], &["-j B"]), ["+ iptables -t nat -A C -j A"]);
        assert_eq!(
            told(&["-j A", "-j B"], &["-j B", "-j A"]),
            ["+ the order of the rules of iptables -t nat chain C"]
        );
    }
}
