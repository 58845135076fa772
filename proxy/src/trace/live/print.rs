//! Printing what happens as it happens: a table for each connection and a line for what follows, or an object a line.

use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::Context;
use comfy_table::{Cell, Color};
use serde::Serialize;

use super::told::{Connection, Hop, Outcome, Summary, Told};
use crate::cli::Output;
use crate::output::{self, colour_is_wanted, finish, number, plain};

/// Prints in one form. A reader that goes away is no error: there is nobody left to tell.
pub(super) struct Printer {
    output: Output,
    colour: bool,
}

impl Printer {
    pub(super) fn new(output: Output) -> Self {
        Self { output, colour: colour_is_wanted() }
    }

    /// Something that is not an event, for people.
    pub(super) fn remark(&self, text: &str) {
        // A closed stderr is no reason to end.
        drop(writeln!(io::stderr(), "{}", plain(text)));
    }

    pub(super) fn print(&self, told: &Told) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Table | Output::Wide => text(told, self.colour),
            Output::Json | Output::Yaml => self.document(told)?,
        };
        write(&text)
    }

    pub(super) fn summarize(&self, summary: &Summary) -> anyhow::Result<()> {
        match self.output {
            Output::Table | Output::Wide => {
                self.remark(&in_words(summary));
                Ok(())
            }
            Output::Json | Output::Yaml => write(&self.document(summary)?),
        }
    }

    fn document(&self, value: &impl Serialize) -> anyhow::Result<String> {
        Ok(match self.output {
            Output::Yaml => format!("---\n{}", serde_saphyr::to_string(value)?),
            _ => serde_json::to_string(value)? + "\n",
        })
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to standard output")
}

fn in_words(summary: &Summary) -> String {
    let Summary { connections, seconds, why } = summary;
    match connections {
        0 => format!(
            "no connection that matches in {seconds:.1} s ({why}): is it made in this network namespace, and to the \
             address that its client uses?"
        ),
        1 => format!("1 connection in {seconds:.1} s ({why})"),
        connections => format!("{connections} connections in {seconds:.1} s ({why})"),
    }
}

fn text(told: &Told, colour: bool) -> String {
    let line = |number: &usize, after: &f64, what: String| format!("#{number}  +{after:.1} ms  {what}\n");
    match told {
        Told::Connection(connection) => of_connection(connection, colour),
        Told::Changed { number, after_milliseconds, answered, state } => {
            let answered = answered.then_some("answered");
            let words: Vec<_> = answered.into_iter().chain(*state).collect();
            line(number, after_milliseconds, words.join(", "))
        }
        Told::Unanswered { number, after_milliseconds, endpoint } => {
            let what =
                format!("the endpoint {endpoint} has not answered: is it up, and does it listen there?");
            line(number, after_milliseconds, what)
        }
        Told::Ended { number, after_milliseconds, answered: true } => {
            line(number, after_milliseconds, "forgotten by connection tracking".to_owned())
        }
        Told::Ended { number, after_milliseconds, answered: false } => {
            let what = "ended without an answer: the endpoint refused it, or its entry was removed";
            line(number, after_milliseconds, what.to_owned())
        }
        Told::Lost => {
            "some news were lost: there were more than the socket holds; name what to follow more narrowly\n"
                .to_owned()
        }
    }
}

fn of_connection(connection: &Connection, colour: bool) -> String {
    let Connection { number, at_seconds, protocol, source, destination, hops, .. } = connection;
    let mut text = format!("#{number}  {source} -> {destination} {protocol}  (at {at_seconds:.3} s)\n");
    if !hops.is_empty() {
        for row in table(hops, colour).lines() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {row}");
        }
    }
    let _ = writeln!(text, "    {}", outcome(connection));
    text
}

fn outcome(connection: &Connection) -> String {
    let to = connection.endpoint.map_or_else(String::new, |endpoint| endpoint.to_string());
    let seen = match (connection.seen_as, connection.masqueraded) {
        (Some(ip), Some(true)) => format!(", which sees {ip} (masqueraded)"),
        (Some(ip), _) => format!(", which sees {ip}"),
        (None, _) => String::new(),
    };
    match connection.outcome {
        Outcome::Translated => format!("goes to {to}{seen}"),
        Outcome::Untranslated => format!("is not translated: goes to {to}{seen}"),
        Outcome::Dropped => "is dropped or refused by the last rule".to_owned(),
        Outcome::Untracked => {
            format!(
                "passes nftables on its way to {to}, and connection tracking has no entry of it: what comes after \
                 the rules ended it, such as IPVS without an endpoint, or it is not tracked"
            )
        }
    }
}

fn table(hops: &[Hop], colour: bool) -> String {
    let mut table = output::table(&["µs", "hook", "table", "chain", "rule", "verdict"]);
    for hop in hops {
        table.add_row(row(hop));
    }
    finish(table, colour)
}

fn row(hop: &Hop) -> [Cell; 6] {
    let rule = match (hop.rule, &hop.comment) {
        (Some(handle), Some(comment)) => format!("{handle}: {}", plain(comment)),
        (Some(handle), None) => handle.to_string(),
        (None, _) => String::new(),
    };
    let rule = match hop.destination {
        Some(destination) if rule.is_empty() => format!("now to {destination}"),
        Some(destination) => format!("{rule} (now to {destination})"),
        None => rule,
    };
    let verdict = Cell::new(plain(&hop.verdict));
    [
        number(hop.after_microseconds),
        Cell::new(hop.hook.unwrap_or_default()),
        Cell::new(plain(&hop.table)),
        Cell::new(plain(&hop.chain)).fg(Color::Green),
        Cell::new(rule),
        if hop.verdict.ends_with("drop") { verdict.fg(Color::Red) } else { verdict },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(chain: &str, rule: Option<u64>, verdict: &str) -> Hop {
        Hop {
            after_microseconds: 7,
            hook: Some("prerouting"),
            table: "ip pointsman".to_owned(),
            chain: chain.to_owned(),
            rule,
            comment: rule.map(|_| "web\u{1b}[2J".to_owned()),
            verdict: verdict.to_owned(),
            destination: None,
        }
    }

    fn connection() -> Connection {
        let moved =
            Hop { destination: Some(([10, 180, 0, 1], 8080).into()), ..hop("out", None, "policy accept") };
        Connection {
            number: 1,
            at_seconds: 0.5,
            protocol: "tcp".to_owned(),
            source: ([10, 180, 0, 3], 4000).into(),
            destination: ([172, 30, 0, 10], 80).into(),
            hops: vec![hop("services", Some(12), "goto n2"), moved],
            outcome: Outcome::Translated,
            endpoint: Some(([10, 180, 0, 1], 8080).into()),
            seen_as: Some([192, 168, 0, 2].into()),
            masqueraded: Some(true),
        }
    }

    #[test]
    fn a_connection_is_a_table_and_an_outcome() {
        let expected = "\
#1  10.180.0.3:4000 -> 172.30.0.10:80 tcp  (at 0.500 s)
    µs  hook        table         chain     rule                    verdict
     7  prerouting  ip pointsman  services  12: web\u{fffd}[2J             goto n2
     7  prerouting  ip pointsman  out       now to 10.180.0.1:8080  policy accept
    goes to 10.180.0.1:8080, which sees 192.168.0.2 (masqueraded)
";
        assert_eq!(text(&Told::Connection(connection()), false), expected);
        assert!(text(&Told::Connection(connection()), true).contains("\u{1b}["));
    }

    #[test]
    fn without_hops_there_is_no_table() {
        let untranslated = Connection {
            hops: Vec::new(),
            outcome: Outcome::Untranslated,
            masqueraded: Some(false),
            ..connection()
        };
        let said = text(&Told::Connection(untranslated), false);
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(
            said.ends_with("is not translated: goes to 10.180.0.1:8080, which sees 192.168.0.2\n"),
            "{said}"
        );
    }

    #[test]
    fn what_follows_is_a_line_each() {
        let changed =
            |answered, state| Told::Changed { number: 2, after_milliseconds: 0.34, answered, state };
        let endpoint = ([10, 0, 0, 1], 80).into();
        for (told, expected) in [
            (changed(true, Some("SYN_RECV")), "#2  +0.3 ms  answered, SYN_RECV\n"),
            (changed(true, None), "#2  +0.3 ms  answered\n"),
            (changed(false, Some("CLOSE")), "#2  +0.3 ms  CLOSE\n"),
            (
                Told::Unanswered { number: 3, after_milliseconds: 1000.0, endpoint },
                "#3  +1000.0 ms  the endpoint 10.0.0.1:80 has not answered: is it up, and does it listen there?\n",
            ),
        ] {
            assert_eq!(text(&told, false), expected);
        }
    }

    #[test]
    fn programs_read_an_object_a_line() {
        let printer = Printer { output: Output::Json, colour: false };
        let text = printer.document(&Told::Connection(connection())).unwrap();
        assert_eq!(text.lines().count(), 1);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["event"], "connection");
        assert_eq!(object["hops"][0]["verdict"], "goto n2");
        assert_eq!(object["endpoint"], "10.180.0.1:8080");
        let summary =
            printer.document(&Summary { connections: 1, seconds: 2.0, why: "interrupted" }).unwrap();
        let object: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert_eq!((&object["event"], &object["connections"]), (&"summary".into(), &1.into()));
    }
}
