//! A [`Report`] for people. Pure.

use std::fmt::Write;

use comfy_table::{Cell, Color, Table};

use super::report::{Connections, Endpoint, Report, Requests, Times};
use super::spread::Verdict;
use super::teller::Told;
use crate::output::{Look, finish, number, plain, table};

/// Columns of shares over time.
const COLUMNS: usize = 24;
/// From none to all.
const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Beyond this fraction a difference is shown in colour, if chance does not explain it.
const NOTABLE: f64 = 0.1;

/// The text, with a newline at its end.
pub(super) fn render(report: &Report, look: Look) -> String {
    let mut text = head(report);
    if !report.endpoints.is_empty() {
        text += &section(endpoints(report, look), look);
    }
    if !report.clients.is_empty() {
        text += &section(clients(report), look);
    }
    if !report.failures.is_empty() {
        text += &section(failures(report), look);
    }
    for warning in &report.warnings {
        let _ = write!(text, "\nwarning: {}\n", plain(warning));
    }
    text
}

fn head(report: &Report) -> String {
    let service = report.service.as_ref().map(|service| format!("{service}, ")).unwrap_or_default();
    let mode = report.mode.as_ref().map(|mode| format!(", {mode} mode")).unwrap_or_default();
    let told = match report.told_by {
        Told::Conntrack => "told by the kernel's connection tracking",
        Told::Responder => "told by the servers",
    };
    let mut lines = vec![
        ("target", format!("{service}{} over {}{mode}", report.target, report.protocol)),
        ("connections", connections(&report.connections, report.seconds)),
    ];
    lines.extend(report.requests.as_ref().map(|requests| ("requests", described(requests))));
    lines.push(("endpoints", format!("{}, {told}", report.endpoints.len())));
    lines.push(("spread", spread(report)));
    let extremes = [&report.most_over, &report.most_under];
    let extremes: Vec<_> = extremes.iter().filter_map(|extreme| extreme.as_ref()).collect();
    if !extremes.is_empty() {
        let told = |extreme: &&super::report::Extreme| {
            format!("{} {:+.1} %", extreme.endpoint, 100.0 * extreme.difference)
        };
        lines.push(("most off", extremes.iter().map(told).collect::<Vec<_>>().join(", ")));
    }
    lines.push(("connect time", times(&report.connect_time)));
    lines.extend(report.answer_time.as_ref().map(|taken| ("answer time", times(taken))));
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12}  {}", plain(&value));
    }
    text
}

fn connections(all: &Connections, seconds: f64) -> String {
    let Connections { begun, answered, failed, answered_per_second } = all;
    format!("{begun}: {answered} answered, {failed} failed, in {seconds:.2} s ({answered_per_second:.0}/s)")
}

fn described(requests: &Requests) -> String {
    let Requests { sent, answered, lost, answered_per_second } = requests;
    format!("{sent}: {answered} answered, {lost} lost ({answered_per_second:.0}/s)")
}

fn spread(report: &Report) -> String {
    let spread = &report.spread;
    match (spread.chi_square, spread.p_value) {
        (Some(statistic), Some(p)) => format!(
            "{} (chi-square {statistic:.1} at {} degrees of freedom, p = {})",
            spread.sentence,
            spread.degrees_of_freedom,
            probability(p)
        ),
        _ => spread.sentence.clone(),
    }
}

fn probability(p: f64) -> String {
    if p < 0.0001 { format!("{p:.0e}") } else { format!("{p:.4}") }
}

fn times(times: &Times) -> String {
    if times.count == 0 {
        return "none".to_owned();
    }
    let Times { p50, p90, p99, p999, longest, .. } = *times;
    let [p50, p90, p99, p999, longest] = [p50, p90, p99, p999, longest].map(length);
    format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, longest {longest}")
}

/// Microseconds, as people read them.
pub(super) fn length(micros: f64) -> String {
    match micros {
        short if short < 10.0 => format!("{short:.1} us"),
        short if short < 1e3 => format!("{short:.0} us"),
        middling if middling < 1e4 => format!("{:.1} ms", middling / 1e3),
        middling if middling < 1e6 => format!("{:.0} ms", middling / 1e3),
        long => format!("{:.1} s", long / 1e6),
    }
}

fn endpoints(report: &Report, look: Look) -> Table {
    let any = |has: fn(&Endpoint) -> bool| report.endpoints.iter().any(has);
    let (named, placed) = (any(|one| one.name.is_some()), any(|one| one.node.is_some()));
    let (addressed, asked) = (any(|one| one.address.is_some()), any(|one| one.requests.is_some()));
    let over_time = look.wide || report.spread.verdict == Verdict::Changed;
    let mut columns = Vec::new();
    columns.extend(addressed.then_some("endpoint"));
    columns.extend(named.then_some("name"));
    columns.extend(placed.then_some("node"));
    columns.extend(["connections", "share", "expected", "off"]);
    columns.extend(asked.then_some(["requests", "share"]).into_iter().flatten());
    columns.push("failures");
    columns.extend(over_time.then_some("share over time"));
    let mut table = table(&columns);
    for (index, endpoint) in report.endpoints.iter().enumerate() {
        let text = |text: Option<String>| Cell::new(plain(&text.unwrap_or_default()));
        let mut cells = Vec::new();
        cells.extend(addressed.then(|| text(endpoint.address.map(|address| address.to_string()))));
        cells.extend(named.then(|| text(endpoint.name.clone())));
        cells.extend(placed.then(|| text(endpoint.node.clone())));
        cells.extend(shares(endpoint, report.spread.verdict));
        if asked {
            cells.push(number(endpoint.requests.unwrap_or_default()));
            cells.push(number(percent(endpoint.request_share.unwrap_or_default())));
        }
        let failures = number(endpoint.failures);
        cells.push(if endpoint.failures > 0 { failures.fg(Color::Red) } else { failures });
        cells.extend(over_time.then(|| Cell::new(spark(report, index))));
        table.add_row(cells);
    }
    table
}

fn shares(endpoint: &Endpoint, verdict: Verdict) -> Vec<Cell> {
    let off = endpoint.difference();
    let cell = number(off.map(|off| format!("{:+.1} %", 100.0 * off)).unwrap_or_default());
    let notable = verdict == Verdict::Uneven && off.is_some_and(|off| off.abs() > NOTABLE);
    vec![
        number(endpoint.connections),
        number(percent(endpoint.share)),
        number(endpoint.expected_share.map(percent).unwrap_or_default()),
        if notable { cell.fg(Color::Yellow) } else { cell },
    ]
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// An endpoint's share in each part of the time.
fn spark(report: &Report, endpoint: usize) -> String {
    let slices = &report.over_time.answered;
    let part = slices.len().div_ceil(COLUMNS).max(1);
    let height = |slices: &[Vec<u64>]| {
        let all: u64 = slices.iter().flatten().sum();
        let own: u64 = slices.iter().filter_map(|slice| slice.get(endpoint)).sum();
        let most = HEIGHTS.len() as u64 - 1;
        let height = (own * most).checked_div(all).unwrap_or_default().max(u64::from(own > 0));
        HEIGHTS.get(usize::try_from(height).unwrap_or_default()).copied().unwrap_or(' ')
    };
    slices.chunks(part).map(height).collect()
}

fn clients(report: &Report) -> Table {
    let mut table = table(&["client", "connections", "endpoints"]);
    for client in &report.clients {
        table.add_row([Cell::new(client.address), number(client.connections), number(client.endpoints)]);
    }
    table
}

fn failures(report: &Report) -> Table {
    let mut table = table(&["failed", "count", "what to do"]);
    for failure in &report.failures {
        let cause = Cell::new(failure.cause.words()).fg(Color::Red);
        table.add_row([cause, number(failure.count), Cell::new(&failure.advice)]);
    }
    table
}

fn section(table: Table, look: Look) -> String {
    format!("\n{}\n", finish(table, look.colour))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::report::tests::report_of;

    const PLAIN: Look = Look { wide: false, colour: false };

    #[test]
    fn a_row_for_each_endpoint() {
        let text = render(&report_of(&[30, 40, 50]), PLAIN);
        let expected = "
endpoint         connections  share   expected  off      failures
10.180.0.1:8080           30  25.0 %    33.3 %  -25.0 %         0
10.180.0.2:8080           40  33.3 %    33.3 %   +0.0 %         0
10.180.0.3:8080           50  41.7 %    33.3 %  +25.0 %         0
";
        assert!(text.ends_with(expected), "{text}");
        for line in [
            "target        default/web:http, 10.96.0.10:80 over TCP, nftables mode",
            "connections   120: 120 answered, 0 failed, in 1.00 s (120/s)",
            "most off      10.180.0.3:8080 +25.0 %, 10.180.0.1:8080 -25.0 %",
        ] {
            assert!(text.lines().any(|other| other == line), "{text}");
        }
        assert!(text.contains("chi-square 5.0 at 2 degrees of freedom, p = 0.0821"), "{text}");
    }

    #[test]
    fn colour_is_only_for_terminals() {
        let escapes = |look| render(&report_of(&[1, 2]), look).contains('\u{1b}');
        assert!(!escapes(PLAIN) && escapes(Look { colour: true, ..PLAIN }));
    }

    #[test]
    fn names_tell_a_terminal_nothing() {
        let mut report = report_of(&[1, 2]);
        report.endpoints[0].name = Some("no\u{1b}[2Jpe".to_owned());
        assert!(!render(&report, PLAIN).contains('\u{1b}'));
    }

    #[test]
    fn times_are_read_at_a_glance() {
        let texts = [0.5, 42.4, 1_500.0, 42_000.0, 2_000_000.0].map(length);
        assert_eq!(texts, ["0.5 us", "42 us", "1.5 ms", "42 ms", "2.0 s"]);
    }
}
