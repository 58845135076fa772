//! The report as files: a table, and a plot of each time against the size of the cluster.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use benches::figures::Figure;
use benches::report::{Report, thousands};
use plotters::prelude::*;

/// Writes `scale.md` and `scale.svg` into a folder.
pub(crate) fn write(report: &Report, folder: &Path) -> Result<()> {
    let text = format!(
        "# Clusters of several sizes\n\n\
         Ten endpoints for each service. Made by `cargo xtask bench scale --write-to benches`, which tells what \
         each figure is in `benches/scale/`. What counts is how they compare within one run.\n\n\
         ![the times against the size](scale.svg)\n\n{}\n",
        report.markdown()
    );
    let context = || format!("cannot write into {}", folder.display());
    fs::write(folder.join("scale.md"), text).with_context(context)?;
    plot(report, &folder.join("scale.svg")).with_context(context)
}

/// Times against the number of services, both logarithmic.
fn plot(report: &Report, path: &Path) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw: {error}");
    let (first, last) = (report.sizes().first().copied(), report.sizes().last().copied());
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
        .x_label_formatter(&|size| thousands(*size))
        .y_label_formatter(&|seconds| Figure::Time(*seconds).to_string())
        .draw()
        .map_err(|error| failed(&error))?;
    let mut labels = Vec::new();
    let plotted: Vec<_> = report.rows().iter().filter(|(_, what)| is_plotted(what)).collect();
    for (index, (who, what)) in plotted.iter().enumerate() {
        let points = report.times(who, what);
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
