//! Figures, and how they are shown: a table, and a plot of each against the size of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_BORDERS_ONLY};
use comfy_table::{CellAlignment, Table};
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Figure {
    /// In seconds.
    Time(f64),
    /// In bytes.
    Size(f64),
}

/// What one run measured: who, what, and how much.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures(Vec<(String, String, Figure)>);

impl Figures {
    pub(crate) fn add(&mut self, who: &str, what: &str, time: Duration) {
        self.0.push((who.to_owned(), what.to_owned(), Figure::Time(time.as_secs_f64())));
    }

    pub(crate) fn add_bytes(&mut self, who: &str, what: &str, bytes: f64) {
        self.0.push((who.to_owned(), what.to_owned(), Figure::Size(bytes)));
    }
}

/// Half of them took no longer.
pub(crate) fn median(times: &mut [Duration]) -> Duration {
    quantile(times, 50)
}

/// All but one in a hundred took no longer.
pub(crate) fn p99(times: &mut [Duration]) -> Duration {
    quantile(times, 99)
}

fn quantile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

/// The figures of all sizes.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sizes: BTreeSet<u32>,
    /// In the order in which they were measured first.
    rows: Vec<(String, String)>,
    figures: BTreeMap<(String, String, u32), Figure>,
}

impl Report {
    pub(crate) fn add(&mut self, size: u32, figures: Figures) {
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
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        self.fill(&mut table);
        table
    }

    fn fill(&self, table: &mut Table) {
        let sizes = self.sizes.iter().map(|size| format!("{} services", thousands(*size)));
        table.set_header(["who", "what"].map(str::to_owned).into_iter().chain(sizes));
        for (who, what) in &self.rows {
            let figures = self.sizes.iter().map(|size| {
                let figure = self.figures.get(&(who.clone(), what.clone(), *size));
                figure.map_or_else(|| "-".to_owned(), ToString::to_string)
            });
            table.add_row([who.clone(), what.clone()].into_iter().chain(figures));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    /// Writes `scale.md` and `scale.svg` into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        self.fill(&mut table);
        let text = format!(
            "# Clusters of several sizes\n\n\
             Ten endpoints for each service. Made by `cargo xtask bench scale --write-to benches`, which tells what \
             each figure is in `benches/scale/`. What counts is how they compare within one run.\n\n\
             ![the times against the size](scale.svg)\n\n{table}\n"
        );
        let context = || format!("cannot write into {}", folder.display());
        fs::write(folder.join("scale.md"), text).with_context(context)?;
        self.plot(&folder.join("scale.svg")).with_context(context)
    }

    /// A figure by number of services, if it is a time.
    fn times(&self, who: &str, what: &str) -> Vec<(f64, f64)> {
        let time = |size: &u32| match self.figures.get(&(who.to_owned(), what.to_owned(), *size))? {
            Figure::Time(seconds) => Some((f64::from(*size), *seconds)),
            Figure::Size(_) => None,
        };
        self.sizes.iter().filter_map(time).collect()
    }

    /// Times against the number of services, both logarithmic.
    fn plot(&self, path: &Path) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw: {error}");
        let (first, last) = (self.sizes.first().copied(), self.sizes.last().copied());
        let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
        let root = SVGBackend::new(path, (1100, 760)).into_drawing_area();
        root.fill(&WHITE).map_err(|error| failed(&error))?;
        let mut chart = ChartBuilder::on(&root)
            .caption("Ten endpoints for each service", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(
                (f64::from(first) * 0.9..f64::from(last) * 8.0).log_scale(),
                (1e-6..1e3).log_scale(),
            )
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("services")
            .y_desc("time")
            .x_label_formatter(&|size| thousands_of(*size))
            .y_label_formatter(&|seconds| Figure::Time(*seconds).to_string())
            .draw()
            .map_err(|error| failed(&error))?;
        let mut labels = Vec::new();
        let plotted: Vec<_> = self.rows.iter().filter(|(_, what)| is_plotted(what)).collect();
        for (index, (who, what)) in plotted.iter().enumerate() {
            let points = self.times(who, what);
            let Some(end) = points.last().copied() else { continue };
            let colour = HSLColor(index as f64 / plotted.len() as f64, 0.8, 0.35).to_rgba();
            let line = LineSeries::new(points, colour.stroke_width(2)).point_size(3);
            chart.draw_series(line).map_err(|error| failed(&error))?;
            labels.push((format!("{who}: {what}"), (end.0 * 1.04, end.1), colour));
        }
        for (text, at, colour) in spread(labels) {
            let label = Text::new(text, at, ("sans-serif", 12).into_font().color(&colour));
            chart.draw_series([label]).map_err(|error| failed(&error))?;
        }
        root.present().map_err(|error| failed(&error))
    }
}

/// What is worth a line: not the extremes, and of changes that cost alike, one.
fn is_plotted(what: &str) -> bool {
    !["p99", "one endpoint", "delete"].iter().any(|word| what.contains(word))
}

type Label = (String, (f64, f64), RGBAColor);

/// Moves labels up until none lies on another.
fn spread(mut labels: Vec<Label>) -> Vec<Label> {
    /// Height of a line of text, as a factor on the logarithmic scale.
    const LINE: f64 = 1.6;
    labels.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let mut lowest = 0.0;
    for (_, (_, height), _) in &mut labels {
        *height = height.max(lowest);
        lowest = *height * LINE;
    }
    labels
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Time(seconds) if seconds < 1e-3 => write!(f, "{} us", digits(seconds * 1e6)),
            Self::Time(seconds) if seconds < 1.0 => write!(f, "{} ms", digits(seconds * 1e3)),
            Self::Time(seconds) => write!(f, "{} s", digits(seconds)),
            Self::Size(bytes) => write!(f, "{} MB", digits(bytes / 1e6)),
        }
    }
}

/// Three significant digits, more or less.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn thousands(number: u32) -> String {
    thousands_of(f64::from(number))
}

fn thousands_of(number: f64) -> String {
    let text = format!("{number:.0}");
    let groups: Vec<_> = text.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
