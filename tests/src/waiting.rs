//! Waiting for what no event tells.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Longer than anything takes that is waited for, in an emulated machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until something is so.
///
/// # Errors
/// When it does not come about, or looking fails.
pub fn await_that(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "it does not come about that {what}");
    }
    Ok(())
}
