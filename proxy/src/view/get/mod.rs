//! `pointsman get`: Services and endpoints in kubectl's manner.

mod endpoints;
mod services;

use std::io::{self, Write};

use super::lookup::{Named, service};
use super::{ServiceView, View, client};
use crate::cli::{GetFlags, GetKind, Output};
use crate::output;

/// Asks, and prints what was asked for.
///
/// # Errors
/// When nobody answers, or a Service is not known, with what to do about it.
pub(crate) fn get(flags: &GetFlags, socket: Option<&str>) -> anyhow::Result<()> {
    let view = client::ask(socket)?;
    let services = chosen(&view, flags)?;
    if services.is_empty() && matches!(flags.output, Output::Table | Output::Wide) {
        // A closed stderr is no reason to fail.
        drop(writeln!(io::stderr(), "{}", nothing(flags)));
        return Ok(());
    }
    match flags.kind {
        GetKind::Services => {
            let services = services.into_iter().cloned().collect();
            output::show(&View { services, ..view }, flags.output, |view, look| {
                services::table_of(&view.services, look)
            })
        }
        GetKind::Endpoints => output::show(&endpoints::list(&services), flags.output, |_, look| {
            endpoints::table_of(&services, look)
        }),
    }
}

/// The Services that the flags ask for, in the view's order unless they name them.
fn chosen<'a>(view: &'a View, flags: &GetFlags) -> anyhow::Result<Vec<&'a ServiceView>> {
    let namespace = flags.namespace.as_deref();
    if !flags.names.is_empty() {
        let named = flags.names.iter().map(|name| Named::read(name).within(namespace));
        return named.map(|named| service(view, named)).collect();
    }
    let here = |service: &&ServiceView| namespace.is_none_or(|namespace| service.namespace == namespace);
    Ok(view.services.iter().filter(here).collect())
}

fn nothing(flags: &GetFlags) -> String {
    match &flags.namespace {
        Some(namespace) => format!("no Services in namespace {namespace}"),
        None => "no Services".to_owned(),
    }
}
