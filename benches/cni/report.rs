//! What is measured, what it should be at most, and the page of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use benches::figures::{Figure, Figures};
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_BORDERS_ONLY};
use comfy_table::{CellAlignment, Table, TableStyle};

pub(crate) const ROUTED: &str = "routed";
pub(crate) const BRIDGE: &str = "bridge";
pub(crate) const REFERENCE: &str = "reference bridge + host-local";
pub(crate) const BARE: &str = "bare veth";
pub(crate) const HOST_GW: &str = "host-gw";
pub(crate) const VXLAN: &str = "vxlan";

pub(crate) const ADD: &str = "ADD, median";
pub(crate) const ADD_P99: &str = "ADD, p99";
pub(crate) const DEL: &str = "DEL, median";
pub(crate) const DEL_P99: &str = "DEL, p99";
pub(crate) const PAIR: &str = "ADD and DEL, median";
pub(crate) const RATE: &str = "ADD and DEL, a second";
pub(crate) const RATIO: &str = "ADD and DEL, so many times as fast as the reference";
pub(crate) const ROUND_TRIP: &str = "UDP datagram there and back, median";
pub(crate) const ROUND_TRIP_RATIO: &str = "the same, beside bare veth";
pub(crate) const MEGABYTE: &str = "1 MiB by TCP";
pub(crate) const MEGABYTE_RATIO: &str = "TCP, beside bare veth";
pub(crate) const ALL_NODES: &str = "5,000 Nodes, from JSON to routes";
pub(crate) const ONE_NODE: &str = "one Node of 5,000, median";
pub(crate) const ONE_NODE_WORST: &str = "one Node of 5,000, the slowest";

/// What is aimed at.
const AIMS: [(&str, &str); 3] = [(RATIO, ">= 3 x"), (ALL_NODES, "<= 1 s"), (ONE_NODE_WORST, "<= 5 ms")];

const INTRODUCTION: &str = "# Pod network

Made by `cargo xtask bench cni --write-to benches`, which tells what each figure is in `benches/cni/`. What counts is how
they compare within this run.

ADD and DEL are timed as a container runtime sees them: starting the plugin, and whatever that starts, until it has ended.
One after the other, by each contender in turn, for one IPv4 address. Debian's plugins start another one for the address.

Packets go between two pods: of the same node, or of two nodes whose underlay is a bridge. All of it is one machine, so a
tunnel costs its work and no wire is saved. A Node is timed from the JSON of the object until the kernel has its route, and
with VXLAN its neighbour and forwarding entries.
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
            found.map_or_else(String::new, |(_, _, figure): &(_, _, Figure)| match figure {
                Figure::Ratio(rate) if row == RATE => format!("{rate:.0}"),
                figure => figure.to_string(),
            })
        };
        let cells = columns.iter().map(figure);
        let aim = AIMS.iter().find(|(of, _)| *of == row).map_or("", |(_, aim)| *aim);
        table.add_row([row.to_owned()].into_iter().chain(cells).chain([aim.to_owned()]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Prints the figures, and writes `cni.md` into a folder if there is one.
pub(crate) fn hand_out(figures: &Figures, folder: Option<&Path>) -> Result<()> {
    println!("{}", table(figures, UTF8_BORDERS_ONLY));
    let Some(folder) = folder else { return Ok(()) };
    let text = format!("{INTRODUCTION}\n{}\n", table(figures, ASCII_MARKDOWN));
    fs::write(folder.join("cni.md"), text).with_context(|| format!("cannot write into {}", folder.display()))
}
