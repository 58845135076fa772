//! Everything Pointsman asks of Linux, typed and small.
//!
//! [`nft`] programs nftables in atomic batches and reads them back, [`iptables`] runs iptables' own programs, [`ipset`]
//! fills the sets that their rules match, [`ipvs`] programs virtual servers, [`link`] makes devices and gives them
//! addresses, [`netns`] opens and enters network namespaces, [`qdisc`] limits rates, [`route`] leads marked packets,
//! [`conntrack`] finds and removes flows, [`follow`] hears of them and of traced packets, [`nflog`] of logged ones,
//! [`socket`] carries traffic, [`sysctl`] reads and sets kernel parameters, [`process`] those of this process. This is
//! the only crate that performs kernel I/O. It knows nothing of Kubernetes (but for how its iptables wrapper chooses a
//! back end, [`iptables::choose`]), decides nothing, and never shells out for what netlink can do.
//!
//! Start reading at [`nft::Batch`] (how a transaction is written) and [`nft::Nftables`] (how it is committed and read).

pub mod conntrack;
mod error;
pub mod follow;
pub mod ipset;
pub mod iptables;
pub mod ipvs;
pub mod link;
mod mac;
pub mod neighbour;
mod netlink;
pub mod netns;
pub mod network;
pub mod nflog;
pub mod nft;
mod packet;
pub mod process;
pub mod qdisc;
pub mod route;
pub mod socket;
pub mod sysctl;

pub use error::Error;
pub use mac::{Mac, NoMac};
