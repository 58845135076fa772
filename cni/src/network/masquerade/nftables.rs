//! By nftables: one table a family, mended or changed by the node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::nft::expr::{Action, Comparison, Expr, FibFlags, Load, Match, PayloadBase, Register, SetAccess};
use kernel::nft::{
    Batch, Bytes, Chain, ChainType, Content, DataType, Element, Hook, HookPoint, MapTo, Nftables, Rule, Set,
    Table,
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
fn content(wanted: &Masquerade, family: Family) -> Content {
    let nodes = wanted.nodes.iter().copied().filter(|address| Family::of(*address) == family);
    let hook = Hook { kind: ChainType::Nat, point: HookPoint::Postrouting, priority: PRIORITY };
    let chain = Chain { name: CHAIN.to_owned(), hook: Some(hook) };
    Content {
        comment: COMMENT,
        sets: vec![
            (set(PODS, family, true, "this node's pods"), ranges(&wanted.pods, family)),
            (set(EXEMPT, family, true, "reached as they are"), ranges(&wanted.exempt, family)),
            (
                set(NODES, family, false, "the nodes, reached so as well"),
                nodes.map(Element::of_address).collect(),
            ),
        ],
        chains: vec![(chain, vec![rule(family, wanted.random_fully)])],
    }
}

/// Brings the tables to what is wanted, whatever they hold; returns how much was written.
pub(super) fn resync(connection: &mut Nftables, wanted: Option<&Masquerade>) -> Result<usize, kernel::Error> {
    let mut operations = 0;
    for family in Family::BOTH {
        let table = table(family);
        let installed = connection.installed(&table)?;
        let wanted = wanted.filter(|wanted| wanted.pods.iter().any(|pods| Family::of(pods.addr()) == family));
        let batch = match wanted {
            Some(wanted) => content(wanted, family).mending(&table, installed.as_ref()).batch,
            None => {
                let mut batch = Batch::new(table);
                if installed.is_some() {
                    batch.delete_table();
                }
                batch
            }
        };
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
            here.map(|(node, _)| Element::of_address(*node)).collect()
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

fn ranges(ranges: &BTreeSet<IpNet>, family: Family) -> Vec<Element> {
    let here: Vec<IpNet> =
        ranges.iter().copied().filter(|range| Family::of(range.addr()) == family).collect();
    Element::of_ranges(&here)
}
