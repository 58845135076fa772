//! The Dockerfile, as far as it can be checked without building it: it parses, its stages lead to each other, and what it
//! copies is there.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use dockerfile_parser::{CopyInstruction, Dockerfile, Instruction, Stage};

use crate::manifests::root;

pub(crate) fn its_stages_and_files_are_there() -> Result<()> {
    let text = fs::read_to_string(root().join("deploy/Dockerfile"))?;
    let dockerfile = Dockerfile::parse(&text)?;
    let stages: Vec<Stage<'_>> = dockerfile.iter_stages().collect();
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
    ensure!(names == ["build", "nftables", "pointsman"], "{names:?}");
    let mut copied = BTreeSet::new();
    for (at, stage) in stages.iter().enumerate() {
        for copy in stage.instructions.iter().filter_map(|instruction| instruction.as_copy()) {
            match from(copy) {
                Some(from) => ensure!(names[..at].contains(&from), "nothing before is called {from}"),
                None => copied.extend(copy.sources.iter().map(|source| source.content.clone())),
            }
        }
        ensure!(
            stage.instructions.iter().all(|instruction| is_known(instruction)),
            "an instruction is misspelt in stage {:?}",
            stage.name
        );
    }
    for file in &copied {
        ensure!(root().join(file).exists(), "{file} is copied and not there");
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).context("no members")?;
    for member in serde_json::from_str::<Vec<String>>(members)? {
        ensure!(copied.contains(&member), "{member} is needed to build and is not copied");
    }
    Ok(())
}

/// The stage that something is copied from.
fn from(copy: &CopyInstruction) -> Option<&str> {
    copy.flags.iter().find(|flag| flag.name.content == "from").map(|flag| flag.value.content.as_str())
}

/// The parser takes any word for an instruction.
fn is_known(instruction: &Instruction) -> bool {
    instruction.as_misc().is_none_or(|other| other.instruction.content == "WORKDIR")
}
