//! Which processes changed iptables on our behalf.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How many are remembered: process ids are used again, though not soon.
const REMEMBERED: usize = 1024;
/// `TASK_COMM_LEN` without the terminating NUL.
const COMM: usize = 15;

/// Processes that were run to change iptables, shared between who runs them and who listens for changes by others.
#[derive(Clone, Debug, Default)]
pub struct OwnProcesses(Arc<Mutex<VecDeque<Process>>>);

#[derive(Debug)]
struct Process {
    id: u32,
    /// What the kernel calls it, which is the start of its file's name.
    name: String,
}

impl OwnProcesses {
    /// Those that anybody in this program ran, whoever else they are counted among.
    #[must_use]
    pub fn of_this_program() -> Self {
        static ALL: OnceLock<OwnProcesses> = OnceLock::new();
        ALL.get_or_init(Self::default).clone()
    }

    /// Whether a process of this id was one of the last 1024.
    #[must_use]
    pub fn contains(&self, pid: u32) -> bool {
        self.lock().iter().any(|process| process.id == pid)
    }

    pub(super) fn register(&self, id: u32, file_name: &str) {
        let name = file_name.chars().take(COMM).collect();
        let mut processes = self.lock();
        if processes.len() == REMEMBERED {
            processes.pop_front();
        }
        processes.push_back(Process { id, name });
    }

    /// Whether one of them made a transaction of nftables, by what the kernel tells of it.
    ///
    /// The process id that it tells is that of the machine's process namespace, which we do not know when we run in a
    /// container. But libmnl lets the kernel choose its socket's port, and that is the process id in the process's own
    /// namespace, unless it is taken. As other containers' processes may have either number, the name must match too.
    pub(crate) fn made(&self, pid: Option<u32>, port: u32, program: Option<&str>) -> bool {
        self.lock()
            .iter()
            .any(|own| (own.id == port || Some(own.id) == pid) && program.is_none_or(|name| name == own.name))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known_to_everyone_who_shares_them() {
        let own = OwnProcesses::default();
        let shared = own.clone();
        (1..=1025).for_each(|id| own.register(id, "iptables-nft-restore"));
        assert!(!shared.contains(1) && shared.contains(2) && shared.contains(1025) && !shared.contains(1026));
    }

    #[test]
    fn a_transaction_is_ours_by_id_or_port_and_name() {
        let own = OwnProcesses::default();
        own.register(7, "iptables-nft-restore");
        let name = Some("iptables-nft-re");
        assert!(own.made(Some(7), 0, name) && own.made(Some(9000), 7, name) && own.made(Some(7), 7, None));
        assert!(!own.made(Some(8), 8, name) && !own.made(Some(7), 7, Some("iptables")));
    }
}
