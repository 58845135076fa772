//! The report's pictures.

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use anyhow::{Result, anyhow};
use benches::report::thousands;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::Row;

const SIZE: (u32, u32) = (1100, 420);
const FONT: (&str, i32) = ("sans-serif", 13);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A chart: what is against what.
struct Chart {
    title: &'static str,
    across: &'static str,
    unit: &'static str,
    x: fn(&Row) -> f64,
    y: fn(&Row) -> f64,
}

/// Share errors, and connections a second.
pub(crate) fn by_endpoints(rows: &[&Row], path: &Path) -> Result<()> {
    let x = |row: &Row| f64::from(row.endpoints);
    let across = "endpoints";
    let error = |row: &Row| 100.0 * row.error;
    draw(
        rows,
        path,
        [
            Chart { title: "share error", across, unit: " %", x, y: error },
            Chart { title: "connections a second", across, unit: "", x, y: |row| row.rate },
        ],
    )
}

/// Connections a second, and the time to connect.
pub(crate) fn by_services(rows: &[&Row], path: &Path) -> Result<()> {
    let x = |row: &Row| f64::from(row.services);
    let across = "services";
    draw(
        rows,
        path,
        [
            Chart { title: "connections a second", across, unit: "", x, y: |row| row.rate },
            Chart { title: "time to connect, p99", across, unit: " us", x, y: |row| row.p99 },
        ],
    )
}

fn draw(rows: &[&Row], path: &Path, charts: [Chart; 2]) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for (area, chart) in root.split_evenly((1, 2)).iter().zip(charts) {
        chart.draw(area, rows)?;
    }
    root.present().map_err(failed)
}

fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

impl Chart {
    fn draw(&self, area: &Area<'_>, rows: &[&Row]) -> Result<()> {
        let (from, to) = range(rows.iter().map(|row| (self.x)(row)));
        // Above the lines there is room for the key.
        let highest = rows.iter().map(|row| (self.y)(row)).fold(1.0, f64::max) * 1.4;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(Range { start: from * 0.8, end: to * 1.25 }.log_scale(), 0.0..highest)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .label_style(FONT)
            .x_desc(self.across)
            .x_label_formatter(&|x| thousands(*x))
            .y_label_formatter(&|y| format!("{}{}", thousands(*y), self.unit))
            .draw()
            .map_err(failed)?;
        let subjects = subjects(rows);
        for (index, subject) in subjects.iter().enumerate() {
            let colour = HSLColor(index as f64 / subjects.len() as f64, 0.75, 0.4).to_rgba();
            let of_it = rows.iter().filter(|row| row.subject == *subject);
            let mut points: Vec<_> = of_it.map(|row| ((self.x)(row), (self.y)(row))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let line = LineSeries::new(points, colour.stroke_width(2)).point_size(3);
            let drawn = chart.draw_series(line).map_err(failed)?;
            let key = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
            drawn.label(*subject).legend(key);
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(FONT)
            .background_style(WHITE.mix(0.8))
            .border_style(RGBColor(200, 200, 200))
            .draw()
            .map_err(failed)
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::MAX, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    (low.min(high), high)
}

fn subjects<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut subjects = Vec::new();
    for row in rows {
        if !subjects.contains(&row.subject.as_str()) {
            subjects.push(row.subject.as_str());
        }
    }
    subjects
}
