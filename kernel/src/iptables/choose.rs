//! Which back end is in use on a node.

use super::{Backend, Iptables, SavedLine, Table};
use crate::Error;

/// Chains that kubelet makes for this very purpose, in table mangle.
const HINTS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/// Which back end the node uses, decided as the Kubernetes iptables wrapper does (kubernetes-sigs/iptables-wrappers,
/// version 2): the one in which kubelet left a hint, nft before legacy, or else the one with more rules, or else nft. A
/// back end whose programs are not installed has no say, nor one whose programs fail.
///
/// # Errors
/// [`Error::NoProgram`] when neither is installed.
pub fn choose() -> Result<Backend, Error> {
    let installed = |backend| [false, true].map(|ipv6| Iptables::find(backend, ipv6));
    let (nft, legacy) = (installed(Backend::Nft), installed(Backend::Legacy));
    let choice = match (nft.iter().any(Result::is_ok), legacy.iter().any(Result::is_ok)) {
        (true, false) => Backend::Nft,
        (false, true) => Backend::Legacy,
        (true, true) => by_use(nft.iter().flatten(), legacy.iter().flatten()),
        (false, false) => {
            let missing = nft.into_iter().find_map(Result::err);
            return Err(missing.unwrap_or_else(|| Error::NoProgram { program: "iptables".to_owned() }));
        }
    };
    tracing::debug!(%choice, "which iptables the node uses");
    Ok(choice)
}

fn by_use<'a>(
    nft: impl Iterator<Item = &'a Iptables> + Clone,
    legacy: impl Iterator<Item = &'a Iptables> + Clone,
) -> Backend {
    if nft.clone().any(|nft| Traces::of(nft, Some(Table::Mangle)).hint) {
        return Backend::Nft;
    }
    // Asking for a table by name would make the kernel create it, and whoever comes next would see it in use.
    let in_legacy: Traces = legacy.map(|legacy| Traces::of(legacy, None)).sum();
    if in_legacy.hint {
        return Backend::Legacy;
    }
    let in_nft: Traces = nft.map(|nft| Traces::of(nft, None)).sum();
    if in_legacy.rules > in_nft.rules { Backend::Legacy } else { Backend::Nft }
}

/// What speaks for a back end being in use.
#[derive(Default)]
struct Traces {
    hint: bool,
    rules: usize,
}

impl Traces {
    fn of(iptables: &Iptables, table: Option<Table>) -> Self {
        let mut traces = Self::default();
        let listed = iptables.run_save(table, |_, line| match line {
            SavedLine::Chain(name) => traces.hint |= HINTS.iter().any(|hint| name.starts_with(hint)),
            SavedLine::Rule { .. } => traces.rules += 1,
        });
        if let Err(error) = listed {
            let backend = iptables.backend;
            tracing::warn!(%error, %backend, "cannot see whether this back end of iptables is in use");
        }
        traces
    }
}

impl std::iter::Sum for Traces {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            hint: sum.hint || one.hint,
            rules: sum.rules + one.rules,
        })
    }
}
