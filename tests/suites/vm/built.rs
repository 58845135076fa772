//! The suites' programs, as cargo has built them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The programs of all suites by their names. Those that cargo leaves out because no host may be able to run them are
/// `only_here`.
pub(crate) fn executables(only_here: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let named: Vec<&str> = only_here.iter().flat_map(|target| ["--test", target]).collect();
    // With `--tests`, cargo would overlook what is named besides.
    Ok(build(&["--tests"])?.into_iter().chain(build(&named)?).collect())
}

fn build(targets: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    // As all tests are built: for some packages by themselves, dependencies would have other features, and be built again.
    command.args(["test", "--quiet", "--no-run", "--message-format=json", "--workspace"]).args(targets);
    // Build scripts run again when these change, and those that take long to build depend on it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|begin| text.starts_with(begin)) {
            command.env_remove(name);
        }
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo cannot build the suites");
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let artifacts = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    Ok(artifacts.filter_map(|artifact| suite(&artifact)).collect())
}

/// Name and program of a suite, if that is what was built. The name begins with the folder that it is in.
fn suite(artifact: &Value) -> Option<(String, PathBuf)> {
    let manifest = PathBuf::from(artifact.get("manifest_path")?.as_str()?);
    let folder = manifest.parent()?.file_name()?.to_string_lossy().into_owned();
    let target = artifact.get("target")?;
    let is_suite = target.get("kind")?.as_array()?.iter().any(|kind| kind == "test");
    let program = artifact.get("executable")?.as_str()?;
    is_suite.then_some((format!("{folder}-{}", target.get("name")?.as_str()?), program.into()))
}
