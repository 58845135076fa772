//! `pointsman trace`, asked on the node.

use std::net::SocketAddr;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::place::Protocol;
use crate::proxy::binary;

/// Runs it with these arguments, whatever comes of it.
///
/// # Errors
/// When it is not built.
pub fn run(node: &Namespace, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.arg("trace").args(args);
    node.run(|| command.output())?.context("cannot run pointsman trace")
}

/// What it tells of a connection, for programs.
///
/// # Errors
/// When it fails, with what it said.
pub fn ask(node: &Namespace, source: &str, destination: &str, more: &[&str]) -> Result<Vec<Value>> {
    let output = run(node, &[&["-s", source, destination, "-o", "json"], more].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "trace -s {source} {destination}: {}", said.trim());
    let mut report: Value = serde_json::from_slice(&output.stdout).context("trace's JSON")?;
    match report["traces"].take() {
        Value::Array(traces) if !traces.is_empty() => Ok(traces),
        other => anyhow::bail!("trace -s {source} {destination} tells {other}"),
    }
}

/// A destination, as the command line takes it.
#[must_use]
pub fn destination(to: SocketAddr, protocol: Protocol) -> String {
    format!("{to}/{}", protocol.name().to_lowercase())
}

/// The names of what it finds; first what stands in the way.
#[must_use]
pub fn findings(trace: &Value) -> Vec<&str> {
    let findings = trace["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().filter_map(|finding| finding["name"].as_str()).collect()
}
