//! Taking away what the captured entry has in the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::return_path;
use super::{ADDRESSES, LedBy};
use crate::Error;

/// Removes all that this entry has besides what the mode that leads to it has; says how much there was.
///
/// # Errors
/// When the kernel cannot be read, or refuses.
pub fn cleanup(addresses: &[IpAddr]) -> Result<usize, Error> {
    let addresses: BTreeSet<IpAddr> = addresses.iter().copied().chain(ADDRESSES).collect();
    let addresses: Vec<IpAddr> = addresses.into_iter().collect();
    Ok(return_path::remove_rules(None)? + return_path::remove(&addresses)?)
}

/// Removes rules that an earlier process left which was led to by another mode; says how many tables and chains.
///
/// # Errors
/// As [`cleanup`].
pub fn retire_rules(kept: LedBy) -> Result<usize, Error> {
    return_path::remove_rules(Some(kept))
}
