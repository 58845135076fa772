//! Taking our chains away: kube-proxy's as well, since they are the same.

use endpoint_cache::Family;
use kernel::Error;
use kernel::iptables::{Backend, Iptables, SavedLine, Table};

use super::base;
use super::installed::Installed;
use super::layout::MARK_MASQ;
use super::script::Script;

/// Removes the chains of a back end that a kube-proxy has, and nothing else; says how many there were. What is not
/// installed has none.
pub(super) fn run(backend: Backend) -> Result<usize, Error> {
    let mut removed = 0;
    for family in Family::BOTH {
        if !backend.has_tables(family == Family::V6)? {
            continue;
        }
        match Iptables::find(backend, family == Family::V6) {
            Ok(iptables) => removed += clean(&iptables)?,
            Err(Error::NoProgram { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn clean(iptables: &Iptables) -> Result<usize, Error> {
    let mut installed = Installed::default();
    let mut kubelet = false;
    iptables.save_all(|table, line| {
        kubelet |= matches!(line, SavedLine::Chain(chain) if KUBELET.contains(&chain));
        installed.take_in(table, line);
    })?;
    let mut removed = 0;
    let unwanted = |table, chain: &str| {
        is_removable(&installed, kubelet, table, chain) || installed.has_own(table, chain)
    };
    for script in removal(&installed, unwanted) {
        for piece in script.pieces(super::tables::size(iptables.backend())) {
            iptables.restore(&piece.text())?;
            removed += piece.operations();
        }
    }
    Ok(removed)
}

/// Chains by which a kubelet is known to be there.
const KUBELET: [&str; 2] = ["KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"];

/// Chains that may be taken away, of whatever mode: the kubelet's as well, if there is none.
fn is_removable(installed: &Installed, kubelet: bool, table: Table, chain: &str) -> bool {
    let guard = base::FIREWALL;
    let guard_is_ours = !kubelet && installed.rules(table, guard).is_some_and(|rules| rules.len() <= 1);
    base::is_ours(table, chain) || (table == Table::Filter && chain == guard && guard_is_ours)
}

/// Removes service ports' chains and others that are not wanted: first what leads to what is unwanted, then service
/// ports' chains, then what they lead to. Whether rules of others that lead to service ports' chains go too is as those
/// are wanted.
pub(super) fn removal(installed: &Installed, is_unwanted: impl Fn(Table, &str) -> bool) -> [Script; 3] {
    let (mut leads, mut own, mut led_to) = (Script::default(), Script::default(), Script::default());
    for (table, chain, rules) in installed.others() {
        match is_unwanted(table, chain) {
            true if chain == MARK_MASQ => led_to.remove_other(table, chain),
            true => leads.remove_other(table, chain),
            // A chain of ours that stays has been written without them.
            false if base::is_ours(table, chain) => {}
            false => {
                let hooks = rules.iter().filter(|rule| is_unwanted(table, target(rule)));
                hooks.for_each(|rule| leads.unhook(table, chain, rule));
            }
        }
    }
    installed.own.keys().for_each(|chain| own.remove_chain(chain));
    [leads, own, led_to]
}

/// Where a rule leads.
pub(super) fn target(rule: &str) -> &str {
    rule.rsplit_once("-j ").map_or("", |(_, target)| target)
}
