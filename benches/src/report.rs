//! The figures of clusters of several sizes, as a table.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_BORDERS_ONLY};
use comfy_table::{CellAlignment, Table};

use crate::figures::{Figure, Figures};

/// The figures of all sizes.
#[derive(Debug, Default)]
pub struct Report {
    sizes: BTreeSet<u32>,
    /// In the order in which they were measured first.
    rows: Vec<(String, String)>,
    figures: BTreeMap<(String, String, u32), Figure>,
    /// What a figure should be at most, by what it is of.
    aims: &'static [(&'static str, &'static str)],
}

impl Report {
    /// Without figures yet. Where there are aims, by what a figure is of, they have a column of their own.
    #[must_use]
    pub fn with_aims(aims: &'static [(&'static str, &'static str)]) -> Self {
        Self { aims, ..Self::default() }
    }

    /// Adds the figures of one measurement.
    pub fn add(&mut self, size: u32, figures: Figures) {
        self.sizes.insert(size);
        for (who, what, figure) in figures.0 {
            let row = (who.clone(), what.clone());
            if !self.rows.contains(&row) {
                self.rows.push(row);
            }
            self.figures.insert((who, what, size), figure);
        }
    }

    /// For a terminal.
    #[must_use]
    pub fn table(&self) -> Table {
        self.filled(UTF8_BORDERS_ONLY)
    }

    /// For a Markdown file.
    #[must_use]
    pub fn markdown(&self) -> Table {
        self.filled(ASCII_MARKDOWN)
    }

    fn filled(&self, style: comfy_table::TableStyle) -> Table {
        let mut table = Table::new();
        table.load_style(style);
        let sizes = self.sizes.iter().map(|size| format!("{} services", thousands(f64::from(*size))));
        let aims = |aim: &str| Some(aim.to_owned()).filter(|_| !self.aims.is_empty());
        table.set_header(["who", "what"].map(str::to_owned).into_iter().chain(sizes).chain(aims("aim")));
        for (who, what) in &self.rows {
            let figures = self.sizes.iter().map(|size| {
                let figure = self.figures.get(&(who.clone(), what.clone(), *size));
                figure.map_or_else(|| "-".to_owned(), ToString::to_string)
            });
            let aim = self.aims.iter().find(|(of, _)| of == what).map_or("", |(_, aim)| *aim);
            table.add_row([who.clone(), what.clone()].into_iter().chain(figures).chain(aims(aim)));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// The sizes measured.
    #[must_use]
    pub fn sizes(&self) -> &BTreeSet<u32> {
        &self.sizes
    }

    /// Who and what was measured.
    #[must_use]
    pub fn rows(&self) -> &[(String, String)] {
        &self.rows
    }

    /// A figure by number of services, if it is a time.
    #[must_use]
    pub fn times(&self, who: &str, what: &str) -> Vec<(f64, f64)> {
        let time = |size: &u32| match self.figures.get(&(who.to_owned(), what.to_owned(), *size))? {
            Figure::Time(seconds) => Some((f64::from(*size), *seconds)),
            Figure::Size(_) | Figure::Ratio(_) | Figure::Count(_) => None,
        };
        self.sizes.iter().filter_map(time).collect()
    }
}

/// A number with its thousands set apart.
#[must_use]
pub fn thousands(number: f64) -> String {
    let text = format!("{number:.0}");
    let groups: Vec<_> = text.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
