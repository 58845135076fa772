//! KubeProxyConfiguration: kube-proxy's configuration file, read, shown, checked and followed.
//!
//! The command line and a file lead to the same [`KubeProxyConfiguration`] (`schema`), of which [`crate::options`] makes
//! sense. `decode` reads a file, `load` decides between the file and the flags, `change` tells what another
//! configuration takes (`watch` hears of it), `check` is `pointsman check-config`.

mod change;
mod check;
mod decode;
mod duration;
mod fields;
mod load;
mod schema;
mod watch;

pub(crate) use change::Change;
pub(crate) use check::check;
pub use decode::{Decoded, Doubt, Undecodable, decode};
pub use duration::{GoDuration, NoDuration};
pub(crate) use fields::changed_fields;
pub(crate) use load::{Loaded, load, reload};
pub use schema::{
    API_VERSION, ClientConnection, Conntrack, DetectLocal, Iptables, Ipvs, KIND, KubeProxyConfiguration,
    LogOptions, LogRouting, Logging, Nftables, VmoduleItem, Winkernel,
};
pub(crate) use watch::watch;
