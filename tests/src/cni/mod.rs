//! A container runtime, as far as CNI plugins see one, and what it works on: nodes with folders of their own, pods, and a
//! look at everything that plugins could leave behind.
//!
//! [`Runtime`] follows libcni: a list of plugins is run in order, each is told what those before it made, results are kept
//! for CHECK and DEL, which runs the list backwards, and each plugin is told only what its capabilities name. Plugins are
//! found beside the program that tests them, then where Debian has its own.

mod call;
mod list;
mod pod;
mod runtime;
mod there;

pub use call::{Answer, Call, Refused, refused};
pub use list::{Attachment, List};
pub use pod::{PORT, Pod};
pub use runtime::Runtime;
pub use there::There;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::namespace::Namespace;
use crate::proxy;

/// Where Debian's package `containernetworking-plugins` has them.
const DEBIAN: &str = "/usr/lib/cni";

/// A node: a network namespace that forwards, where `/etc`, `/var/lib` and `/run/pointsman` are its own.
///
/// # Errors
/// When the kernel refuses.
pub fn node(name: &str) -> Result<Namespace> {
    let node = Namespace::new(name)?.with_own_folders(&["/etc", "/var/lib"], &["/run/pointsman"])?;
    node.sysctl("net/ipv4/ip_forward", "1")?;
    node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    Ok(node)
}

/// Where plugins are looked for.
///
/// # Errors
/// When ours are not built, or Debian's are not installed.
pub fn search_path() -> Result<Vec<PathBuf>> {
    let own = proxy::sibling("pointsman-cni")?;
    proxy::sibling("pointsman-ipam")?;
    let debian = PathBuf::from(DEBIAN);
    ensure!(
        debian.join("host-local").is_file(),
        "there are no plugins in {DEBIAN}: apt-get install containernetworking-plugins"
    );
    Ok(own.parent().map(PathBuf::from).into_iter().chain([debian]).collect())
}
