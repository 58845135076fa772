//! Where a tool takes pods, namespaces and policies from.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use kernel::link::Links;
use policy::{Compiler, Update};

use super::judge::Cluster;
use crate::policy::PolicyView;
use crate::source::manifests;
use crate::status::{client, place};

/// How long the answer may take: longer than the other side waits for its policy loop.
const WITHIN: Duration = Duration::from_secs(20);

/// What a tool knows.
pub(super) struct Known {
    pub(super) view: PolicyView,
    /// The addresses of this node's; none if files are asked.
    own: Vec<IpAddr>,
}

impl Known {
    /// What files hold, or the process that runs on this machine.
    pub(super) fn of(manifests: Option<&Path>, socket: Option<&str>) -> anyhow::Result<Self> {
        match manifests {
            Some(path) => Ok(Self { view: of_files(path)?, own: Vec::new() }),
            None => {
                let view = ask(socket).context("cannot ask about policies (or give --manifests)")?;
                Ok(Self { view, own: own_addresses()? })
            }
        }
    }

    /// What policies say.
    pub(super) fn cluster(&self) -> Cluster {
        let own = self.own.clone();
        Cluster::new(&self.view, move |address| own.contains(&address))
    }
}

/// What policies say, by the process that answers at this socket, or where one answers by default.
///
/// # Errors
/// When nobody answers, or not in time, or it enforces no policies.
pub(crate) fn cluster(socket: Option<&str>) -> anyhow::Result<Cluster> {
    Ok(Known::of(None, socket)?.cluster())
}

fn ask(socket: Option<&str>) -> anyhow::Result<PolicyView> {
    client::ask(&place::to_ask(socket)?, "/policies", WITHIN)
}

fn own_addresses() -> anyhow::Result<Vec<IpAddr>> {
    let mut links = Links::open().context("cannot read this node's addresses")?;
    let addresses = links.addresses().context("cannot read this node's addresses")?;
    Ok(addresses.into_iter().map(|address| address.address).collect())
}

/// What a folder of manifests, or one file, tells of a cluster.
fn of_files(path: &Path) -> anyhow::Result<PolicyView> {
    let mut compiler = Compiler::of_every_node();
    read::<Update>(path)?.into_iter().for_each(|update| compiler.apply(update));
    drop(compiler.take_delta());
    Ok(PolicyView { denies_unknown: true, snapshot: compiler.snapshot(), ..PolicyView::default() })
}

/// All objects of these files; none if one of them cannot be used.
pub(super) fn read<U: crate::source::Vocabulary>(path: &Path) -> anyhow::Result<Vec<U>> {
    let (updates, problems) =
        manifests::read_once(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(updates)
}
