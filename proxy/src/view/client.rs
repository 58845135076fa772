//! Asking the process that runs on this machine what it sees.

use std::time::Duration;

use super::View;
use crate::status::{client, place};

/// How long the answer may take: longer than the other side waits for its sync loop.
const WITHIN: Duration = Duration::from_secs(20);

/// The Services and endpoints as the process sees them that answers at this socket, or where one answers by default.
///
/// # Errors
/// When nobody answers, or not in time, with what to do about it.
pub(crate) fn ask(socket: Option<&str>) -> anyhow::Result<View> {
    client::ask(&place::to_ask(socket)?, "/view", WITHIN)
}
