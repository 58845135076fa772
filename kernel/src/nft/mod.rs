//! nftables over netlink: typed objects, transactions, and reading back.
//!
//! A [`Batch`] collects operations on one table; [`Nftables::commit`] applies it whole. [`Nftables`] also lists what
//! the kernel holds, in the same types; [`Content`] is a table as it should be, and tells what mends the one there is; a [`Monitor`] hears of changes that others make; a [`Tracer`] has packets traced. Rules are made of [`expr`]essions that work on registers; keys and values of
//! [`Set`]s are bytes in registers' layout, every field padded to four bytes.
//!
//! Mirrors `linux/netfilter/nf_tables.h`.

mod batch;
mod connection;
mod content;
pub mod expr;
mod monitor;
mod read;
mod rule;
pub(crate) mod trace;
mod tracer;
mod types;
mod uapi;
mod userdata;
mod write;

pub use batch::Batch;
pub use connection::Nftables;
pub use content::{Content, Installed, Mending};
pub use monitor::{Disturbance, Monitor};
pub use read::InstalledSet;
pub use rule::{CountedRule, Fingerprint, InstalledRule, ListedRule, Rule, hash};
pub use trace::{Met, TraceStep};
pub use tracer::{TraceFilter, TraceLimit, Tracer};
pub use types::{
    Bytes, Chain, ChainType, Data, DataType, Element, Family, Hook, HookPoint, ListedChain, MapTo, Set,
    Table, Verdict, octets,
};
pub use userdata::listable;
