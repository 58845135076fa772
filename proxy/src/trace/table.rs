//! A [`Report`] for people. Pure.

use std::fmt::Write;

use comfy_table::{Cell, Color};

use super::diagnose::Finding;
use super::model::Step;
use super::report::{ExistingReport, Outcome, Report, Trace, WayReport};
use crate::output::{Look, finish, number, plain, table};

/// How many endpoints are shown where not all are asked for, and how many connections.
const MOST: usize = 12;
/// How far chains are indented at most.
const DEEPEST: usize = 6;

/// The text, with a newline at its end.
pub(super) fn render(report: &Report, look: Look) -> String {
    let traces: Vec<_> = report.traces.iter().map(|trace| of_trace(trace, look)).collect();
    traces.join("\n")
}

fn of_trace(trace: &Trace, look: Look) -> String {
    let mut text = head(trace, look);
    if !trace.findings.is_empty() || !trace.unknown.is_empty() {
        text += "\n";
        text.extend(trace.findings.iter().map(|finding| of_finding(finding, look)));
        text.extend(trace.unknown.iter().map(|what| format!("  ? {}\n", plain(what))));
    }
    if !trace.steps.is_empty() {
        text += "\n";
        text += &of_steps(&trace.steps, look);
    }
    if !trace.ways.is_empty() {
        text += "\n";
        text += &of_ways(trace, look);
    }
    if !trace.policies.is_empty() {
        text += "\n";
        text += &of_policies(trace, look);
    }
    if !trace.existing.is_empty() {
        text += "\n";
        text += &of_existing(trace, look);
    }
    text
}

fn head(trace: &Trace, look: Look) -> String {
    let from = match (&trace.source, &trace.interface) {
        (Some(source), Some(interface)) => format!("{source} (by {})", plain(interface)),
        (Some(source), None) => format!("{source} (this node)"),
        (None, _) => String::new(),
    };
    let to = match (&trace.destination, &trace.protocol) {
        (Some(to), Some(protocol)) => format!("{to}/{protocol}"),
        _ => "no address".to_owned(),
    };
    let service = match (&trace.service, &trace.frontend) {
        (Some(service), Some(frontend)) => format!("{}, {frontend}", plain(service)),
        (Some(service), None) => plain(service),
        (None, _) => "none that is known".to_owned(),
    };
    let rules = match (&trace.rules, &trace.also_there[..]) {
        (Some(rules), []) => format!("{rules} mode"),
        (Some(rules), others) => {
            format!("{rules} mode; there are some of {} mode as well", others.join(" and "))
        }
        (None, _) => "none".to_owned(),
    };
    let mut text = String::new();
    for (name, value) in [
        ("from", from),
        ("to", to),
        ("service", service),
        ("rules", rules),
        ("outcome", outcome(trace, look)),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<9}{value}");
    }
    text
}

fn outcome(trace: &Trace, look: Look) -> String {
    let of = |outcome| trace.ways.iter().filter(|way| way.outcome == outcome).count();
    let (text, colour) = match (of(Outcome::Endpoint), of(Outcome::Rejected), of(Outcome::Dropped)) {
        (0, 0, 0) if trace.ways.is_empty() => ("it goes nowhere".to_owned(), Color::Red),
        (0, 0, 0) => ("not translated: it goes where it is addressed to".to_owned(), Color::Yellow),
        (0, 0, _) => ("dropped without an answer".to_owned(), Color::Red),
        (0, ..) => ("refused with an error".to_owned(), Color::Red),
        (1, ..) => ("1 endpoint".to_owned(), Color::Green),
        (endpoints, ..) => (format!("one of {endpoints} endpoints"), Color::Green),
    };
    painted(&text, colour, look)
}

fn of_finding(finding: &Finding, look: Look) -> String {
    let (sign, colour) = if finding.stops { ("!", Color::Red) } else { ("-", Color::Yellow) };
    format!("  {} {}\n", painted(sign, colour, look), plain(&finding.to_string()))
}

/// Steps, each chain further in than the one that led to it.
fn of_steps(steps: &[Step], look: Look) -> String {
    let mut table = table(&["where", "what"]);
    let (mut depth, mut last) = (0, None);
    for step in steps {
        let is_same = last == Some(&step.place);
        depth += usize::from(!is_same && last.is_some());
        last = Some(&step.place);
        let indent = "  ".repeat(depth.min(DEEPEST));
        let place = if is_same { String::new() } else { format!("{indent}{}", plain(&step.place)) };
        table.add_row([place, plain(&step.what)]);
    }
    finish(table, look.colour) + "\n"
}

fn of_ways(trace: &Trace, look: Look) -> String {
    let shown = if look.wide { trace.ways.len() } else { trace.ways.len().min(MOST) };
    let mut table = table(&["share", "goes to", "seen as", "node", "by", ""]);
    for way in &trace.ways[..shown] {
        table.add_row(of_way(way, &trace.ways));
    }
    let mut text = finish(table, look.colour) + "\n";
    if shown < trace.ways.len() {
        let _ = writeln!(text, "and {} more; all of them with -o wide", trace.ways.len() - shown);
    }
    let examples = if look.wide { shown } else { 1 };
    for way in trace.ways.iter().take(examples).filter(|way| !way.steps.is_empty()) {
        let to = way.endpoint.map_or_else(|| "that end".to_owned(), |to| to.to_string());
        let _ = writeln!(text, "\nthe way to {to}:");
        text += &of_steps(&way.steps, look);
    }
    text
}

/// The place that makes this way: the first that not all ways have in common.
fn turning<'a>(way: &'a WayReport, all: &[WayReport]) -> &'a str {
    let others = [all.first(), all.last()];
    let is_common = |place: &str| {
        others.into_iter().flatten().all(|other| other.steps.iter().any(|step| step.place == place))
    };
    let mut places = way.steps.iter().map(|step| step.place.as_str());
    let first = places.clone().next().unwrap_or_default();
    places.find(|place| !is_common(place)).unwrap_or(first)
}

fn of_way(way: &WayReport, all: &[WayReport]) -> Vec<Cell> {
    let (to, colour) = match (way.outcome, way.endpoint) {
        (Outcome::Endpoint, Some(to)) => (to.to_string(), Color::Green),
        (Outcome::Endpoint | Outcome::Untranslated, _) => ("(as addressed)".to_owned(), Color::Yellow),
        (Outcome::Rejected, _) => ("(refused)".to_owned(), Color::Red),
        (Outcome::Dropped, _) => ("(dropped)".to_owned(), Color::Red),
    };
    let seen_as = match (way.seen_as, way.masquerade) {
        (Some(address), Some(true)) => format!("{address} (masqueraded)"),
        (Some(address), _) => address.to_string(),
        (None, _) => String::new(),
    };
    let node = match (&way.node, way.local) {
        (Some(node), Some(true)) => format!("{} (this)", plain(node)),
        (Some(node), _) => plain(node),
        (None, _) => String::new(),
    };
    vec![
        number(format!("{:.3}", way.share)),
        Cell::new(to).fg(colour),
        Cell::new(seen_as),
        Cell::new(node),
        Cell::new(plain(turning(way, all))),
        Cell::new(plain(way.difference.as_deref().unwrap_or_default())).fg(Color::Red),
    ]
}

fn of_policies(trace: &Trace, look: Look) -> String {
    let shown = if look.wide { trace.policies.len() } else { trace.policies.len().min(MOST) };
    let mut table = table(&["to", "policies", "because"]);
    for judgement in &trace.policies[..shown] {
        let to = match &judgement.to.pod {
            Some(pod) => format!("{}:{} ({})", judgement.to.address, judgement.port, plain(pod)),
            None => format!("{}:{}", judgement.to.address, judgement.port),
        };
        let (word, colour) = match judgement.allowed {
            true => ("allow it", Color::Green),
            false => ("deny it", Color::Red),
        };
        let sides = judgement.sides.iter().filter(|side| judgement.allowed || !side.allowed);
        let because: Vec<_> =
            sides.map(|side| format!("{}: {}", side.direction.as_str(), side.says)).collect();
        table.add_row([Cell::new(to), Cell::new(word).fg(colour), Cell::new(plain(&because.join("; ")))]);
    }
    let mut text = finish(table, look.colour) + "\n";
    if shown < trace.policies.len() {
        let _ = writeln!(text, "and {} more; all of them with -o wide", trace.policies.len() - shown);
    }
    text
}

fn of_existing(trace: &Trace, look: Look) -> String {
    let shown = if look.wide { trace.existing.len() } else { trace.existing.len().min(MOST) };
    let what = match trace.protocol.as_deref() {
        Some("tcp") => "open connections stay with their endpoints",
        _ => "whatever is sent from these ports stays with its endpoint",
    };
    let mut table = table(&["source port", "goes to"]);
    for ExistingReport { source_port, endpoint } in &trace.existing[..shown] {
        table.add_row([number(source_port), Cell::new(endpoint)]);
    }
    let mut text = format!("{what}:\n{}\n", finish(table, look.colour));
    if shown < trace.existing.len() {
        let _ = writeln!(text, "and {} more; all of them with -o wide", trace.existing.len() - shown);
    }
    text
}

fn painted(text: &str, colour: Color, look: Look) -> String {
    let code = match colour {
        Color::Red => 31,
        Color::Green => 32,
        _ => 33,
    };
    if look.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(place: &str, what: &str) -> Step {
        Step { place: place.to_owned(), what: what.to_owned() }
    }

    fn way(last: u8) -> WayReport {
        WayReport {
            share: 0.5,
            outcome: Outcome::Endpoint,
            endpoint: Some(([10, 0, 0, last], 8080).into()),
            masquerade: Some(last == 2),
            seen_as: Some([10, 0, 1, 9].into()),
            node: Some("one".to_owned()),
            local: Some(last == 1),
            steps: vec![step("pick-2", &format!("dnat to 10.0.0.{last}:8080"))],
            difference: None,
        }
    }

    fn trace(ways: Vec<WayReport>) -> Trace {
        Trace {
            source: Some([10, 0, 1, 9].into()),
            interface: Some("veth9".to_owned()),
            destination: Some(([10, 96, 0, 1], 80).into()),
            protocol: Some("tcp".to_owned()),
            service: Some("demo/web:http".to_owned()),
            frontend: Some("ClusterIP".to_owned()),
            rules: Some("nftables".to_owned()),
            steps: vec![step("nat-prerouting", "jump services"), step("services", "goto pick-2")],
            ways,
            ..Trace::default()
        }
    }

    fn text(trace: Trace, wide: bool) -> String {
        render(&Report { traces: vec![trace], ..Report::default() }, Look { wide, colour: false })
    }

    #[test]
    fn common_steps_stand_once() {
        let expected = "\
from     10.0.1.9 (by veth9)
to       10.96.0.1:80/tcp
service  demo/web:http, ClusterIP
rules    nftables mode
outcome  one of 2 endpoints

where           what
nat-prerouting  jump services
  services      goto pick-2

share  goes to        seen as                 node        by
0.500  10.0.0.1:8080  10.0.1.9                one (this)  pick-2
0.500  10.0.0.2:8080  10.0.1.9 (masqueraded)  one         pick-2

the way to 10.0.0.1:8080:
where   what
pick-2  dnat to 10.0.0.1:8080
";
        assert_eq!(text(trace(vec![way(1), way(2)]), false), expected);
    }

    #[test]
    fn many_endpoints_stay_readable() {
        let ways = || (1..=200).map(way).collect();
        let narrow = text(trace(ways()), false);
        assert!(narrow.contains("and 188 more; all of them with -o wide"), "{narrow}");
        assert!(narrow.lines().count() < 40, "{narrow}");
        assert_eq!(text(trace(ways()), true).matches("dnat to").count(), 200);
    }

    #[test]
    fn names_from_outside_tell_a_terminal_nothing() {
        let service = Some("demo/\u{1b}[2J".to_owned());
        let text = text(Trace { service, ..trace(Vec::new()) }, false);
        assert!(!text.contains('\u{1b}') && text.contains("it goes nowhere"), "{text}");
    }

    #[test]
    fn what_is_told_can_be_read() {
        let report = Report { traces: vec![trace(vec![way(1), way(2)])], ..Report::default() };
        let told = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&told).unwrap(), report);
    }
}
