//! What the pod network left on the node and nobody wants there any more.

use anyhow::Context;

use super::bird::Place;
use super::{folder, offer};
use crate::cli::NetworkFlags;

/// Takes away all that the pod network has on this node, but for what single pods have; whether there was anything.
///
/// # Errors
/// When something stays.
pub(crate) fn cleanup(flags: &NetworkFlags) -> anyhow::Result<bool> {
    let files = offer::cleanup(flags)?;
    let bird = Place::within(&folder(&flags.pod_network_file), flags.pod_network_bird.clone()).remove()?;
    let kernel = cni::network::cleanup().context("cannot remove the pod network")?;
    let ports = match cni::attach::remove_all_ports() {
        Ok(ports) => ports,
        // Then there are no ports either.
        Err(cni::attach::Error::Kernel(kernel::Error::Unsupported { .. })) => false,
        Err(error) => return Err(error).context("cannot remove the ports of pods"),
    };
    Ok(files | bird | kernel | ports)
}
