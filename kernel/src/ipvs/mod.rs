//! IPVS, the kernel's layer-4 load balancer, over generic netlink (`linux/ip_vs.h`).
//!
//! A virtual server ([`Server`], `struct ip_vs_service`) answers at a [`Frontend`] and hands connections to its
//! destinations ([`Destination`], `struct ip_vs_dest`). There are no transactions and no notifications: every change is
//! made by itself and refused by itself ([`Ipvs::run`]), and what others change is found by reading.
//!
//! Start reading at [`Ipvs`].

mod connection;
#[doc(hidden)]
pub mod fuzz;
mod info;
mod read;
mod refused;
mod remembered;
mod scheduler;
#[cfg(test)]
mod tests;
mod types;
mod uapi;
mod write;

pub use connection::Ipvs;
pub use refused::Refused;
pub use remembered::remembered;
pub use scheduler::{InvalidScheduler, Scheduler};
pub use types::{Destination, Frontend, Operation, Persistence, Server, Target, Timeouts, Traffic};

/// What a kernel without IPVS lacks.
const WHAT: &str = "IPVS (modules ip_vs and ip_vs_rr)";
