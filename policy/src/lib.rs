//! NetworkPolicies, compiled for one node, and enforced.
//!
//! Objects go in as [`Update`]s; [`Compiler`] keeps the [`Program`] of the node and tells what changed of it as a
//! [`Delta`]. Both are pure. An [`Enforcer`] puts them into the kernel: [`nftables::Nftables`] for one.
//!
//! Start reading at `program.rs`; `verdict.rs` says what a program means.

mod claims;
mod clauses;
mod compiler;
mod digest;
mod enforcer;
mod generations;
pub mod iptables;
mod members;
pub mod nftables;
pub mod object;
mod pod;
mod policy;
mod program;
mod ranges;
mod selector;
mod settings;
mod snapshot;
mod update;
mod verdict;

pub use compiler::Compiler;
pub use enforcer::{Counts, Enforcer, Error, Report, Watch};
pub use policy::{Direction, Mistake, Peer, Policy, Port, Rule};
pub use program::{
    Change, Clause, Clauses, Delta, Member, Members, PolicyKey, PortMatch, Profile, Program, SetChange,
    SetKey,
};
pub use selector::{Labels, Namespaces, PodSelector, Selector};
pub use settings::{Denied, Established, LEAST_MARK_BITS, LOG_GROUP, MARK_MASK, Settings, UnknownPods};
pub use snapshot::{PodFacts, Snapshot};
pub use update::Update;
pub use verdict::{Connection, Side, Verdict};
