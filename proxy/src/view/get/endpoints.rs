//! Endpoints as a table, and as a list for programs. Pure.

use comfy_table::{Cell, Color};
use serde::Serialize;

use crate::output::{Look, finish, plain, table};
use crate::view::count::Use;
use crate::view::lookup::full_name;
use crate::view::{EndpointView, PortView, ServiceView};

/// All endpoints of some Services.
#[derive(Debug, Serialize)]
pub(super) struct EndpointList<'a> {
    endpoints: Vec<Item<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    /// `namespace/name`
    service: String,
    /// Name of the Service's port.
    port: &'a str,
    protocol: &'a str,
    /// `yes`, `partly` or `no`
    used: &'static str,
    #[serde(flatten)]
    endpoint: &'a EndpointView,
}

/// For programs.
pub(super) fn list<'a>(services: &[&'a ServiceView]) -> EndpointList<'a> {
    let item = |(service, port, endpoint): (&'a ServiceView, &'a PortView, &'a EndpointView)| Item {
        service: full_name(service),
        port: &port.name,
        protocol: &port.protocol,
        used: service.uses(port, endpoint).as_str(),
        endpoint,
    };
    EndpointList { endpoints: all(services).map(item).collect() }
}

fn all<'a>(
    services: &[&'a ServiceView],
) -> impl Iterator<Item = (&'a ServiceView, &'a PortView, &'a EndpointView)> {
    services.iter().copied().flat_map(|service| {
        let of_port =
            move |port: &'a PortView| port.endpoints.iter().map(move |endpoint| (service, port, endpoint));
        service.ports.iter().flat_map(of_port)
    })
}

/// The text, with a newline at its end.
pub(super) fn table_of(services: &[&ServiceView], look: Look) -> String {
    let mut columns = vec!["SERVICE", "PORT", "ADDRESS", "NODE", "READY", "USED"];
    if look.wide {
        columns.extend(["SERVING", "TERMINATING", "SLICE"]);
    }
    columns.push("WHY-NOT");
    let mut table = table(&columns);
    for (service, port, endpoint) in all(services) {
        table.add_row(row(service, port, endpoint, look.wide));
    }
    for service in
        services.iter().filter(|service| service.ports.iter().all(|port| port.endpoints.is_empty()))
    {
        let mut row = vec![Cell::new(""); columns.len()];
        let unserved = service.problems.first().filter(|_| service.cluster_ips.is_empty());
        let why = unserved.map_or("no EndpointSlice has endpoints of it", String::as_str);
        row[0] = Cell::new(plain(&full_name(service)));
        row[columns.len() - 1] = Cell::new(plain(why)).fg(Color::Red);
        table.add_row(row);
    }
    finish(table, look.colour) + "\n"
}

fn row(service: &ServiceView, port: &PortView, endpoint: &EndpointView, wide: bool) -> Vec<Cell> {
    let text = |text: &str| Cell::new(if text.is_empty() { "-".to_owned() } else { plain(text) });
    let condition = |is: bool| Cell::new(if is { "true" } else { "false" });
    let address = match endpoint.address.port() {
        0 => endpoint.address.ip().to_string(),
        _ => endpoint.address.to_string(),
    };
    let name = if port.name.is_empty() { port.text() } else { port.name.clone() };
    let used = service.uses(port, endpoint);
    let colour = match used {
        Use::Full => Color::Green,
        Use::Partial => Color::Yellow,
        Use::Not => Color::Red,
    };
    let node = match (&endpoint.node, endpoint.local) {
        (Some(node), true) => format!("{node} (here)"),
        (node, _) => node.clone().unwrap_or_default(),
    };
    let mut row = vec![
        text(&full_name(service)),
        text(&name),
        Cell::new(address),
        text(&node),
        condition(endpoint.ready),
        Cell::new(used.as_str()).fg(colour),
    ];
    if wide {
        row.extend([condition(endpoint.serving), condition(endpoint.terminating), text(&endpoint.slice)]);
    }
    row.push(Cell::new(plain(endpoint.why_not.as_deref().unwrap_or_default())));
    row
}
