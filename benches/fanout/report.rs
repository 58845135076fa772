//! The report: tables for people.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use benches::report::thousands;
use serde::{Deserialize, Serialize};

use crate::plot;
use crate::subject::Subject;
use crate::{ENDPOINTS, SERVICES};

/// What a measurement came to. Times are in microseconds, errors are fractions of the expected share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) subject: String,
    pub(crate) services: u32,
    pub(crate) endpoints: u32,
    pub(crate) answered_endpoints: usize,
    pub(crate) connections: f64,
    pub(crate) failed: f64,
    pub(crate) rate: f64,
    pub(crate) error: f64,
    pub(crate) error_by_chance: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) answer_p99: f64,
}

/// All of them.
pub(crate) struct Report {
    seconds: u64,
    rows: Vec<Row>,
    of_machine: Vec<Row>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(seconds: u64) -> Self {
        Self { seconds, rows: Vec::new(), of_machine: Vec::new(), failures: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds what was measured in the virtual machine, which compares with nothing else.
    pub(crate) fn add_of_machine(&mut self, row: Row) {
        self.of_machine.push(row);
    }

    /// The figures of the others count all the same.
    pub(crate) fn failed(&mut self, subject: Subject, error: &anyhow::Error) {
        eprintln!("{} could not be measured: {error:#}", subject.name());
        let line = format!("{} could not be measured on this machine", subject.name());
        if !self.failures.contains(&line) {
            self.failures.push(line);
        }
    }

    /// Everything as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {SERVICES} services\n\n{}\n", table(&by_endpoints(&self.rows)));
        text += &format!("## {ENDPOINTS} endpoints\n\n{}", table(&by_services(&self.rows)));
        if !self.of_machine.is_empty() {
            text += "\n## In the virtual machine\n\nA machine with emulated processors, whose kernel has IPVS: its \
                     figures compare with each other only.\n\n";
            text += &format!("### {SERVICES} services\n\n{}\n", table(&by_endpoints(&self.of_machine)));
            text += &format!("### {ENDPOINTS} endpoints\n\n{}", table(&by_services(&self.of_machine)));
        }
        for failure in &self.failures {
            text += &format!("\n{failure}.\n");
        }
        text
    }

    /// Writes `fanout.md` and its pictures.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let context = || format!("cannot write into {}", folder.display());
        let text = format!(
            "# Fan-out\n\n\
             How `pointsman fanout` finds connections spread over the endpoints of a Service, from a pod, for {} s each \
             with 16 under way; made by `cargo xtask bench fanout --write-to benches`. The share error is the root mean \
             square of how far endpoints are from their share, as a fraction of it; beside it is what it would be if \
             chance alone chose. Client, server and node share one machine's processors: what counts is how figures \
             compare within one run. In userspace mode the process connects to the endpoint after the client is \
             connected, so its time shows in the answer.\n\n\
             ![by the number of endpoints](fanout-endpoints.svg)\n\n\
             ![by the number of services](fanout-services.svg)\n\n{}",
            self.seconds,
            self.markdown()
        );
        fs::write(folder.join("fanout.md"), text).with_context(context)?;
        plot::by_endpoints(&by_endpoints(&self.rows), &folder.join("fanout-endpoints.svg"))?;
        plot::by_services(&by_services(&self.rows), &folder.join("fanout-services.svg"))
    }
}

/// Rows where only the number of endpoints varies.
fn by_endpoints(rows: &[Row]) -> Vec<&Row> {
    rows.iter().filter(|row| row.services == SERVICES).collect()
}

/// Rows where only the number of Services varies; a direct way is everywhere.
fn by_services(rows: &[Row]) -> Vec<&Row> {
    let direct = Subject::Direct.name();
    rows.iter().filter(|row| row.endpoints == ENDPOINTS || row.subject == direct).collect()
}

fn table(rows: &[&Row]) -> String {
    let mut text =
        "| | services | endpoints | connections/s | failed | connect p50 | connect p99 | answer p99 | share \
                    error | by chance |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (row.services, row.endpoints));
    for row in rows {
        text += &format!(
            "| {} | {} | {} | {} | {} | {} us | {} us | {} us | {:.1} % | {:.1} % |\n",
            row.subject,
            thousands(row.services.into()),
            row.endpoints,
            thousands(row.rate),
            row.failed,
            thousands(row.p50),
            thousands(row.p99),
            thousands(row.answer_p99),
            100.0 * row.error,
            100.0 * row.error_by_chance,
        );
    }
    text
}
