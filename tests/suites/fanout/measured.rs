//! Running it, and what it says.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{Namespace, binary};

/// Runs it somewhere.
pub(crate) fn fanout(place: &Namespace, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    command.arg("fanout").args(args);
    place.run(|| command.output())?.context("cannot run pointsman")
}

/// What it prints for programs.
pub(crate) fn report(place: &Namespace, args: &[&str]) -> Result<Value> {
    let output = fanout(place, &[args, &["-o", "json"]].concat())?;
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The one line that it fails with.
pub(crate) fn failure(place: &Namespace, args: &[&str]) -> Result<String> {
    let output = fanout(place, args)?;
    ensure!(!output.status.success(), "{args:?} works: {}", String::from_utf8_lossy(&output.stdout));
    let line = String::from_utf8(output.stderr)?;
    ensure!(line.starts_with("pointsman: ") && line.lines().count() == 1, "no one line: {line}");
    Ok(line)
}

/// A number in it.
pub(crate) fn number(report: &Value, path: &str) -> Result<u64> {
    let value = report.pointer(path).with_context(|| format!("no {path} in {report}"))?;
    value.as_u64().with_context(|| format!("{path} is {value}"))
}

/// Connections by endpoint: by its name if it has one, else by its address.
pub(crate) fn by_endpoint(report: &Value) -> Result<BTreeMap<String, u64>> {
    let endpoints = report["endpoints"].as_array().context("no endpoints")?;
    let of = |endpoint: &Value| {
        let who = endpoint.get("name").or_else(|| endpoint.get("address")).and_then(Value::as_str);
        Ok((who.context("nobody")?.to_owned(), number(endpoint, "/connections")?))
    };
    endpoints.iter().map(of).collect()
}

/// Every connection is accounted for, in whichever way they are counted.
pub(crate) fn is_exact(report: &Value, begun: u64) -> Result<()> {
    let answered = number(report, "/connections/answered")?;
    let failed = number(report, "/connections/failed")?;
    ensure!(number(report, "/connections/begun")? == begun && answered + failed == begun, "{report}");
    ensure!(by_endpoint(report)?.values().sum::<u64>() == answered, "{report}");
    let slices = report.pointer("/overTime/answered").and_then(Value::as_array).context("no slices")?;
    let counts = slices.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_u64);
    ensure!(counts.sum::<u64>() == answered, "over time: {report}");
    let failures = report["failures"].as_array().context("no failures")?;
    let counts = failures.iter().filter_map(|failure| failure["count"].as_u64());
    ensure!(counts.sum::<u64>() == failed, "failures: {report}");
    Ok(())
}
