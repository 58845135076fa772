//! What the tools print: for people tables, aligned, without lines, in colour on a terminal; for programs JSON or YAML.

use std::io::{self, IsTerminal};

use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};

use serde::Serialize;

use crate::cli::Output;

/// Prints a value in the form that was asked for.
///
/// # Errors
/// When it cannot be written to stdout.
pub(crate) fn show<T: Serialize>(
    value: &T,
    output: Output,
    render: impl FnOnce(&T, Look) -> String,
) -> anyhow::Result<()> {
    crate::manual::print(&match output {
        Output::Table | Output::Wide => render(value, Look::of(output)),
        Output::Json => serde_json::to_string_pretty(value)? + "\n",
        Output::Yaml => serde_saphyr::to_string(value)?,
    })
}

/// How it should look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// With more rows or columns.
    pub(crate) wide: bool,
    /// In colour.
    pub(crate) colour: bool,
}

impl Look {
    /// As it was asked for; in colour on a terminal whose user does not mind.
    pub(crate) fn of(output: Output) -> Self {
        Self { wide: output == Output::Wide, colour: colour_is_wanted() }
    }
}

/// Whether standard output is a terminal whose user does not mind colours.
pub(crate) fn colour_is_wanted() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A table with these columns.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| Cell::new(column).add_attribute(Attribute::Bold)));
    table
}

/// Its text, without a newline at its end.
pub(crate) fn finish(mut table: Table, colour: bool) -> String {
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A cell for a number.
pub(crate) fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// Names come from outside: a terminal must not be told what to do by them.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
