//! Telling what a full sync would change in a family's table, in place of changing it.

use std::collections::HashMap;

use endpoint_cache::{Desired, Family};
use kernel::nft::{Bytes, Data, Element, InstalledRule, Nftables as Connection, Rule, Table, Verdict};

use super::installed::{self, Installed};
use super::layout::{self, SetName, address_type};
use super::ops::{InstalledChains, InstalledElements, Leftovers, Ops};
use super::{LIMIT_SHARE, Programmed, words};
use crate::context::Context;
use crate::difference::{apart, name};
use crate::{Comparison, Error};

impl Programmed {
    /// Compares the kernel with what should be there; sends nothing.
    pub(super) fn compare(
        &self,
        context: Context,
        desired: &Desired,
        connection: &mut Connection,
        comparison: &mut Comparison,
    ) -> Result<(), Error> {
        let skip = self.too_large_to_read(desired, connection.batch_limit() / LIMIT_SHARE);
        let installed = installed::read(connection, self.family, skip)?;
        let mut telling = Telling::new(self.family, &installed, comparison);
        telling.layout(&installed);
        let mut resync = self.begin_with(context, installed);
        let mut tell = |ops: &mut Ops, service: Option<&str>| match ops.split_off_over(0) {
            Some(ops) => telling.operations(&ops, service, connection),
            None => Ok(()),
        };
        tell(&mut resync.ops, None)?;
        for service in self.services(desired) {
            resync.program.add(service, &resync.placed, &mut resync.ops);
            tell(&mut resync.ops, Some(&name(service)))?;
        }
        let leftovers = resync.ops.remove_unwanted();
        tell(&mut resync.ops, None)?;
        telling.unused(&leftovers, &resync.foreign_sets);
        Ok(())
    }
}

/// Puts operations into words.
struct Telling<'a> {
    family: Family,
    table: Table,
    comparison: &'a mut Comparison,
    /// The chains that were found.
    chains: InstalledChains,
    owners: Owners,
    /// A set that was not read.
    unread: Option<SetName>,
    /// Rules by their handles, once they have been asked for.
    rules: Option<Vec<InstalledRule>>,
}

impl<'a> Telling<'a> {
    fn new(family: Family, installed: &Installed, comparison: &'a mut Comparison) -> Self {
        let keep = installed.can_be_kept();
        Self {
            family,
            table: layout::table(family),
            comparison,
            chains: if keep { installed.chains.clone() } else { InstalledChains::new() },
            owners: if keep { Owners::read(&installed.elements, family) } else { Owners::default() },
            unread: installed.unread.filter(|_| keep),
            rules: None,
        }
    }

    /// The table and its sets.
    fn layout(&mut self, installed: &Installed) {
        let table = &self.table;
        if installed.unusable {
            self.comparison.unwanted(None, || format!("table {table}, whose layout is another"));
        }
        if !installed.can_be_kept() {
            return self.comparison.missing(None, || format!("table {table}"));
        }
        for set in SetName::ALL.into_iter().filter(|set| !installed.sets.contains(set)) {
            self.comparison.missing(None, || format!("set {table} {}", set.as_str()));
        }
        if let Some(set) = self.unread {
            self.comparison.notes.push(format!(
                "map {table} {} was not compared: to list so many elements takes the kernel longer than to write them",
                set.as_str()
            ));
        }
    }

    /// What a service port, or all of them together, would have changed.
    fn operations(
        &mut self,
        ops: &Ops,
        service: Option<&str>,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        for (chain, rules) in ops.chains() {
            let service = service.filter(|_| is_of_one_service(chain));
            self.chain(chain, rules, service, connection)?;
        }
        let family = self.family;
        for (set, element) in ops.removed() {
            let owner = self.owners.of(set, element, family);
            self.comparison.unwanted(service.or(owner), || words::element(set, family, element));
        }
        for (set, element) in ops.added().filter(|(set, _)| self.unread != Some(*set)) {
            let service = service.filter(|_| match &element.data {
                Data::Verdict(Verdict::Goto(chain)) => is_of_one_service(chain),
                _ => true,
            });
            self.comparison.missing(service, || words::element(set, family, element));
        }
        Ok(())
    }

    /// A chain that is not as it should be.
    fn chain(
        &mut self,
        chain: &str,
        rules: &[Rule],
        service: Option<&str>,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let table = &self.table;
        let Some(found) = self.chains.get(chain) else {
            self.comparison.missing(service, || format!("chain {table} {chain}"));
            return Ok(());
        };
        let wanted: Vec<_> = rules.iter().map(|rule| Some(rule.fingerprint())).collect();
        let (missing, unwanted) = apart(&wanted, found);
        for at in &missing {
            let comment =
                rules[*at].comment.as_ref().map(|comment| format!(" ({comment})")).unwrap_or_default();
            self.comparison.missing(service, || format!("rule {} of chain {table} {chain}{comment}", at + 1));
        }
        if missing.is_empty() && unwanted.is_empty() {
            self.comparison.missing(service, || format!("the order of the rules of chain {table} {chain}"));
        }
        for at in unwanted {
            let place = match self.handle(chain, at, connection)? {
                Some(handle) => format!("handle {handle}"),
                None => format!("the {}. of them", at + 1),
            };
            let table = &self.table;
            self.comparison.unwanted(service, || format!("rule of chain {table} {chain}: {place}"));
        }
        Ok(())
    }

    /// The kernel's number for a rule, by which `nft -a` shows it.
    fn handle(&mut self, chain: &str, at: usize, connection: &mut Connection) -> Result<Option<u64>, Error> {
        if self.rules.is_none() {
            self.rules = Some(connection.rules(&self.table)?);
        }
        let mut rules = self.rules.iter().flatten().filter(|rule| rule.chain == chain);
        Ok(rules.nth(at).map(|rule| rule.handle))
    }

    /// What is there without use.
    fn unused(&mut self, leftovers: &Leftovers, sets: &[String]) {
        let (table, family) = (&self.table, self.family);
        let chains = leftovers.chains.iter().map(|chain| format!("chain {table} {chain}"));
        let leads = leftovers.leads.iter().map(|(set, lead)| words::element(*set, family, lead));
        let sets = sets.iter().map(|set| format!("set {table} {set}"));
        let mut unused: Vec<_> = chains.chain(leads).chain(sets).collect();
        unused.sort_unstable();
        self.comparison.unused.extend(unused);
    }
}

/// Others are shared by all services of a kind.
fn is_of_one_service(chain: &str) -> bool {
    chain.starts_with("sticky")
}

/// Bytes of a protocol and a port in a key.
const NODE_PORT: usize = 8;

/// The services that elements were found to be about, by frontend and by address: what has a comment tells of what has
/// none.
#[derive(Default)]
struct Owners(HashMap<Bytes, String>);

impl Owners {
    fn read(installed: &InstalledElements, family: Family) -> Self {
        let mut owners = Self::default();
        let address = address_type(family).padded();
        for element in installed.values().flat_map(super::found::Found::iter) {
            let Some(comment) = &element.comment else { continue };
            owners.0.insert(element.key.clone(), comment.clone());
            if element.key.len() == address + NODE_PORT {
                owners.0.insert(Bytes::from_slice(&element.key[..address]), comment.clone());
            }
        }
        owners
    }

    fn of<'a>(&'a self, set: SetName, element: &'a Element, family: Family) -> Option<&'a str> {
        let frontend = address_type(family).padded() + NODE_PORT;
        let key = match set {
            SetName::Endpoints | SetName::LocalEndpoints | SetName::FirewallSources => {
                element.key.get(..frontend)?
            }
            SetName::NodePortEndpoints | SetName::LocalNodePortEndpoints => element.key.get(..NODE_PORT)?,
            _ => &element.key,
        };
        let known = || self.0.get(key).map(String::as_str);
        element.comment.as_deref().or_else(known)
    }
}
