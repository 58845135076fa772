//! A [`Status`] for people. Pure.

use std::fmt::Write;

use comfy_table::{Cell, Color, Table};
use jiff::{SignedDuration, Timestamp};

use super::{Endpoint, NO_PROXY, Network, Objects, Policies, Status, SyncReport, Target};
use crate::output::{Look, finish, number, plain, table};
use crate::telemetry::{Repair, Repairs};

/// How many endpoints of a target are named where there is a row for each target.
const NAMED: usize = 3;

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
    let mut lines = vec![
        ("mode", status.mode.clone()),
        ("node", status.node.clone()),
        ("process", format!("{}, pointsman {}", status.process, status.version)),
        ("started", format!("{} ago", ago(status.started))),
    ];
    if status.mode == NO_PROXY {
        lines.extend(api_server(status).map(|text| ("API server", text)));
    } else {
        lines.extend(of_proxy(status, ago));
    }
    if let Some(policies) = &status.policies {
        lines.extend(of_policies(policies, ago));
    }
    if let Some(network) = &status.network {
        lines.extend(of_network(network, ago));
    }
    let mut text = String::new();
    for (name, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<13}  {}", plain(&value));
    }
    text
}

/// How the proxy stands.
fn of_proxy(status: &Status, ago: impl Fn(Timestamp) -> String) -> Vec<(&'static str, String)> {
    let synced = status.last_synced.map_or("never".to_owned(), |synced| format!("{} ago", ago(synced)));
    let left_out = match status.left_out {
        0 => String::new(),
        count => format!(", {count} of them refused by the kernel"),
    };
    let error = status.last_error.as_deref().unwrap_or("none");
    let of_sync = status.last_sync.as_ref().map(sync).unwrap_or_default();
    let Objects { services, endpoint_slices, endpoints } = status.objects;
    let mut lines = vec![("last sync", format!("{synced}{of_sync}")), ("last error", error.to_owned())];
    lines.extend(
        status.waiting_seconds.map(|seconds| ("not in force", format!("changes of {seconds} s ago"))),
    );
    lines.extend(api_server(status).map(|text| ("API server", text)));
    lines.push((
        "objects",
        format!("{services} Services, {endpoint_slices} EndpointSlices, {endpoints} endpoints"),
    ));
    lines.push(("service ports", format!("{}{left_out}", status.service_ports)));
    lines.extend(status.iptables_rules.map(|rules| ("rules", format!("{rules} of iptables"))));
    lines.push(("drift", drift(&status.drift, ago)));
    lines
}

/// How policies stand.
fn of_policies(policies: &Policies, ago: impl Fn(Timestamp) -> String) -> Vec<(&'static str, String)> {
    let synced = policies.last_synced.map_or("never".to_owned(), |synced| format!("{} ago", ago(synced)));
    let how = match policies.audit {
        true => "audited, nothing is denied",
        false => "enforced",
    };
    let problems = match policies.problems {
        0 => String::new(),
        count => format!(", {count} problems (see the log)"),
    };
    let Policies { known, isolated_ingress, isolated_egress, local_pods, pods, .. } = policies;
    let mut lines = vec![
        ("policies", format!("{known}{problems}, {how} by {}, in sync {synced}", policies.enforced_by)),
        (
            "isolated",
            format!(
                "{isolated_ingress} addresses from ingress, {isolated_egress} from egress ({local_pods} pods here \
                 of {pods} known)"
            ),
        ),
    ];
    lines.extend(policies.last_error.clone().map(|error| ("policy error", error)));
    let waits = policies.waiting_seconds;
    lines.extend(waits.map(|seconds| ("policies wait", format!("changes of {seconds} s ago"))));
    lines.push(("policy drift", drift(&policies.drift, ago)));
    lines
}

/// How the pod network stands.
fn of_network(network: &Network, ago: impl Fn(Timestamp) -> String) -> Vec<(&'static str, String)> {
    let synced = network.last_synced.map_or("never".to_owned(), |synced| format!("{} ago", ago(synced)));
    let ready = match (network.ready, &network.why_not) {
        (true, _) => "ready".to_owned(),
        (false, Some(why)) => format!("not ready: {why}"),
        (false, None) => "not ready".to_owned(),
    };
    let Network { backend, data_path, tunnelled, direct, .. } = network;
    let mut lines = vec![("pod network", format!("{backend}, {data_path}, {ready}, in sync {synced}"))];
    let mtu = network.mtu.map_or(String::new(), |mtu| format!(", MTU {mtu}"));
    if !network.ranges.is_empty() {
        let by = match network.uplinks.is_empty() {
            true => String::new(),
            false => format!(" by {}", network.uplinks.join(", ")),
        };
        lines.push(("pods here", format!("{}{by}{mtu}", network.ranges.join(", "))));
    }
    let also = [(network.problems, "problems"), (network.refused, "refused by the kernel")];
    let also: String =
        also.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what} (see the log)")).collect();
    lines.push(("other nodes", format!("{tunnelled} ranges by tunnel, {direct} by gateway{also}")));
    if !network.sessions.is_empty() {
        let sessions = network.sessions.iter().map(|(name, state)| format!("{name} {state}"));
        lines.push(("BGP", sessions.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(network.bird_error.clone().map(|error| ("BIRD", error)));
    let error = network.announcement_error.as_ref();
    lines.extend(error.map(|error| ("announcement", format!("other nodes cannot be told: {error}"))));
    lines.extend(network.last_error.clone().map(|error| ("network error", error)));
    let waits = network.waiting_seconds;
    lines.extend(waits.map(|seconds| ("network waits", format!("changes of {seconds} s ago"))));
    lines.push(("network drift", drift(&network.drift, ago)));
    lines
}

/// What a sync did, as it goes on after when it was.
fn sync(sync: &SyncReport) -> String {
    let extent = if sync.full { "of everything" } else { "of what had changed" };
    let SyncReport { milliseconds, changes, operations, .. } = sync;
    format!(", {extent} in {milliseconds} ms: {changes} changed service ports, {operations} operations")
}

/// How it stands with the API server, if there is one.
fn api_server(status: &Status) -> Option<String> {
    let heard = status.watches.values().filter_map(|watch| watch.last_heard).max();
    let ago = |then: Timestamp| length(status.current_time.duration_since(then));
    let heard = heard.map_or("never heard of".to_owned(), |then| format!("heard of {} ago", ago(then)));
    let lost = status.watches.iter().filter(|(_, watch)| !watch.watching);
    let lost: String = lost
        .map(|(kind, watch)| {
            let error = watch.error.as_deref().unwrap_or("not yet");
            format!("; {} are not followed: {error}", plural(kind))
        })
        .collect();
    (!status.watches.is_empty()).then(|| heard + &lost)
}

/// Several objects of a kind, whichever a process tells of.
fn plural(kind: &str) -> String {
    kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"))
}

/// What others changed, the last of it in words.
fn drift(repairs: &Repairs, ago: impl Fn(Timestamp) -> String) -> String {
    let Some(last) = repairs.last.back() else { return "none".to_owned() };
    let Repair { time, cause, operations } = last;
    let times = if repairs.count == 1 { "once".to_owned() } else { format!("{} times", repairs.count) };
    format!("repaired {times}, last {} ago, by {operations} operations: {cause}", ago(*time))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::telemetry::Watch;

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
            waiting_seconds: None,
            last_sync: Some(SyncReport { full: false, milliseconds: 0.75, changes: 2, operations: 12 }),
            objects: Objects { services: 2, endpoint_slices: 3, endpoints: 7 },
            watches: BTreeMap::new(),
            iptables_rules: None,
            service_ports: 3,
            left_out: 0,
            drift: Repairs::default(),
            policies: None,
            network: None,
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
last sync      2s ago, of what had changed in 0.75 ms: 2 changed service ports, 12 operations
last error     none
objects        2 Services, 3 EndpointSlices, 7 endpoints
service ports  3
drift          none

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
        let time = "2026-01-02T03:04:00Z".parse().unwrap();
        let repair =
            Repair { time, cause: "nft (process 7) changed table ip pointsman".to_owned(), operations: 3 };
        let failed = Status {
            last_synced: None,
            last_sync: None,
            waiting_seconds: Some(9),
            last_error: Some("no\u{1b}[2Jpe".to_owned()),
            watches: [(
                "Service".to_owned(),
                Watch { error: Some("refused".to_owned()), ..Watch::default() },
            )]
            .into(),
            left_out: 1,
            drift: Repairs { count: 2, last: [repair].into() },
            targets: Vec::new(),
            ..status()
        };
        let text = render(&failed, PLAIN);
        for line in [
            "last sync      never",
            "last error     no\u{fffd}[2Jpe",
            "not in force   changes of 9 s ago",
            "API server     never heard of; Services are not followed: refused",
        ] {
            assert!(text.lines().any(|other| other == line), "{text}");
        }
        let end = "service ports  3, 1 of them refused by the kernel
drift          repaired 2 times, last 5s ago, by 3 operations: nft (process 7) changed table ip pointsman
";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_process_without_a_proxy_tells_of_policies_alone() {
        let policies = Policies {
            enforced_by: "nftables".to_owned(),
            known: 3,
            pods: 40,
            local_pods: 2,
            isolated_ingress: 2,
            isolated_egress: 1,
            problems: 1,
            last_synced: Some("2026-01-02T03:04:01Z".parse().unwrap()),
            last_error: Some("no room".to_owned()),
            waiting_seconds: Some(4),
            ..Policies::default()
        };
        let alone = Status {
            mode: NO_PROXY.to_owned(),
            policies: Some(policies.clone()),
            targets: Vec::new(),
            ..status()
        };
        let expected = "\
mode           none
node           laptop
process        42, pointsman 0.1.0
started        4m 5s ago
policies       3, 1 problems (see the log), enforced by nftables, in sync 4s ago
isolated       2 addresses from ingress, 1 from egress (2 pods here of 40 known)
policy error   no room
policies wait  changes of 4 s ago
policy drift   none
";
        assert_eq!(render(&alone, PLAIN), expected);
        let beside = Status { mode: "ipvs".to_owned(), ..alone };
        let audited = Policies { audit: true, problems: 0, last_error: None, ..policies };
        let text = render(&Status { policies: Some(audited), ..beside }, PLAIN);
        assert!(text.contains("\nservice ports  3\n"), "{text}");
        let line = "\npolicies       3, audited, nothing is denied by nftables, in sync 4s ago\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn how_the_pod_network_stands_is_said() {
        let network = Network {
            backend: "host-gw".to_owned(),
            data_path: "routed".to_owned(),
            ready: true,
            ranges: vec!["10.244.1.0/24".to_owned()],
            uplinks: vec!["eth0 192.0.2.1".to_owned()],
            mtu: Some(1450),
            tunnelled: 1,
            direct: 2,
            problems: 1,
            sessions: [("rack".to_owned(), "Established".to_owned())].into(),
            announcement_error: Some("forbidden".to_owned()),
            last_synced: Some("2026-01-02T03:04:01Z".parse().unwrap()),
            ..Network::default()
        };
        let with = Status { network: Some(network.clone()), targets: Vec::new(), ..status() };
        let end = "\
pod network    host-gw, routed, ready, in sync 4s ago
pods here      10.244.1.0/24 by eth0 192.0.2.1, MTU 1450
other nodes    1 ranges by tunnel, 2 by gateway, 1 problems (see the log)
BGP            rack Established
announcement   other nodes cannot be told: forbidden
network drift  none
";
        let text = render(&with, PLAIN);
        assert!(text.ends_with(end), "{text}");
        let why_not = Some("the Node has no podCIDR".to_owned());
        let network = Network { ready: false, why_not, last_synced: None, ..network };
        let text = render(&Status { network: Some(network), ..with }, PLAIN);
        let line = "\npod network    host-gw, routed, not ready: the Node has no podCIDR, in sync never\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_is_told_can_be_read() {
        let told = serde_json::to_string(&status()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&told).unwrap(), status());
    }
}
