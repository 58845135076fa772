//! `iptables` and its kin: one back end and family, on one node.

use anyhow::{Context, Result};

use crate::bed::Family;
use crate::mode::Backend;
use crate::namespace::Namespace;

/// How long the tools wait for the lock.
const WAIT: &str = "10";

/// The tables of one back end and family.
#[derive(Clone, Copy, Debug)]
pub struct Iptables<'a> {
    /// Whose.
    pub node: &'a Namespace,
    /// Which back end.
    pub backend: Backend,
    /// Which family.
    pub family: Family,
}

impl Iptables<'_> {
    /// The name of a program: `iptables-nft`, or `ip6tables-legacy-save` for the part `-save`.
    #[must_use]
    pub fn program(&self, part: &str) -> String {
        let family = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{family}-{}{part}", self.backend.name())
    }

    /// Runs a command, and returns what it printed.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.node.output(&self.program(""), &[&["-w", WAIT], args].concat())
    }

    /// Everything in the tables, as `iptables-save` prints it.
    ///
    /// # Errors
    /// When the program is missing or fails.
    pub fn save(&self) -> Result<String> {
        self.node.output(&self.program("-save"), &[])
    }

    /// What is in the tables, a line for each chain that somebody made, each rule and each policy but ACCEPT; each
    /// begins with its table. Counters are left out, and so is whether an empty table exists.
    ///
    /// # Errors
    /// As [`Iptables::save`].
    pub fn content(&self) -> Result<Vec<String>> {
        Ok(content(&self.save()?))
    }

    /// The rules of a chain, as `iptables-save` prints them; none if there is no such chain.
    ///
    /// # Errors
    /// As [`Iptables::save`].
    pub fn chain(&self, table: &str, chain: &str) -> Result<Vec<String>> {
        let begin = format!("{table} -A {chain} ");
        let rules = self.content()?.into_iter().filter(|line| line.starts_with(&begin));
        Ok(rules.filter_map(|line| line.split_once(' ').map(|(_, rule)| rule.to_owned())).collect())
    }

    /// The names of the chains of a table that somebody made.
    ///
    /// # Errors
    /// As [`Iptables::save`].
    pub fn chains(&self, table: &str) -> Result<Vec<String>> {
        let begin = format!("{table} :");
        let content = self.content()?;
        let names = content.iter().filter_map(|line| line.strip_prefix(&begin)?.strip_suffix(" -"));
        Ok(names.map(str::to_owned).collect())
    }

    /// Loads a script on top of what there is.
    ///
    /// # Errors
    /// When it is refused; with the script.
    pub fn load(&self, script: &str) -> Result<()> {
        self.node.feed(&self.program("-restore"), &["--noflush", "-w", WAIT], script).map(drop)
    }

    /// Puts a script in place of all that is in the tables it names.
    ///
    /// # Errors
    /// As [`Iptables::load`].
    pub fn replace(&self, script: &str) -> Result<()> {
        self.node.feed(&self.program("-restore"), &["-w", WAIT], script).map(drop)
    }

    /// Deletes the first rule of a chain that has a text in it.
    ///
    /// # Errors
    /// When there is none, or it is refused.
    pub fn delete(&self, table: &str, chain: &str, containing: &str) -> Result<()> {
        let rules = self.chain(table, chain)?;
        let rule = rules.iter().find(|rule| rule.contains(containing));
        let rule = rule.with_context(|| format!("no rule of {chain} has {containing:?}: {rules:#?}"))?;
        self.load(&format!("*{table}\n{}\nCOMMIT\n", rule.replacen("-A", "-D", 1)))
    }

    /// Where the first rule of a chain that has a text in it jumps.
    ///
    /// # Errors
    /// When there is none.
    pub fn target(&self, table: &str, chain: &str, containing: &str) -> Result<String> {
        let rules = self.chain(table, chain)?;
        let rule = rules.iter().find(|rule| rule.contains(containing));
        let rule = rule.with_context(|| format!("no rule of {chain} has {containing:?}: {rules:#?}"))?;
        let target = rule.split(" -j ").last().and_then(|target| target.split(' ').next());
        target.map(str::to_owned).with_context(|| format!("no jump: {rule}"))
    }
}

fn content(save: &str) -> Vec<String> {
    let mut table = "";
    let mut content = Vec::new();
    for line in save.lines() {
        match line.as_bytes().first() {
            Some(b'*') => table = &line[1..],
            Some(b':') => {
                let line = line.split(" [").next().unwrap_or(line);
                if !line.ends_with(" ACCEPT") {
                    content.push(format!("{table} {line}"));
                }
            }
            Some(b'-') => content.push(format!("{table} {line}")),
            // Comments, and the ends of tables.
            _ => {}
        }
    }
    content
}
