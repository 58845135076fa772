//! What is measured, what it should be at most, and the page of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use benches::figures::{Figure, Figures};
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_BORDERS_ONLY};
use comfy_table::{CellAlignment, Table, TableStyle};

pub(crate) const COMPILE: &str = "full compile, from decoded objects";
pub(crate) const POLICIES_HERE: &str = "of that for this node: policies, each direction for itself";
pub(crate) const SETS_HERE: &str = "of that for this node: sets";
pub(crate) const ELEMENTS_HERE: &str = "of that for this node: elements";
pub(crate) const LOAD: &str = "full load";
pub(crate) const LOAD_OPERATIONS: &str = "full load, operations";
pub(crate) const LOAD_FLOOR: &str = "as many elements in one nftables set, raw";
pub(crate) const LOAD_RATIO: &str = "full load, ratio";
pub(crate) const RESTART: &str = "restart with nothing to do";
pub(crate) const COMPILER_RESIDENT: &str = "compiler: resident";
pub(crate) const KERNEL: &str = "kernel memory of a full load";
pub(crate) const RESIDENT: &str = "binary with --network-policy=on: resident, settled";
pub(crate) const PEAK: &str = "binary with --network-policy=on: resident, peak";

/// Sorts of changes, of which the same is told.
pub(crate) const CHANGES: [&str; 10] = [
    REMOTE_LABEL,
    LOCAL_LABEL,
    REMOTE_ADDED,
    REMOTE_GONE,
    LOCAL_ADDED,
    LOCAL_GONE,
    POLICY_ADDED,
    POLICY_CHANGED,
    POLICY_GONE,
    NAMESPACE_LABEL,
];
pub(crate) const REMOTE_LABEL: &str = "label of a pod elsewhere";
pub(crate) const LOCAL_LABEL: &str = "label of a pod here";
pub(crate) const REMOTE_ADDED: &str = "pod added elsewhere";
pub(crate) const REMOTE_GONE: &str = "pod gone elsewhere";
pub(crate) const LOCAL_ADDED: &str = "pod added here";
pub(crate) const LOCAL_GONE: &str = "pod gone here";
pub(crate) const POLICY_ADDED: &str = "policy added";
pub(crate) const POLICY_CHANGED: &str = "policy changed";
pub(crate) const POLICY_GONE: &str = "policy gone";
pub(crate) const NAMESPACE_LABEL: &str = "label of a namespace with 100 pods";

pub(crate) const COMPILED: &str = "compiled, median";
pub(crate) const MEDIAN: &str = "committed, median";
pub(crate) const P99: &str = "committed, p99";
pub(crate) const OPERATIONS: &str = "operations, median";

pub(crate) const DATAGRAM: &str = "established: UDP datagram, one way";
pub(crate) const REQUEST: &str = "established: TCP request and response";
pub(crate) const TRANSFER: &str = "established: 256 kB by TCP";
pub(crate) const CONNECT: &str = "new TCP connection";

pub(crate) const NOTHING: &str = "without policies";
pub(crate) const NO_TRACKING: &str = "without policies and conntrack, ratio";
pub(crate) const TYPICAL: &str = "1,000 policies, 2 of the pod, ratio";
pub(crate) const FIFTY: &str = "1,000 policies, 50 of the pod, ratio";

/// What is aimed at: figures whose names begin and end so.
const AIMS: [(&str, &str, &str); 4] = [
    (LOAD, "load", "<= 1 s"),
    ("", P99, "<= 5 ms"),
    ("established", TYPICAL, "<= 1.05 x"),
    ("established", FIFTY, "<= 1.05 x"),
];

const INTRODUCTION: &str = "# Policies

10,000 pods, 110 of them on this node; 1,000 policies in 100 namespaces, two for each pod: by labels in the same
namespace, in other namespaces, by namespaces alone, by blocks with exceptions; ports by number, by name and in ranges.
Pods have IPv4; the rules of both families are there. Made by `cargo xtask bench policy --write-to benches`, which tells
what each figure is in `benches/policy/`. What counts is how they compare within this run.

A change is *committed* when the enforcer's call returns: the kernel has it, and connections under way are judged anew if
less is allowed than before. Packets go between two pods of the node, by veth and routing; they are sent in turns with
those through a node without policies. There conntrack is at work, as it is wherever a proxy is. Their figures are
medians of rounds: the time without policies, and how many times as long the same took with them in the same round.

iptables misses two aims. A change of rules, and any that allows less (which begins another generation, in a rule), takes
a run of `iptables-restore` for each family, and that is nearly all the time it takes; what only adds to sets does
without. And a packet of a connection that was allowed meets more rules.
";

/// The table, in one of two styles.
fn table(figures: &Figures, style: TableStyle) -> Table {
    let mut columns: Vec<&str> = Vec::new();
    let mut rows: Vec<&str> = Vec::new();
    for (who, what, _) in figures.all() {
        if !columns.contains(&who.as_str()) {
            columns.push(who);
        }
        if !rows.contains(&what.as_str()) {
            rows.push(what);
        }
    }
    let mut table = Table::new();
    table.load_style(style);
    table.set_header(["what"].into_iter().chain(columns.iter().copied()).chain(["aim"]));
    for row in rows {
        let figure = |column: &&str| {
            let found = figures.all().iter().find(|(who, what, _)| who == column && what == row);
            found.map_or_else(String::new, |(_, _, figure): &(_, _, Figure)| figure.to_string())
        };
        let cells = columns.iter().map(figure);
        table.add_row([row.to_owned()].into_iter().chain(cells).chain([aim(row).to_owned()]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn aim(row: &str) -> &'static str {
    let is_meant = |(begin, end, _): &&(&str, &str, &str)| row.starts_with(begin) && row.ends_with(end);
    AIMS.iter().find(is_meant).map_or("", |(_, _, aim)| *aim)
}

/// Prints the figures, and writes `policy.md` into a folder if there is one.
pub(crate) fn hand_out(figures: &Figures, folder: Option<&Path>) -> Result<()> {
    println!("{}", table(figures, UTF8_BORDERS_ONLY));
    let Some(folder) = folder else { return Ok(()) };
    let text = format!("{INTRODUCTION}\n{}\n", table(figures, ASCII_MARKDOWN));
    fs::write(folder.join("policy.md"), text)
        .with_context(|| format!("cannot write into {}", folder.display()))
}
