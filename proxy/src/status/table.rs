//! A [`Status`] for people. Pure.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use jiff::{SignedDuration, Timestamp};

use super::{Endpoint, Status, Target};

/// How many endpoints of a target are named where there is a row for each target.
const NAMED: usize = 3;

/// How it should look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// With a row for each endpoint.
    pub(super) wide: bool,
    /// In colour.
    pub(super) colour: bool,
}

/// The text, with a newline at its end.
pub(super) fn render(status: &Status, look: Look) -> String {
    let mut text = head(status);
    if !status.targets.is_empty() {
        let table = if look.wide { wide(&status.targets) } else { narrow(&status.targets) };
        text += "\n";
        text += &finish(table, look.colour);
        text += "\n";
    }
    text
}

fn head(status: &Status) -> String {
    let ago = |then: Timestamp| length(status.current_time.duration_since(then));
    let synced = status.last_synced.map_or("never".to_owned(), |synced| format!("{} ago", ago(synced)));
    let left_out = match status.left_out {
        0 => String::new(),
        count => format!(", {count} of them refused by the kernel"),
    };
    let error = status.last_error.as_deref().unwrap_or("none");
    let mut text = String::new();
    for (name, value) in [
        ("mode", status.mode.clone()),
        ("node", status.node.clone()),
        ("process", format!("{}, pointsman {}", status.process, status.version)),
        ("started", format!("{} ago", ago(status.started))),
        ("last sync", synced),
        ("last error", error.to_owned()),
        ("service ports", format!("{}{left_out}", status.service_ports)),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<13}  {}", plain(&value));
    }
    text
}

/// A length of time in whole seconds.
fn length(duration: SignedDuration) -> String {
    let whole = SignedDuration::from_secs(duration.as_secs().max(0));
    format!("{whole:#}")
}

fn narrow(targets: &[Target]) -> Table {
    let mut table = table(&["service port", "protocol", "listens at", "active", "endpoints"]);
    for target in targets {
        let mut cells = of_target(target);
        cells.extend([number(target.active), Cell::new(named(&target.endpoints))]);
        table.add_row(cells);
    }
    table
}

fn wide(targets: &[Target]) -> Table {
    let mut table = table(&[
        "service port",
        "protocol",
        "listens at",
        "policy",
        "endpoint",
        "active",
        "total",
        "failures",
        "set aside",
    ]);
    for target in targets {
        let mut cells = of_target(target);
        cells.push(Cell::new(plain(&target.traffic_policy)));
        let width = cells.len();
        if target.endpoints.is_empty() {
            table.add_row(cells.clone());
        }
        for endpoint in &target.endpoints {
            let mut row = std::mem::replace(&mut cells, vec![Cell::new(""); width]);
            row.extend(of_endpoint(endpoint));
            table.add_row(row);
        }
    }
    table
}

fn of_target(target: &Target) -> Vec<Cell> {
    vec![
        Cell::new(plain(&target.service_port)),
        Cell::new(plain(&target.protocol)),
        Cell::new(target.listens).fg(Color::Green),
    ]
}

fn of_endpoint(endpoint: &Endpoint) -> Vec<Cell> {
    let failures = number(endpoint.failures);
    let failures = if endpoint.failures > 0 { failures.fg(Color::Yellow) } else { failures };
    let set_aside = endpoint
        .set_aside_seconds
        .map_or_else(|| Cell::new(""), |seconds| Cell::new(format!("for {seconds} s")).fg(Color::Red));
    let address = Cell::new(endpoint.address);
    vec![address, number(endpoint.active), number(endpoint.total), failures, set_aside]
}

fn named(endpoints: &[Endpoint]) -> String {
    let some: Vec<_> = endpoints.iter().take(NAMED).map(|endpoint| endpoint.address.to_string()).collect();
    match endpoints.len().saturating_sub(NAMED) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| Cell::new(column).add_attribute(Attribute::Bold)));
    table
}

fn finish(mut table: Table, colour: bool) -> String {
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

fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// Names come from outside: a terminal must not be told what to do by them.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8) -> Endpoint {
        let address = ([10, 180, 0, last], 8080).into();
        Endpoint { address, active: 1, total: 20, failures: 0, set_aside_seconds: None }
    }

    fn status() -> Status {
        let failed = Endpoint { failures: 3, set_aside_seconds: Some(7), ..endpoint(2) };
        let target = |name: &str, endpoints| Target {
            service_port: name.to_owned(),
            protocol: "tcp".to_owned(),
            traffic_policy: "Cluster".to_owned(),
            listens: ([127, 0, 0, 1], 5432).into(),
            active: 2,
            endpoints,
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        Status {
            version: "0.1.0".to_owned(),
            mode: "userspace".to_owned(),
            node: "laptop".to_owned(),
            process: 42,
            started: at("2026-01-02T03:00:00Z"),
            current_time: at("2026-01-02T03:04:05.5Z"),
            last_synced: Some(at("2026-01-02T03:04:03Z")),
            last_error: None,
            service_ports: 3,
            left_out: 0,
            targets: vec![
                target("demo/db", vec![endpoint(1), failed]),
                target("demo/web:http", [1, 2, 3, 4, 5].map(endpoint).into()),
            ],
        }
    }

    const PLAIN: Look = Look { wide: false, colour: false };

    #[test]
    fn a_row_for_each_target() {
        let expected = "\
mode           userspace
node           laptop
process        42, pointsman 0.1.0
started        4m 5s ago
last sync      2s ago
last error     none
service ports  3

service port   protocol  listens at      active  endpoints
demo/db        tcp       127.0.0.1:5432       2  10.180.0.1:8080, 10.180.0.2:8080
demo/web:http  tcp       127.0.0.1:5432       2  10.180.0.1:8080, 10.180.0.2:8080, 10.180.0.3:8080 and 2 more
";
        assert_eq!(render(&status(), PLAIN), expected);
    }

    #[test]
    fn a_row_for_each_endpoint() {
        let mut status = status();
        status.targets.truncate(1);
        let text = render(&status, Look { wide: true, ..PLAIN });
        let expected = "
service port  protocol  listens at      policy   endpoint         active  total  failures  set aside
demo/db       tcp       127.0.0.1:5432  Cluster  10.180.0.1:8080       1     20         0
                                                 10.180.0.2:8080       1     20         3  for 7 s
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn colour_is_only_for_terminals() {
        let escapes = |look| render(&status(), look).contains('\u{1b}');
        assert!(!escapes(PLAIN) && escapes(Look { colour: true, ..PLAIN }));
    }

    #[test]
    fn what_went_wrong_is_said() {
        let failed = Status {
            last_synced: None,
            last_error: Some("no\u{1b}[2Jpe".to_owned()),
            left_out: 1,
            targets: Vec::new(),
            ..status()
        };
        let text = render(&failed, PLAIN);
        for line in ["last sync      never", "last error     no\u{fffd}[2Jpe"] {
            assert!(text.lines().any(|other| other == line), "{text}");
        }
        assert!(text.ends_with("service ports  3, 1 of them refused by the kernel\n"), "{text}");
    }

    #[test]
    fn what_is_told_can_be_read() {
        let told = serde_json::to_string(&status()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&told).unwrap(), status());
    }
}
