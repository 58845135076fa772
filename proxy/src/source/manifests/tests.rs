//! Files in, updates out: what is read, and what a save changes.

use endpoint_cache::Update;
use endpoint_cache::object::{EndpointSlice, ObjectRef, Service};
use proptest::prelude::*;

use super::inventory::Content;
use super::parse::{Found, Parsed};
use super::*;

mod followed;
mod reading;
mod saving;

/// A Service's manifest.
fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: {ip}\n  ports:\n  - port: 80\n"
    )
}

/// Updates as short texts, sorted: `name ip` of a Service, `name count` of a slice, `-object` of what went.
fn brief(updates: impl IntoIterator<Item = Update>) -> Vec<String> {
    let brief = |update| match update {
        Update::Service(Service { metadata, spec, .. }) => format!("{} {}", metadata.name, spec.cluster_ip),
        Update::EndpointSlice(EndpointSlice { metadata, endpoints, .. }) => {
            format!("{} {}", metadata.name, endpoints.len())
        }
        Update::Node(node) => format!("node {}", node.metadata.name),
        Update::ServiceCidr(cidr) => format!("cidr {}", cidr.metadata.name),
        Update::Deleted(object) => format!("-{object}"),
        Update::ListBegins(kind) | Update::ListEnds(kind) => format!("a list of {kind}"),
    };
    let mut all: Vec<String> = updates.into_iter().map(brief).collect();
    all.sort();
    all
}

/// The objects of a text, and what else was found in it.
fn parse(text: &str, known: &dyn Fn(u64) -> Option<ObjectRef>) -> (Vec<Found<Update>>, Parsed) {
    let mut objects = Vec::new();
    let parsed = parse::parse(text, known, &mut |found| objects.push(found));
    (objects, parsed)
}
