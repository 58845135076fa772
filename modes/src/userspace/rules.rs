//! The rules that mark what is to be led back, and keep everybody away from where the forwarder listens who does not
//! come by a frontend: in a small table of nftables, or in chains of table `mangle` of iptables.

mod compare;

use std::net::IpAddr;

use endpoint_cache::Family;
use kernel::iptables::{Iptables as Programs, SavedLine, Table as IptablesTable};
use kernel::nft::expr::{Action, Comparison, CtKey, Expr, Load, Match, MetaKey, Register};
use kernel::nft::{
    Batch, Bytes, Chain, ChainType, Content, Hook, HookPoint, Mending, Monitor, Nftables as Connection, Rule,
    Table, Verdict,
};

use super::return_path::{BORROWED, LED_BACK};
use crate::nftables::layout;
use crate::nftables::rules::{destination_address, has_mark, rule, set_mark, verdict};
use crate::{Error, Report};

/// Name of our table in nftables.
const TABLE: &str = "pointsman-userspace";
/// How the names of our chains of iptables begin.
const CHAINS: &str = "POINTSMAN-";

/// `NF_IP_PRI_MANGLE`: after conntrack, before destinations are translated and before routing.
const MANGLE: i32 = -150;

/// Where the rules are.
pub(super) enum Tables {
    /// In a table of nftables.
    Nftables(Connection),
    /// In table `mangle`, of each family that there is.
    Iptables(Vec<Programs>),
}

impl Tables {
    /// Puts the rules of a family right, for an address that the forwarder listens on.
    pub(super) fn put_right(
        &mut self,
        family: Family,
        address: IpAddr,
        report: &mut Report,
    ) -> Result<(), Error> {
        match self {
            Self::Nftables(connection) => put_table_right(connection, family, address, report),
            Self::Iptables(programs) => {
                let is_of_family = |programs: &&Programs| programs.ipv6() == (family == Family::V6);
                let programs = programs.iter().find(is_of_family).ok_or(Error::NoTables { family })?;
                put_chains_right(programs, address, report)
            }
        }
    }

    /// Hears of what others do to them; `None` where that is heard of otherwise.
    pub(super) fn monitor(&self) -> Result<Option<Monitor>, Error> {
        Ok(match self {
            Self::Nftables(connection) => {
                Some(Monitor::open(Family::BOTH.map(table).to_vec(), connection.port())?)
            }
            Self::Iptables(programs) => match programs.first() {
                Some(first) if first.backend() == kernel::iptables::Backend::Nft => {
                    let mangle =
                        Family::BOTH.map(|family| Table { name: "mangle".to_owned(), ..table(family) });
                    Some(Monitor::open_for_mentions(mangle.to_vec(), CHAINS, first.own_processes())?)
                }
                // The size of the whole table is looked at.
                _ => None,
            },
        })
    }
}

/// The table that the captured entry has besides that of the frontends, where nftables leads to it.
#[must_use]
pub fn table(family: Family) -> Table {
    Table { name: TABLE.to_owned(), ..layout::table(family) }
}

fn put_table_right(
    connection: &mut Connection,
    family: Family,
    address: IpAddr,
    report: &mut Report,
) -> Result<(), Error> {
    let table = table(family);
    let installed = connection.installed(&table)?;
    let Mending { batch, .. } = content(family, address).mending(&table, installed.as_ref());
    report.operations += batch.operations();
    if !batch.is_empty() {
        report.bytes += batch.bytes();
    }
    Ok(connection.commit(batch)?)
}

/// What the table holds.
fn content(family: Family, address: IpAddr) -> Content {
    let chains = chains(family, address).map(|(chain, rule)| (chain, vec![rule]));
    let comment = "Answers to the forwarder, programmed by pointsman";
    Content { comment, sets: Vec::new(), chains: chains.to_vec() }
}

/// Every chain with its rule.
fn chains(family: Family, address: IpAddr) -> [(Chain, Rule); 3] {
    let chain = |name: &str, point| {
        let hook = Hook { kind: ChainType::Filter, point, priority: MANGLE };
        Chain { name: name.to_owned(), hook: Some(hook) }
    };
    let borrowed = rule("under a client's address", [has_mark(BORROWED), mark_connection(BORROWED)]);
    let answers = rule("answers to it", [connection_has_mark(BORROWED), set_mark(LED_BACK)]);
    let guard =
        rule("by a frontend only", [goes_to(family, address), was_not_translated(), verdict(Verdict::Drop)]);
    [
        (chain("output", HookPoint::Output), borrowed),
        (chain("prerouting", HookPoint::Prerouting), answers),
        (chain("input", HookPoint::Input), guard),
    ]
}

const SCRATCH: Register = Register::new(0);

fn bits(mask: u32, xor: u32) -> Expr {
    let bytes = |bits: u32| Bytes::from_slice(&bits.to_ne_bytes());
    Expr::Match(Match::Bitwise { register: SCRATCH, mask: bytes(mask), xor: bytes(xor) })
}

fn compare(comparison: Comparison, with: &[u8]) -> Expr {
    Expr::Match(Match::Cmp { register: SCRATCH, comparison, with: Bytes::from_slice(with) })
}

/// `ct mark set ct mark or MARK`
fn mark_connection(mark: u32) -> Vec<Expr> {
    vec![
        Expr::Load(Load::Ct { key: CtKey::Mark, into: SCRATCH }),
        bits(!mark, mark),
        Expr::Action(Action::SetConnectionMark { from: SCRATCH }),
    ]
}

fn connection_has_mark(mark: u32) -> Vec<Expr> {
    vec![
        Expr::Load(Load::Ct { key: CtKey::Mark, into: SCRATCH }),
        bits(mark, 0),
        compare(Comparison::Ne, &[0; 4]),
    ]
}

fn goes_to(family: Family, address: IpAddr) -> Vec<Expr> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    vec![destination_address(family, SCRATCH), compare(Comparison::Eq, &octets)]
}

/// Its destination is what the sender wrote. What this host sends to itself passes.
fn was_not_translated() -> Vec<Expr> {
    let mut loopback = [0; 16];
    loopback[..2].copy_from_slice(b"lo");
    vec![
        Expr::Load(Load::Meta { key: MetaKey::IifName, into: SCRATCH }),
        compare(Comparison::Ne, &loopback),
        Expr::Load(Load::Ct { key: CtKey::Status, into: SCRATCH }),
        bits(CtKey::STATUS_DNAT, 0),
        compare(Comparison::Eq, &[0; 4]),
    ]
}

/// Removes our tables; says how many there were.
pub(super) fn remove_tables(connection: &mut Connection) -> Result<usize, Error> {
    let mut present = connection.tables()?;
    present.retain(|found| Family::BOTH.map(table).contains(found));
    for table in &present {
        let mut batch = Batch::new(table.clone());
        batch.delete_table();
        connection.commit(batch)?;
    }
    Ok(present.len())
}

/// A chain of ours, the chain that leads to it, and what it holds.
struct OwnChain {
    name: &'static str,
    from: &'static str,
    rule: String,
}

impl OwnChain {
    fn hook(&self) -> String {
        format!("-j {}", self.name)
    }
}

fn own_chains(address: IpAddr) -> [OwnChain; 3] {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    [
        OwnChain {
            name: "POINTSMAN-OUTPUT",
            from: "OUTPUT",
            rule: format!(
                "-m mark --mark {BORROWED:#x}/{BORROWED:#x} -j CONNMARK --set-xmark {BORROWED:#x}/{BORROWED:#x}"
            ),
        },
        OwnChain {
            name: "POINTSMAN-PREROUTING",
            from: "PREROUTING",
            rule: format!(
                "-m connmark --mark {BORROWED:#x}/{BORROWED:#x} -j MARK --set-xmark {LED_BACK:#x}/{LED_BACK:#x}"
            ),
        },
        OwnChain {
            name: "POINTSMAN-INPUT",
            from: "INPUT",
            rule: format!("-d {address}/{prefix} ! -i lo -m conntrack ! --ctstate DNAT -j DROP"),
        },
    ]
}

/// What there is of ours in table `mangle`.
#[derive(Default)]
struct Found {
    chains: Vec<String>,
    /// Chain and rule: all of our chains, and those that lead there.
    rules: Vec<(String, String)>,
}

impl Found {
    fn take_in(&mut self, line: &SavedLine<'_>) {
        match line {
            SavedLine::Chain(chain) if chain.starts_with(CHAINS) => self.chains.push((*chain).to_owned()),
            SavedLine::Rule { chain, rule } if chain.starts_with(CHAINS) || rule.contains(CHAINS) => {
                self.rules.push(((*chain).to_owned(), (*rule).to_owned()));
            }
            _ => {}
        }
    }

    fn read(programs: &Programs) -> Result<Self, Error> {
        let mut found = Self::default();
        programs.save(IptablesTable::Mangle, |line| found.take_in(&line))?;
        Ok(found)
    }

    fn rules_of(&self, chain: &str) -> Vec<&str> {
        let of_chain = self.rules.iter().filter(|(found, _)| found == chain);
        of_chain.map(|(_, rule)| rule.as_str()).collect()
    }
}

fn put_chains_right(programs: &Programs, address: IpAddr, report: &mut Report) -> Result<(), Error> {
    let found = Found::read(programs)?;
    let mut lines: Vec<String> = Vec::new();
    for chain in own_chains(address) {
        let OwnChain { name, from, rule } = &chain;
        let exists = found.chains.iter().any(|found| found == name);
        if !exists || found.rules_of(name) != [rule.as_str()] {
            // Declaring a chain empties it.
            lines.extend([format!(":{name} - [0:0]"), format!("-A {name} {rule}")]);
        }
        if !found.rules_of(from).contains(&chain.hook().as_str()) {
            lines.push(format!("-A {from} {}", chain.hook()));
        }
    }
    run(programs, &lines, report)
}

/// Removes our chains; says how many there were.
pub(super) fn remove_chains(programs: &Programs) -> Result<usize, Error> {
    let mut found = Found::default();
    programs.save_all(|table, line| {
        if table == IptablesTable::Mangle {
            found.take_in(&line);
        }
    })?;
    let hooks = found.rules.iter().filter(|(chain, _)| !chain.starts_with(CHAINS));
    let hooks = hooks.map(|(chain, rule)| format!("-D {chain} {rule}"));
    let emptied = found.chains.iter().map(|chain| format!("-F {chain}"));
    let removed = found.chains.iter().map(|chain| format!("-X {chain}"));
    let mut report = Report::default();
    run(programs, &hooks.chain(emptied).chain(removed).collect::<Vec<_>>(), &mut report)?;
    Ok(found.chains.len())
}

fn run(programs: &Programs, lines: &[String], report: &mut Report) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = format!("*mangle\n{}\nCOMMIT\n", lines.join("\n"));
    programs.restore(&text)?;
    report.operations += lines.len();
    report.bytes += text.len();
    Ok(())
}
