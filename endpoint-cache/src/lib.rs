//! The model of a cluster's Services as one node sees them.
//!
//! Kubernetes objects go in as [`Update`]s; out come [`Delta`]s: per service port and address family, what a mode has
//! to program ([`ServicePort`]), before and after. Which endpoints traffic may use (topology hints, traffic policies,
//! the terminating fallback) is decided here, once, for every mode.
//!
//! This crate is pure: no I/O, no clock, no threads, no async. The same objects give the same state in whatever order
//! they arrive. Start reading at [`Cache`], then `select.rs` for how endpoints are chosen.

mod address;
mod cache;
mod claims;
mod delta;
mod field;
mod intern;
mod node;
pub mod object;
mod portrait;
mod problem;
mod publish;
mod relist;
mod select;
mod service;
mod service_port;
mod slice;
mod tally;
mod trigger;
mod why_not;

pub use address::{parse_address, parse_range};
pub use cache::{Cache, Update};
pub use delta::{Change, Delta, Desired, Problem};
pub use node::Eligibility;
pub use portrait::{
    Distribution, EndpointPortrait, PortPortrait, Portrait, ServiceType, SpecPortrait, Unserved,
};
pub use relist::Relists;
pub use service_port::{
    Endpoint, Family, HealthCheck, NodeState, Protocol, ServicePort, ServicePortName, Traffic, TrafficPolicy,
};
pub use tally::{Census, Count, Tally};
pub use trigger::Trigger;
pub use why_not::{Local, WhyNot};
