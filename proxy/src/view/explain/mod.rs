//! `pointsman explain`: what follows on this node from each field of a Service.

mod endpoints;
mod facts;
mod node;
#[cfg(test)]
mod tests;

use comfy_table::{Attribute, Cell, ContentArrangement};
use serde::Serialize;

use super::client;
use super::lookup::{Named, full_name, service};
use super::{ServiceView, View};
use crate::cli::ExplainFlags;
use crate::output::{self, Look, finish, plain, table};

/// A Service, field by field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Explanation {
    /// `namespace/name`
    service: String,
    node: String,
    mode: String,
    facts: Vec<Fact>,
    /// What is wrong; a sentence each.
    problems: Vec<String>,
}

/// What follows from a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Fact {
    /// As `kubectl explain` names it, or a setting of the node's proxy.
    field: String,
    value: String,
    /// In a sentence.
    meaning: String,
}

impl Fact {
    fn new(field: impl Into<String>, value: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.into(), meaning: meaning.into() }
    }
}

/// Asks, and prints the explanation.
///
/// # Errors
/// When nobody answers, or the Service is not known, with what to do about it.
pub(crate) fn explain(flags: &ExplainFlags, socket: Option<&str>) -> anyhow::Result<()> {
    let view = client::ask(socket)?;
    let named = Named::read(&flags.service).within(flags.namespace.as_deref());
    let explanation = explanation(&view, service(&view, named)?);
    output::show(&explanation, flags.output, render)
}

fn explanation(view: &View, service: &ServiceView) -> Explanation {
    // What is not served has no fields that anything follows from.
    let served = !service.cluster_ips.is_empty();
    let facts = if served {
        [facts::of(view, service), endpoints::of(view, service), node::of(view, service)].concat()
    } else {
        Vec::new()
    };
    Explanation {
        service: full_name(service),
        node: view.node.clone(),
        mode: view.mode.clone(),
        facts,
        problems: service.problems.clone(),
    }
}

/// The text, with a newline at its end.
fn render(explanation: &Explanation, look: Look) -> String {
    let Explanation { service, node, mode, .. } = explanation;
    let mut text = plain(&format!("Service {service} on node {node}, in {mode} mode"));
    text += "\n\n";
    let mut table = table(&["FIELD", "VALUE", "WHAT FOLLOWS"]);
    if look.colour {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for Fact { field, value, meaning } in &explanation.facts {
        let value = Cell::new(plain(value)).add_attribute(Attribute::Bold);
        table.add_row([Cell::new(plain(field)), value, Cell::new(plain(meaning))]);
    }
    if !explanation.facts.is_empty() {
        text += &finish(table, look.colour);
        text += "\n";
    }
    for problem in &explanation.problems {
        text += &plain(problem);
        text += "\n";
    }
    text
}
