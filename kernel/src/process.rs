//! What the kernel knows of this process.

use std::fs;

use crate::Error;

/// How soon the kernel kills this process when memory is short, from -1000, never, to 1000, first. Says whether it wrote:
/// a value that is right already needs no privilege.
///
/// # Errors
/// When it may not be set so low.
pub fn set_oom_score_adj(value: i32) -> Result<bool, Error> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let read = fs::read_to_string(FILE).map_err(|source| Error::io(format!("read {FILE}"), source))?;
    if read.trim().parse() == Ok(value) {
        return Ok(false);
    }
    fs::write(FILE, value.to_string())
        .map(|()| true)
        .map_err(|source| Error::io(format!("write {value} to {FILE}"), source))
}
