//! The list of Services: filtered, sorted, and a page of it at a time, however many there are. Pure.

use std::cmp::Reverse;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::assess::{Assessed, Standing};
use super::gather::Snapshot;
use crate::view::{PortView, ServiceView};

/// Rows at a time.
const MOST_ROWS: usize = 200;
/// What is told of a Service at most: ports, addresses and reasons each.
const MOST_DETAILS: usize = 20;

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum By {
    /// How badly it stands.
    #[default]
    Standing,
    Name,
    Endpoints,
    Connections,
}

/// Which part of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Lower-case words, all of which a row must have.
    words: Vec<String>,
    problems_only: bool,
    by: By,
    /// From the last to the first.
    reverse: bool,
    offset: usize,
    limit: usize,
}

impl Query {
    /// Reads the query of an address. What makes no sense is as if it were not there.
    pub(super) fn read(text: &str) -> Self {
        let mut query = Self { limit: 50, ..Self::default() };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "filter" => {
                    query.words = value.to_lowercase().split_whitespace().map(str::to_owned).collect();
                }
                "problems" => query.problems_only = value == "true",
                "reverse" => query.reverse = value == "true",
                "offset" => query.offset = value.parse().unwrap_or(0),
                "limit" => query.limit = value.parse().unwrap_or(query.limit).clamp(1, MOST_ROWS),
                "by" => {
                    query.by = match &*value {
                        "name" => By::Name,
                        "endpoints" => By::Endpoints,
                        "connections" => By::Connections,
                        _ => By::Standing,
                    }
                }
                _ => {}
            }
        }
        query
    }

    fn selects(&self, service: &ServiceView, assessed: &Assessed) -> bool {
        let is_problem = matches!(assessed.standing, Standing::Broken | Standing::Impaired);
        (is_problem || !self.problems_only)
            && self.words.iter().all(|word| assessed.text.contains(word) || has_endpoint(service, word))
    }
}

/// Whether a word is the address of an endpoint.
fn has_endpoint(service: &ServiceView, word: &str) -> bool {
    let endpoints = || service.ports.iter().flat_map(|port| &port.endpoints);
    word.parse::<IpAddr>().is_ok_and(|ip| endpoints().any(|endpoint| endpoint.address.ip() == ip))
}

/// A part of the list.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<'a> {
    /// When it was so. Without a time, nothing is known: it has not been gathered yet, or could not be.
    taken: Option<Timestamp>,
    /// How many Services are selected.
    selected: usize,
    /// The number of the first that is shown.
    offset: usize,
    services: Vec<Row<'a>>,
}

/// A Service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    addresses: Vec<IpAddr>,
    ports: Vec<Port<'a>>,
    standing: Standing,
    reasons: &'a [String],
    endpoints: usize,
    used: usize,
    connections: u64,
}

/// A port of a Service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Port<'a> {
    name: &'a str,
    protocol: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_port: Option<u16>,
}

/// The part that is asked for. Beyond the end, it is the last.
pub(super) fn list<'a>(snapshot: Option<&'a Snapshot>, query: &Query) -> List<'a> {
    let Some(snapshot) = snapshot else { return List::default() };
    let all = snapshot.services.iter().zip(&snapshot.assessed);
    let mut selected: Vec<_> = all.filter(|(service, assessed)| query.selects(service, assessed)).collect();
    sort(&mut selected, query);
    let count = selected.len();
    let offset =
        if query.offset < count { query.offset } else { count.saturating_sub(1) / query.limit * query.limit };
    let rows = selected.into_iter().skip(offset).take(query.limit);
    List {
        taken: snapshot.taken,
        selected: count,
        offset,
        services: rows.map(|(service, assessed)| row(service, assessed)).collect(),
    }
}

/// The view has Services in the order of names, and what is equal stays in it.
fn sort(selected: &mut [(&ServiceView, &Assessed)], query: &Query) {
    match query.by {
        By::Name => {}
        By::Standing => selected.sort_by_key(|(_, assessed)| assessed.standing),
        By::Endpoints => selected.sort_by_key(|(_, assessed)| Reverse(assessed.used)),
        By::Connections => selected.sort_by_key(|(_, assessed)| Reverse(assessed.connections)),
    }
    if query.reverse {
        selected.reverse();
    }
}

fn row<'a>(service: &'a ServiceView, assessed: &'a Assessed) -> Row<'a> {
    let addresses = [&service.cluster_ips, &service.external_ips, &service.load_balancer_ips];
    Row {
        namespace: &service.namespace,
        name: &service.name,
        kind: &service.kind,
        addresses: addresses.into_iter().flatten().take(MOST_DETAILS).copied().collect(),
        ports: service.ports.iter().take(MOST_DETAILS).map(port).collect(),
        standing: assessed.standing,
        reasons: &assessed.reasons[..assessed.reasons.len().min(MOST_DETAILS)],
        endpoints: assessed.endpoints,
        used: assessed.used,
        connections: assessed.connections,
    }
}

fn port(port: &PortView) -> Port<'_> {
    Port { name: &port.name, protocol: &port.protocol, port: port.port, node_port: port.node_port }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{endpoint, port, service};
    use super::*;
    use crate::telemetry::shares::Shares;

    /// Ten thousand Services in the order of names, every hundredth of them without endpoints.
    fn snapshot() -> Snapshot {
        let of = |number: usize| {
            let endpoints = if number % 100 == 7 { vec![] } else { vec![endpoint(1)] };
            service(&format!("web-{number:05}"), vec![port("http", endpoints)])
        };
        Snapshot::new((0..10_000).map(of).collect(), Shares::default(), Vec::new())
    }

    fn names(query: &str) -> (usize, usize, Vec<String>) {
        let snapshot = snapshot();
        let list = list(Some(&snapshot), &Query::read(query));
        (list.selected, list.offset, list.services.iter().map(|row| row.name.to_owned()).collect())
    }

    #[test]
    fn a_page_at_a_time_is_told_problems_first() {
        let (selected, offset, shown) = names("");
        assert_eq!((selected, offset, shown.len()), (10_000, 0, 50));
        assert_eq!((&*shown[0], &*shown[1]), ("web-00007", "web-00107"));
        assert_eq!(names("offset=99&limit=2").2, ["web-09907", "web-00000"]);
        assert_eq!(names("by=name&limit=1&reverse=true").2, ["web-09999"]);
        assert_eq!(names("by=endpoints&limit=1").2, ["web-00000"]);
    }

    #[test]
    fn what_is_searched_for_is_found() {
        assert_eq!(names("problems=true").0, 100);
        assert_eq!(names("filter=WEB-001+no+endpoints").2, ["web-00107"]);
        assert_eq!(names("filter=10.1.0.1").0, 9_900, "by the address of an endpoint");
        assert_eq!(names("filter=10.1.0.2").0, 0);
    }

    #[test]
    fn nonsense_is_as_if_it_were_not_there() {
        assert_eq!(names("offset=99999999&limit=7").1, 9_996, "beyond the end is the last page");
        assert_eq!(names("filter=nothing&offset=50"), (0, 0, vec![]));
        assert_eq!(names("limit=1000000").2.len(), MOST_ROWS);
        for query in ["limit=0", "limit=x&offset=-1&by=%ff&%&=&&reverse=7"] {
            assert_eq!(names(query).2[0], "web-00007", "{query}");
        }
        assert_eq!(
            serde_json::to_string(&list(None, &Query::read(""))).unwrap(),
            r#"{"taken":null,"selected":0,"offset":0,"services":[]}"#
        );
    }
}
