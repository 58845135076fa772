//! What the pod network left on the node and nobody wants there any more.

use std::path::Path;

use anyhow::Context;

use super::bird::Place;
use super::{files, folder, offer};
use crate::cli::NetworkFlags;

/// Who changes the ports of pods holds this.
const PORTS_LOCK: &str = "/run/pointsman/hostport.lock";

/// Takes away all that the pod network has on this node, but for what single pods have; whether there was anything.
///
/// # Errors
/// When something stays.
pub(crate) fn cleanup(flags: &NetworkFlags) -> anyhow::Result<bool> {
    let offered = offer::cleanup(flags)?;
    let bird = Place::within(&folder(&flags.pod_network_file), flags.pod_network_bird.clone()).remove()?;
    let kernel = cni::network::cleanup().context("cannot remove the pod network")?;
    let ports = match cni::attach::remove_all_ports() {
        Ok(ports) => ports,
        // Then there are no ports either.
        Err(cni::attach::Error::Kernel(kernel::Error::Unsupported { .. })) => false,
        Err(error) => return Err(error).context("cannot remove the ports of pods"),
    };
    // Taken even to look whether there are any.
    let lock = files::remove(Path::new(PORTS_LOCK)).with_context(|| format!("cannot remove {PORTS_LOCK}"))?;
    Ok(offered | bird | kernel | ports | lock)
}
