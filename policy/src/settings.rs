//! What the user chose, for every enforcer.

use std::time::Duration;

use endpoint_cache::Family;

/// Which bits of the conntrack mark are taken unless the user says (`--policy-mark-mask`): none of kube-proxy's, the
/// kubelet's or Pointsman's own proxy modes'.
pub const MARK_MASK: u32 = 0x0fff_0000;

/// How policies are enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address families that the node has.
    pub families: Vec<Family>,
    /// What a denied packet meets (`--policy-denied`).
    pub denied: Denied,
    /// What becomes of connections under way that are allowed no longer (`--policy-established`, `--policy-drain`).
    pub established: Established,
    /// What an address meets that is a pod's by its range, when no such pod is known (`--policy-unknown-pods`).
    pub unknown_pods: UnknownPods,
    /// Whether denied packets are handed to NFLOG group [`LOG_GROUP`] (`--policy-log-denied`).
    pub log_denied: bool,
    /// Whether nothing is denied, only counted and logged (`--policy-audit`).
    pub audit: bool,
    /// The bits of the conntrack mark that tell what was allowed: contiguous, and at least [`LEAST_MARK_BITS`]
    /// (`--policy-mark-mask`).
    pub mark_mask: u32,
}

/// How many bits of the conntrack mark it takes at least to tell connections allowed of late from older ones.
pub const LEAST_MARK_BITS: u32 = 4;

/// The NFLOG group that denied packets are handed to.
pub const LOG_GROUP: u16 = 7_112;

/// What a denied packet meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denied {
    /// An answer that says so: a reset, or `port unreachable`.
    #[default]
    Reject,
    /// Silence.
    Drop,
}

/// What becomes of connections under way that are allowed no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Established {
    /// Their next packet is denied.
    #[default]
    Cut,
    /// They may go on for so long.
    Drain(Duration),
    /// They go on to their end.
    Keep,
}

/// What an address meets that lies in the node's pod ranges and is of no pod that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownPods {
    /// It is denied both ways: a pod is not open before its policies are in force.
    #[default]
    Deny,
    /// It is no business of policies.
    Allow,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            families: Family::BOTH.into(),
            denied: Denied::default(),
            established: Established::default(),
            unknown_pods: UnknownPods::default(),
            log_denied: false,
            audit: false,
            mark_mask: MARK_MASK,
        }
    }
}
