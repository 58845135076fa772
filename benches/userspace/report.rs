//! The figures of all subjects, as tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use benches::report::thousands;
use comfy_table::presets::{ASCII_MARKDOWN, UTF8_BORDERS_ONLY};
use comfy_table::{CellAlignment, Table, TableStyle};

use crate::frontend;
use crate::machine;
use crate::row::{CONCURRENCY, MODERATE_CONNECTIONS, MODERATE_REQUESTS, Row, Sample};
use crate::subject::{Limits, Subject};

pub(crate) const CONNECTIONS: &str = "connections per second";
pub(crate) const CONNECTIONS_CPU: &str = "CPU of the proxy for a connection, us";
pub(crate) const CONNECTIONS_ALL: &str = "CPU of everybody for a connection, us";
pub(crate) const REQUESTS: &str = "requests per second, kept connections";
pub(crate) const REQUESTS_CPU: &str = "CPU of the proxy for a request, us";
pub(crate) const REQUESTS_ALL: &str = "CPU of everybody for a request, us";
pub(crate) const UPLOAD: &str = "client to server, MB per second";
pub(crate) const UPLOAD_CPU: &str = "CPU of the proxy for a GB to the server, ms";
pub(crate) const UPLOAD_ALL: &str = "CPU of everybody for a GB to the server, ms";
pub(crate) const DOWNLOAD: &str = "server to client, MB per second";
pub(crate) const DOWNLOAD_CPU: &str = "CPU of the proxy for a GB to the client, ms";
pub(crate) const DOWNLOAD_ALL: &str = "CPU of everybody for a GB to the client, ms";
pub(crate) const CONNECTION_P50: &str = "connect and first byte, p50, us";
pub(crate) const CONNECTION_P99: &str = "connect and first byte, p99, us";
pub(crate) const REQUEST_P50: &str = "request on a kept connection, p50, us";
pub(crate) const REQUEST_P99: &str = "request on a kept connection, p99, us";
pub(crate) const IDLE_RSS: &str = "resident memory for an idle connection, bytes";
pub(crate) const IDLE_PSS: &str = "proportional memory for an idle connection, bytes";
pub(crate) const IDLE_DESCRIPTORS: &str = "descriptors for an idle connection";
pub(crate) const DATAGRAMS: &str = "UDP requests per second";
pub(crate) const DATAGRAMS_CPU: &str = "CPU of the proxy for a UDP request, us";
pub(crate) const DATAGRAMS_ALL: &str = "CPU of everybody for a UDP request, us";

/// Of these, more is better; of all others, less is.
const RATES: [&str; 5] = [CONNECTIONS, REQUESTS, UPLOAD, DOWNLOAD, DATAGRAMS];
/// What a proxy's processes use: without one, there is nothing to compare.
const OF_PROXIES: [&str; 5] = [CONNECTIONS_CPU, REQUESTS_CPU, UPLOAD_CPU, DOWNLOAD_CPU, DATAGRAMS_CPU];

/// In the order of the table.
const ALL: [&str; 22] = [
    CONNECTIONS,
    CONNECTIONS_CPU,
    CONNECTIONS_ALL,
    REQUESTS,
    REQUESTS_CPU,
    REQUESTS_ALL,
    UPLOAD,
    UPLOAD_CPU,
    UPLOAD_ALL,
    DOWNLOAD,
    DOWNLOAD_CPU,
    DOWNLOAD_ALL,
    CONNECTION_P50,
    CONNECTION_P99,
    REQUEST_P50,
    REQUEST_P99,
    IDLE_RSS,
    IDLE_PSS,
    IDLE_DESCRIPTORS,
    DATAGRAMS,
    DATAGRAMS_CPU,
    DATAGRAMS_ALL,
];

pub(crate) fn fan_out(endpoints: u8) -> String {
    format!("{endpoints} endpoints")
}

/// The figures of all rounds.
pub(crate) struct Report {
    rounds: usize,
    seconds: f64,
    limits: Limits,
    subjects: BTreeSet<Subject>,
    figures: BTreeMap<(String, Subject), Vec<f64>>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn new(rounds: usize, seconds: f64, limits: Limits) -> Self {
        let (subjects, figures) = (BTreeSet::new(), BTreeMap::new());
        Self { rounds, seconds, limits, subjects, figures, failures: Vec::new() }
    }

    /// Adds what one measurement gave.
    pub(crate) fn add(&mut self, subject: Subject, sample: Sample) {
        self.subjects.insert(subject);
        for (what, value) in sample.0 {
            self.figures.entry((what, subject)).or_default().push(value);
        }
    }

    /// Adds that one measurement gave nothing.
    pub(crate) fn failed(&mut self, subject: Subject, row: Row, error: &anyhow::Error) {
        let sentence = format!("{row:?} of {} failed: {error:#}.", subject.name());
        eprintln!("{sentence}");
        if !self.failures.contains(&sentence) {
            self.failures.push(sentence);
        }
    }

    /// Prints the report, and writes `userspace.md` into a folder if there is one.
    pub(crate) fn hand_out(&self, folder: Option<&Path>) -> Result<()> {
        println!("{}\n\n{}", self.table(UTF8_BORDERS_ONLY), self.spreads(UTF8_BORDERS_ONLY));
        self.failures.iter().for_each(|sentence| println!("{sentence}"));
        let Some(folder) = folder else { return Ok(()) };
        fs::write(folder.join("userspace.md"), self.page()?)
            .with_context(|| format!("cannot write into {}", folder.display()))
    }

    fn page(&self) -> Result<String> {
        let mut text = format!(
            "# The userspace mode\n\n\
             Made by `cargo xtask bench userspace --write-to benches`, which tells what each figure is in \
             `benches/userspace/`.\n\n{}\n\n",
            self.table(ASCII_MARKDOWN)
        );
        write!(
            text,
            "In brackets: how many times as good as HAProxy's (as nginx's, over UDP), so that more than 1 is better in \
             every row. Each figure is the median of {} rounds of {} s; subjects take turns within a round. The last column tells by how much \
             those figures of the rounds differ that all are compared with, from the least to the most: ratios within \
             that are a draw.\n\n\
             How even the connections are that one client makes one after the other: how many more the most used \
             endpoint got than the least used.\n\n{}\n\n{}",
            self.rounds,
            self.seconds,
            self.spreads(ASCII_MARKDOWN),
            self.method()
        )?;
        self.failures.iter().try_for_each(|sentence| write!(text, "\n{sentence}\n"))?;
        Ok(text)
    }

    fn method(&self) -> String {
        let Limits { workers, descriptors, connections } = self.limits;
        format!(
            "{}. {}, as Debian has them. The machine may have done other work meanwhile, the same for all in the long run.\n\n\
             - A client and a server are pods of a node, which the proxy runs on, joined by veth pairs; all are \
             namespaces of one machine and share its processors. So a rate is that of client, proxy and server together, \
             and what the proxy itself costs is told by its processor time. \"Everybody\" is client, proxy and server, \
             which includes what the kernel does for packets on their time.\n\
             - HAProxy and nginx have {workers} threads or processes, Pointsman what it has by default, one for every two \
             processors. All have room for all connections, no logs and timeouts of an \
             hour. HAProxy runs with and without `option splice-auto` where bytes are counted; the faster one is shown. \
             nginx listens with `reuseport`, and without a `zone`, so that each process has its own turn. HAProxy 2.6 has \
             no UDP.\n\
             - *Forwarder alone* is what carries the traffic in userspace mode, called directly. *Bound* and *captured* \
             are the whole program, *captured* behind a ClusterIP and with the client's address kept. *Nftables* carries \
             nothing itself, and *direct* is no proxy at all.\n\
             - Connections: {CONCURRENCY} at once, each asks a byte, is answered one, and is closed by the server. \
             Requests and UDP requests: {CONCURRENCY} connections or flows, 64 bytes each way. Bulk: four connections; \
             client and server neither make nor look at the bytes, and only those that have arrived count.\n\
             - Latency: {} new connections, or {} requests, are due each second, whatever becomes of those before; it is \
             counted from when each was due. The 99th percentile is mostly that of waiting for a processor, even \
             without a proxy.\n\
             - Memory: {} connections that have exchanged a byte and are silent, less what was used before, \
             of all processes. A process may have {} descriptors here, and a connection takes two. What the \
             kernel holds for sockets and pipes is not in it, hence the row of descriptors.\n",
            machine::description(),
            machine::others(),
            thousands(f64::from(MODERATE_CONNECTIONS)),
            thousands(f64::from(MODERATE_REQUESTS)),
            thousands(connections as f64),
            thousands(descriptors as f64),
        )
    }

    /// HAProxy as it is best is one column.
    fn columns(&self) -> impl Iterator<Item = Subject> {
        self.subjects.iter().copied().filter(|subject| *subject != Subject::HaproxySplice)
    }

    /// The figures of all rounds. Of HAProxy, those of the way that carries more.
    fn of(&self, what: &str, subject: Subject) -> Option<&Vec<f64>> {
        let get = |what: &str, subject| self.figures.get(&(what.to_owned(), subject));
        let rate = match what {
            UPLOAD | UPLOAD_CPU | UPLOAD_ALL => UPLOAD,
            DOWNLOAD | DOWNLOAD_CPU | DOWNLOAD_ALL => DOWNLOAD,
            _ => return get(what, subject),
        };
        let half = |subject| get(rate, subject).map(|values| middle(values));
        match subject {
            Subject::Haproxy if half(Subject::HaproxySplice) > half(Subject::Haproxy) => {
                get(what, Subject::HaproxySplice)
            }
            _ => get(what, subject),
        }
    }

    fn table(&self, style: TableStyle) -> Table {
        let mut table = Table::new();
        table.load_style(style);
        let names = self.columns().map(Subject::name);
        table.set_header(["what"].into_iter().chain(names).chain(["rounds differ by"]));
        for what in ALL {
            if self.columns().all(|subject| self.of(what, subject).is_none()) {
                continue;
            }
            let cells = self.columns().map(|subject| self.cell(what, subject));
            table.add_row([what.to_owned()].into_iter().chain(cells).chain([self.noise(what)]));
        }
        right(table)
    }

    /// Whom others are compared with: HAProxy, where it can do it.
    fn base(&self, what: &str) -> Option<Subject> {
        [Subject::Haproxy, Subject::Nginx].into_iter().find(|subject| self.of(what, *subject).is_some())
    }

    fn cell(&self, what: &str, subject: Subject) -> String {
        let Some(value) = self.of(what, subject).map(|values| middle(values)) else { return "-".to_owned() };
        if OF_PROXIES.contains(&what) && !subject.is_a_proxy() {
            return "-".to_owned();
        }
        let base = self.base(what);
        match base.and_then(|base| self.of(what, base)).map(|values| middle(values)) {
            Some(base_value) if base != Some(subject) => {
                let ratio = if RATES.contains(&what) { value / base_value } else { base_value / value };
                format!("{} ({ratio:.2})", digits(value))
            }
            _ => digits(value),
        }
    }

    fn noise(&self, what: &str) -> String {
        let Some(values) =
            self.base(what).and_then(|base| self.of(what, base)).filter(|values| values.len() > 1)
        else {
            return "-".to_owned();
        };
        let (least, most) = values
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
        format!("{:.0} %", (most - least) / middle(values) * 100.0)
    }

    fn spreads(&self, style: TableStyle) -> Table {
        let mut table = Table::new();
        table.load_style(style);
        let rows = frontend::FAN_OUTS.map(|frontend| fan_out(frontend.endpoints));
        table.set_header(["who"].map(str::to_owned).into_iter().chain(rows.clone()));
        for subject in self.columns() {
            let cells: Vec<String> = rows
                .iter()
                .filter_map(|what| self.of(what, subject))
                .map(|values| digits(middle(values)))
                .collect();
            if !cells.is_empty() {
                table.add_row([subject.name().to_owned()].into_iter().chain(cells));
            }
        }
        right(table)
    }
}

fn right(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The median; there is one value at least.
fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three significant digits, more or less.
fn digits(value: f64) -> String {
    match value {
        whole if whole.fract() == 0.0 => thousands(whole),
        size if size < 10.0 => format!("{size:.2}"),
        size if size < 100.0 => format!("{size:.1}"),
        size => thousands(size),
    }
}
