//! What is drawn: shares, latencies, and shares over time.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::failed;
use crate::fanout::report::{Report, Times};
use crate::fanout::table::length;

const TITLE: (&str, i32) = ("sans-serif", 20);
const CAPTION: (&str, i32) = ("sans-serif", 16);
const LABEL: (&str, i32) = ("sans-serif", 13);
const GREY: RGBColor = RGBColor(110, 110, 110);
const LIGHT: RGBColor = RGBColor(225, 225, 225);
const EXPECTED: RGBColor = RGBColor(190, 30, 45);
const BAR: RGBColor = RGBColor(70, 120, 180);
/// Labels of endpoints that fit beside each other.
const LABELS: usize = 7;

type Area<'a, DB> = DrawingArea<DB, Shift>;

/// The colour of an endpoint.
pub(super) fn colour(index: usize, count: usize) -> RGBColor {
    let hue = 0.58 + index as f64 / count.max(1) as f64;
    let lightness = if index.is_multiple_of(2) { 0.48 } else { 0.62 };
    let (red, green, blue) = HSLColor(hue.fract(), 0.5, lightness).rgb();
    RGBColor(red, green, blue)
}

/// Draws all of it.
pub(super) fn draw<DB: DrawingBackend>(root: &Area<'_, DB>, report: &Report) -> anyhow::Result<()> {
    root.fill(&WHITE).map_err(failed)?;
    let (head, body) = root.split_vertically(64);
    let (upper, lower) = body.split_vertically(420);
    let (left, right) = lower.split_horizontally(550);
    title(&head, report)?;
    shares(&upper, report)?;
    latency(&left, report)?;
    over_time(&right, report)?;
    root.present().map_err(failed)
}

fn title<DB: DrawingBackend>(area: &Area<'_, DB>, report: &Report) -> anyhow::Result<()> {
    let service = report.service.as_ref().map(|service| format!("{service} at ")).unwrap_or_default();
    let mode = report.mode.as_ref().map(|mode| format!(", {mode} mode")).unwrap_or_default();
    let first = format!(
        "{service}{} over {}{mode}: {} connections, {:.0} a second, {} failed",
        report.target,
        report.protocol,
        report.connections.begun,
        report.connections.answered_per_second,
        report.connections.failed
    );
    for (text, font, colour, y) in [(&first, TITLE, BLACK, 12), (&report.spread.sentence, LABEL, GREY, 40)] {
        let text = Text::new(visible(text), (20, y), font.into_font().color(&colour));
        area.draw(&text).map_err(failed)?;
    }
    Ok(())
}

/// Servers say what they like.
fn visible(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn shares<DB: DrawingBackend>(area: &Area<'_, DB>, report: &Report) -> anyhow::Result<()> {
    let count = report.endpoints.len();
    let highest = report.endpoints.iter().flat_map(|one| [one.share, one.expected_share.unwrap_or(0.0)]);
    let highest = 100.0 * highest.fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.2 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption("share of connections by endpoint", CAPTION)
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d((0..count.saturating_sub(1)).into_segmented(), 0.0..top)
        .map_err(failed)?;
    let label = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(index) => report.endpoints.get(*index).map(|one| visible(&one.label())),
        _ => None,
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(LIGHT)
        .light_line_style(TRANSPARENT)
        .label_style(LABEL)
        .x_labels(count.clamp(1, LABELS))
        .x_label_formatter(&|place| label(place).unwrap_or_default())
        .y_label_formatter(&|share| format!("{share:.1} %"))
        .x_desc("endpoint")
        .y_desc("share")
        .draw()
        .map_err(failed)?;
    let bars = report.endpoints.iter().enumerate().map(|(index, endpoint)| {
        let corners = [(SegmentValue::Exact(index), 0.0), (edge(index + 1, count), 100.0 * endpoint.share)];
        let mut bar = Rectangle::new(corners, colour(index, count).filled());
        let gap = if count <= 40 { 6 } else { 0 };
        bar.set_margin(0, 0, gap, gap);
        bar
    });
    chart.draw_series(bars).map_err(failed)?;
    expectation(&mut chart, report, top)
}

/// A line at the share that each ought to have, and about it what chance alone makes of it.
fn expectation<DB: DrawingBackend, X: Ranged<ValueType = SegmentValue<usize>>>(
    chart: &mut ChartContext<'_, DB, Cartesian2d<X, RangedCoordf64>>,
    report: &Report,
    top: f64,
) -> anyhow::Result<()> {
    let Some(expected) = report.endpoints.iter().find_map(|one| one.expected_share) else { return Ok(()) };
    let (from, to) = (SegmentValue::Exact(0), SegmentValue::Last);
    // Chance alone keeps 19 of 20 endpoints within two standard deviations.
    let answered = report.connections.answered.max(1) as f64;
    let deviation = (expected * (1.0 - expected) / answered).sqrt();
    let bounds =
        [expected - 2.0 * deviation, expected + 2.0 * deviation].map(|bound| (100.0 * bound).clamp(0.0, top));
    let band =
        Rectangle::new([(from.clone(), bounds[0]), (to.clone(), bounds[1])], EXPECTED.mix(0.12).filled());
    chart.draw_series([band]).map_err(failed)?;
    let expected = 100.0 * expected;
    let line = LineSeries::new([(from.clone(), expected), (to, expected)], EXPECTED.stroke_width(2));
    chart.draw_series(line).map_err(failed)?;
    let style = LABEL.into_font().color(&EXPECTED).pos(Pos::new(HPos::Left, VPos::Bottom));
    let text = format!("  expected {expected:.1} %, and what chance alone makes of it");
    chart.draw_series([Text::new(text, (from, bounds[1]), style)]).map_err(failed)?;
    Ok(())
}

/// Where a bar begins, or the last one ends.
fn edge(index: usize, count: usize) -> SegmentValue<usize> {
    if index < count { SegmentValue::Exact(index) } else { SegmentValue::Last }
}

fn latency<DB: DrawingBackend>(area: &Area<'_, DB>, report: &Report) -> anyhow::Result<()> {
    let times = &report.connect_time;
    let (Some(first), Some(last)) = (times.distribution.first(), times.distribution.last()) else {
        return nothing(area, "time to connect: nothing connected");
    };
    let percent = |count: u64| 100.0 * count as f64 / times.count.max(1) as f64;
    let top = times.distribution.iter().map(|bar| percent(bar.count)).fold(0.0, f64::max) * 1.2;
    let (low, high) = (first.from / 1.3, last.to * 1.3);
    let mut chart = ChartBuilder::on(area)
        .caption("time to connect", CAPTION)
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((low..high).log_scale(), 0.0..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(LIGHT)
        .light_line_style(TRANSPARENT)
        .label_style(LABEL)
        .x_labels(8)
        .x_label_formatter(&|micros| length(*micros))
        .y_label_formatter(&|share| format!("{share:.0} %"))
        .x_desc("time (logarithmic)")
        .y_desc("connections")
        .draw()
        .map_err(failed)?;
    let bars = times.distribution.iter().map(|bar| {
        let mut bar = Rectangle::new([(bar.from, 0.0), (bar.to, percent(bar.count))], BAR.filled());
        bar.set_margin(0, 0, 1, 1);
        bar
    });
    chart.draw_series(bars).map_err(failed)?;
    mark(&mut chart, times, (low * high).sqrt(), top)
}

/// Lines at some quantiles.
fn mark<DB: DrawingBackend, X: Ranged<ValueType = f64>>(
    chart: &mut ChartContext<'_, DB, Cartesian2d<X, RangedCoordf64>>,
    times: &Times,
    middle: f64,
    top: f64,
) -> anyhow::Result<()> {
    for (name, at, height) in quantiles(times) {
        let line = LineSeries::new([(at, 0.0), (at, top)], EXPECTED.stroke_width(1));
        chart.draw_series(line).map_err(failed)?;
        // On the side where there is more room.
        let side = if at > middle { HPos::Right } else { HPos::Left };
        let style = LABEL.into_font().color(&EXPECTED).pos(Pos::new(side, VPos::Top));
        let text = Text::new(format!(" {name} {} ", length(at)), (at, top * height), style);
        chart.draw_series([text]).map_err(failed)?;
    }
    Ok(())
}

fn quantiles(times: &Times) -> [(&'static str, f64, f64); 3] {
    [("p50", times.p50, 1.0), ("p99", times.p99, 0.94), ("p99.9", times.p999, 0.88)]
}

fn over_time<DB: DrawingBackend>(area: &Area<'_, DB>, report: &Report) -> anyhow::Result<()> {
    let slices = &report.over_time.answered;
    if slices.is_empty() {
        return nothing(area, "share over time: nothing was answered");
    }
    let (width, count) = (report.over_time.slice_seconds, report.endpoints.len());
    let rates: Vec<f64> = slices.iter().map(|slice| slice.iter().sum::<u64>() as f64 / width).collect();
    let fastest = rates.iter().copied().fold(1.0, f64::max) * 1.1;
    let end = width * slices.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption("share over time, and connections a second", CAPTION)
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(58)
        .right_y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..100.0)
        .map_err(failed)?
        .set_secondary_coord(0.0..end, 0.0..fastest);
    chart
        .configure_mesh()
        .disable_mesh()
        .label_style(LABEL)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|seconds| format!("{seconds:.2} s"))
        .y_label_formatter(&|share| format!("{share:.0} %"))
        .x_desc("time")
        .draw()
        .map_err(failed)?;
    chart
        .configure_secondary_axes()
        .label_style(LABEL)
        .y_labels(6)
        .y_label_formatter(&|rate| format!("{rate:.0}/s"))
        .draw()
        .map_err(failed)?;
    for (index, slice) in slices.iter().enumerate() {
        let from = index as f64 * width;
        chart.draw_series(stack(slice, from, from + width, count)).map_err(failed)?;
    }
    let rates = rates.iter().enumerate().map(|(index, rate)| ((index as f64 + 0.5) * width, *rate));
    chart.draw_secondary_series(LineSeries::new(rates, BLACK.stroke_width(2))).map_err(failed)?;
    Ok(())
}

/// The shares of a slice of time on each other.
fn stack(slice: &[u64], from: f64, to: f64, count: usize) -> Vec<Rectangle<(f64, f64)>> {
    let (all, mut below) = (slice.iter().sum::<u64>().max(1) as f64, 0.0);
    let mut parts = Vec::new();
    for (index, answered) in slice.iter().enumerate().filter(|(_, answered)| **answered > 0) {
        let above = below + 100.0 * *answered as f64 / all;
        parts.push(Rectangle::new([(from, below), (to, above)], colour(index, count).filled()));
        below = above;
    }
    parts
}

fn nothing<DB: DrawingBackend>(area: &Area<'_, DB>, text: &str) -> anyhow::Result<()> {
    let text = Text::new(text.to_owned(), (64, 20), CAPTION.into_font().color(&GREY));
    area.draw(&text).map_err(failed)
}
