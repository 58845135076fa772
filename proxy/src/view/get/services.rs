//! Services as a table. Pure.

use std::net::IpAddr;

use comfy_table::{Cell, CellAlignment, Color};

use crate::output::{Look, finish, plain, table};
use crate::view::count::Use;
use crate::view::{PortView, ServiceView};

/// The text, with a newline at its end.
pub(super) fn table_of(services: &[ServiceView], look: Look) -> String {
    let mut columns = vec!["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "ENDPOINTS"];
    if look.wide {
        columns.extend(["INTERNAL", "EXTERNAL", "AFFINITY"]);
    }
    columns.push("NOTE");
    let mut table = table(&columns);
    for service in services {
        table.add_row(row(service, look.wide));
    }
    finish(table, look.colour) + "\n"
}

fn row(service: &ServiceView, wide: bool) -> Vec<Cell> {
    let external: Vec<_> = service.external_ips.iter().chain(&service.load_balancer_ips).copied().collect();
    let ports: Vec<_> = service.ports.iter().map(port).collect();
    let text = |text: &str| Cell::new(if text.is_empty() { "-".to_owned() } else { plain(text) });
    let mut row = vec![
        text(&service.namespace),
        text(&service.name),
        text(&service.kind),
        text(&list(&service.cluster_ips)),
        text(&list(&external)),
        text(&ports.join(",")),
        endpoints(service),
    ];
    if wide {
        let affinity = service.affinity_seconds.map(|seconds| format!("{seconds}s"));
        row.extend([
            text(&service.internal_traffic_policy),
            text(&service.external_traffic_policy),
            text(&affinity.unwrap_or_default()),
        ]);
    }
    row.push(note(service, wide));
    row
}

/// `80:30080/TCP`, as kubectl writes it.
fn port(port: &PortView) -> String {
    let node_port = port.node_port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{node_port}/{}", port.port, port.protocol)
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

/// How many are used, of how many: of the port that has the fewest.
fn endpoints(service: &ServiceView) -> Cell {
    let count = |port: &PortView| {
        (port.count(|endpoint| service.uses(port, endpoint) != Use::Not), port.count(|_| true))
    };
    let Some((used, all)) = service.ports.iter().map(count).min() else { return Cell::new("-") };
    let colour = match used {
        0 => Color::Red,
        used if used < all => Color::Yellow,
        _ => Color::Green,
    };
    Cell::new(format!("{used}/{all}")).fg(colour).set_alignment(CellAlignment::Right)
}

/// What is wrong: in short, unless there is room.
fn note(service: &ServiceView, wide: bool) -> Cell {
    let Some(first) = service.problems.first() else { return Cell::new("") };
    let text = if wide {
        service.problems.join(" ")
    } else {
        // The reason alone, of what is told at length by `explain` and with `-o wide`.
        let short = first.split(": ").nth(1).unwrap_or(first);
        short.split(" (").next().unwrap_or(short).to_owned()
    };
    Cell::new(plain(&text)).fg(Color::Yellow)
}
