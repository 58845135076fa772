//! By nftables: one table a family, written whole or by the node.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::nft::expr::{Action, Comparison, Expr, FibFlags, Load, Match, PayloadBase, Register, SetAccess};
use kernel::nft::{
    Batch, Bytes, Chain, ChainType, DataType, Element, Fingerprint, Hook, HookPoint, MapTo, Nftables, Rule,
    Set, Table,
};

use crate::network::desired::Masquerade;

/// Shown by `nft list`.
const COMMENT: &str = "what pods send out of the cluster, by pointsman";
const CHAIN: &str = "postrouting";
const PODS: &str = "pods";
const EXEMPT: &str = "exempt";
const NODES: &str = "nodes";
/// `srcnat`
const PRIORITY: i32 = 100;
/// Where values go that are looked at.
const SCRATCH: Register = Register::new(0);

/// The table of a family.
pub(in crate::network) fn table(family: Family) -> Table {
    let family = match family {
        Family::V4 => kernel::nft::Family::Ip,
        Family::V6 => kernel::nft::Family::Ip6,
    };
    Table { family, name: "pointsman-masq".to_owned() }
}

/// What the table of a family holds.
struct Content {
    sets: [(Set, Vec<Element>); 3],
    chain: Chain,
    rules: Vec<Rule>,
}

impl Content {
    fn new(wanted: &Masquerade, family: Family) -> Self {
        let nodes = wanted.nodes.iter().filter(|address| Family::of(**address) == family);
        let hook = Hook { kind: ChainType::Nat, point: HookPoint::Postrouting, priority: PRIORITY };
        Self {
            sets: [
                (set(PODS, family, true, "this node's pods"), ranges(&wanted.pods, family)),
                (set(EXEMPT, family, true, "reached as they are"), ranges(&wanted.exempt, family)),
                (
                    set(NODES, family, false, "the nodes, reached so as well"),
                    nodes.map(|node| plain(*node)).collect(),
                ),
            ],
            chain: Chain { name: CHAIN.to_owned(), hook: Some(hook) },
            rules: vec![rule(family, wanted.random_fully)],
        }
    }

    fn write(&self, batch: &mut Batch, exists: bool) {
        batch.add_table(COMMENT);
        if exists {
            batch.delete_table();
            batch.add_table(COMMENT);
        }
        for (set, elements) in &self.sets {
            batch.add_set(set);
            batch.add_elements(&set.name, elements);
        }
        batch.add_chain(&self.chain);
        for rule in &self.rules {
            batch.add_rule(CHAIN, rule);
        }
    }

    /// Whether the kernel has exactly this.
    fn is_installed(&self, connection: &mut Nftables, table: &Table) -> Result<bool, kernel::Error> {
        if connection.chains(table)? != std::slice::from_ref(&self.chain) {
            return Ok(false);
        }
        let found: Vec<Option<Fingerprint>> =
            connection.rules(table)?.into_iter().map(|rule| rule.fingerprint).collect();
        if !found.into_iter().eq(self.rules.iter().map(|rule| Some(rule.fingerprint()))) {
            return Ok(false);
        }
        let installed: HashMap<_, _> =
            connection.sets(table)?.into_iter().map(|set| (set.name.clone(), set)).collect();
        if installed.len() != self.sets.len() {
            return Ok(false);
        }
        for (set, elements) in &self.sets {
            if !installed.get(&set.name).is_some_and(|found| found.is(set)) {
                return Ok(false);
            }
            let found: HashSet<Element> = connection.elements(table, &set.name)?.into_iter().collect();
            if found != elements.iter().cloned().collect() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Brings the tables to what is wanted, whatever they hold; returns how much was written.
pub(super) fn resync(connection: &mut Nftables, wanted: Option<&Masquerade>) -> Result<usize, kernel::Error> {
    let (tables, mut operations) = (connection.tables()?, 0);
    for family in Family::BOTH {
        let table = table(family);
        let exists = tables.contains(&table);
        let wanted = wanted.filter(|wanted| wanted.pods.iter().any(|pods| Family::of(pods.addr()) == family));
        let mut batch = Batch::new(table.clone());
        match wanted {
            None if exists => batch.delete_table(),
            None => continue,
            Some(wanted) => {
                let content = Content::new(wanted, family);
                if exists && content.is_installed(connection, &table)? {
                    continue;
                }
                content.write(&mut batch, exists);
            }
        }
        operations += batch.operations();
        connection.commit(batch)?;
    }
    Ok(operations)
}

/// Adds and removes nodes; returns how much was written.
pub(super) fn change(
    connection: &mut Nftables,
    wanted: &Masquerade,
    nodes: &[(IpAddr, bool)],
) -> Result<usize, kernel::Error> {
    let mut operations = 0;
    for family in Family::BOTH {
        if !wanted.pods.iter().any(|pods| Family::of(pods.addr()) == family) {
            continue;
        }
        let these = |came: bool| -> Vec<Element> {
            let here = nodes.iter().filter(|(node, is)| *is == came && Family::of(*node) == family);
            here.map(|(node, _)| plain(*node)).collect()
        };
        let mut batch = Batch::new(table(family));
        for (elements, came) in [(these(false), false), (these(true), true)] {
            if elements.is_empty() {
                continue;
            }
            if came {
                batch.add_elements(NODES, &elements);
            } else {
                batch.delete_elements(NODES, &elements);
            }
        }
        operations += batch.operations();
        connection.commit(batch)?;
    }
    Ok(operations)
}

/// The one rule. In words: from a pod of this node, to whom no exemption is for, and not to this node.
fn rule(family: Family, random_fully: bool) -> Rule {
    let (source, destination, width) = match family {
        Family::V4 => (12, 16, 4),
        Family::V6 => (8, 24, 16),
    };
    let address =
        |offset| Expr::Load(Load::Payload { base: PayloadBase::Network, offset, len: width, into: SCRATCH });
    let contains =
        |set: &str, inverted| Expr::Set(SetAccess::Contains { set: set.to_owned(), key: SCRATCH, inverted });
    let masquerade = if random_fully { Action::Masquerade } else { Action::MasqueradeKeepingPorts };
    Rule {
        expressions: vec![
            address(source),
            contains(PODS, false),
            address(destination),
            contains(EXEMPT, true),
            contains(NODES, true),
            Expr::Load(Load::FibType { of: FibFlags::Daddr, into: SCRATCH }),
            Expr::Match(Match::Cmp {
                register: SCRATCH,
                comparison: Comparison::Ne,
                with: Bytes::from_slice(&Load::LOCAL.to_ne_bytes()),
            }),
            Expr::Action(masquerade),
        ],
        comment: Some("pods are not known beyond the cluster".to_owned()),
    }
}

fn set(name: &str, family: Family, interval: bool, comment: &str) -> Set {
    let key = if family == Family::V4 { DataType::Ipv4Addr } else { DataType::Ipv6Addr };
    Set {
        name: name.to_owned(),
        key: vec![key],
        data: MapTo::Nothing,
        interval,
        dynamic: false,
        size: None,
        comment: comment.to_owned(),
    }
}

fn plain(address: IpAddr) -> Element {
    let key = match address {
        IpAddr::V4(address) => Bytes::from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::from_slice(&address.octets()),
    };
    Element { key, ..Element::default() }
}

/// Ranges as the kernel has them: where each begins, and the first address beyond it, unless there is none.
fn ranges(ranges: &BTreeSet<IpNet>, family: Family) -> Vec<Element> {
    let here: Vec<IpNet> =
        ranges.iter().copied().filter(|range| Family::of(range.addr()) == family).collect();
    let mut here = IpNet::aggregate(&here);
    here.sort_unstable();
    let mut elements: Vec<Element> = Vec::new();
    for range in here {
        let begin = plain(range.network());
        // What begins where the one before ends goes on with it.
        if elements.last().is_some_and(|end| end.interval_end && end.key == begin.key) {
            elements.pop();
        } else {
            elements.push(begin);
        }
        let beyond = match range.broadcast() {
            IpAddr::V4(last) => last.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
            IpAddr::V6(last) => last.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
        };
        elements.extend(beyond.map(|beyond| Element { interval_end: true, ..plain(beyond) }));
    }
    elements
}
