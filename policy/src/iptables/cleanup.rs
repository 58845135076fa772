//! Taking all of ours away.

use std::thread;
use std::time::{Duration, Instant};

use endpoint_cache::Family;
use kernel::ipset::Ipsets;
use kernel::iptables::{Backend, Iptables as Programs, Table};

use super::installed::Installed;
use super::names::is_own_set;
use super::script::Script;
use crate::enforcer::Error;

/// How long rules of iptables-nft may take to let go of a set after they are gone, and how often that is looked at.
const LETTING_GO: Duration = Duration::from_secs(2);
const MOMENT: Duration = Duration::from_millis(5);

/// Removes our chains from both back ends and our sets, and nothing else; says whether there were any. A back end that is
/// not installed has none.
///
/// # Errors
/// When the rules cannot be read, or are not let go of.
pub fn cleanup() -> Result<bool, Error> {
    let mut removed = false;
    for backend in Backend::BOTH {
        for family in Family::BOTH {
            removed |= clean_rules(backend, family)?;
        }
    }
    let mut ipsets = match Ipsets::open() {
        Err(kernel::Error::Unsupported { .. }) => return Ok(removed),
        opened => opened?,
    };
    for header in ipsets.headers()? {
        if Family::BOTH.iter().any(|family| is_own_set(&header.name, *family)) {
            match destroy(&mut ipsets, &header.name) {
                Ok(()) => removed = true,
                // Rules of others may look there; that is theirs to end.
                Err(error) => tracing::warn!("a set is left: {error}"),
            }
        }
    }
    Ok(removed)
}

fn clean_rules(backend: Backend, family: Family) -> Result<bool, Error> {
    if !backend.has_tables(family == Family::V6)? {
        return Ok(false);
    }
    let programs = match Programs::find(backend, family == Family::V6) {
        Err(kernel::Error::NoProgram { .. }) => return Ok(false),
        found => found?,
    };
    let mut installed = Installed::default();
    programs.save_all(|table, line| {
        if table == Table::Filter {
            installed.take_in(line);
        }
    })?;
    let mut script = Script::default();
    installed.hooks().iter().for_each(|(chain, rule)| script.delete(chain, rule));
    installed.chains().for_each(|chain| script.remove(chain.clone()));
    if script.is_empty() {
        return Ok(false);
    }
    programs.restore(&script.text())?;
    Ok(true)
}

fn destroy(ipsets: &mut Ipsets, name: &str) -> Result<(), kernel::Error> {
    let deadline = Instant::now() + LETTING_GO;
    loop {
        match ipsets.destroy(name) {
            Err(error) if error.is_busy() && Instant::now() < deadline => thread::sleep(MOMENT),
            result => return result,
        }
    }
}
