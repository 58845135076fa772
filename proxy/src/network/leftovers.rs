//! What the pod network left on the node and nobody wants there any more.

use anyhow::Context;

use super::offer;
use crate::cli::NetworkFlags;

/// Takes away all that the pod network has on this node, but for what single pods have; whether there was anything.
///
/// # Errors
/// When something stays.
pub(crate) fn cleanup(flags: &NetworkFlags) -> anyhow::Result<bool> {
    let files = offer::cleanup(flags)?;
    let kernel = cni::network::cleanup().context("cannot remove the pod network")?;
    Ok(files | kernel)
}

/// Sets what takes more privileges than the work itself: the node forwards what pods send.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn initialise(flags: &NetworkFlags) -> anyhow::Result<()> {
    if flags.pod_network.backend().is_none() {
        return Ok(());
    }
    kernel::sysctl::set("net.ipv4.ip_forward", "1")?;
    // A kernel may have no IPv6.
    let ipv6 = "net.ipv6.conf.all.forwarding";
    if kernel::sysctl::get(ipv6).is_ok() {
        kernel::sysctl::set(ipv6, "1")?;
    }
    Ok(())
}
