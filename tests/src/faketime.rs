//! Another time for a program, by libfaketime.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::proxy::Environment;

/// The time of day is shifted by what a file says, `+400d` or `-1`, from one moment to the next. Nobody can set the clock
/// that durations are measured by.
///
/// # Errors
/// When libfaketime is not installed.
pub fn shifted_by(file: &Path) -> Result<Environment> {
    Ok(vec![
        ("LD_PRELOAD", library()?),
        ("FAKETIME_TIMESTAMP_FILE", file.to_string_lossy().into_owned()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

/// All clocks run so much faster, and whatever is waited for so long comes so much sooner.
///
/// # Errors
/// When libfaketime is not installed.
pub fn faster(times: u32) -> Result<Environment> {
    Ok(vec![("LD_PRELOAD", library()?), ("FAKETIME", format!("+0 x{times}"))])
}

fn library() -> Result<String> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(Result::ok).map(|entry| entry.path());
    let found: Option<PathBuf> =
        folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    let found = found.context("there is no libfaketime: apt-get install faketime")?;
    Ok(found.to_string_lossy().into_owned())
}
