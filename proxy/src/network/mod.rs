//! The pod network in this process: a source, a loop and what it drives, beside the proxy's and policies'.
//!
//! `keep` is the loop, which asks the `kernel`; `offer` tells the CNI plugin and container runtimes that there is a network;
//! new pods wait at the `gate`; `bird` keeps BIRD running, and asks it by its `control` socket.

mod bird;
mod control;
mod doctor;
mod files;
mod gate;
mod input;
mod keep;
mod kernel;
mod leftovers;
mod offer;
mod prepare;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Context;
use cni::network::{Applier, Backend, Nodes, Settings, Update};
use endpoint_cache::Family;
use ipnet::IpNet;

pub(crate) use self::doctor::main as doctor;
pub(crate) use self::leftovers::cleanup;
pub(crate) use self::prepare::initialise;
use crate::cli::{Cli, NetworkFlags};
use crate::config::Loaded;
use crate::event_loop::{self, channel};
use crate::options::Origin;
use crate::policy::Desk;
use crate::source::kubernetes::{Annotator, Kubernetes};
use crate::source::manifests::Manifests;
use crate::source::{self, Source};
use crate::telemetry::{Joined, Socket, Telemetry};
use bird::{Bird, Place};
use input::{Inbox, Input, Message};
use keep::{NetworkLoop, Own};
use offer::Offer;

/// Where Nodes come from, and how they are joined.
#[derive(Debug)]
pub(crate) struct Asked {
    origin: Origin,
    node_name: String,
    watch_silence: Duration,
    telemetry: Arc<Telemetry>,
    /// Where policies are asked, if this process enforces them.
    policies: Option<Arc<Desk>>,
    settings: Settings,
    flags: NetworkFlags,
}

impl Asked {
    /// What a command line asks for, on a node with these families; nothing if it asks for no pod network.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(crate) fn of(
        cli: &Cli,
        loaded: &Loaded,
        families: Vec<Family>,
        telemetry: &Arc<Telemetry>,
    ) -> anyhow::Result<Option<Self>> {
        // What makes no sense there was refused before.
        let cluster_cidrs: Vec<IpNet> = loaded
            .configuration
            .cluster_cidr
            .split(',')
            .filter_map(|word| word.trim().parse().ok())
            .collect();
        let Some(settings) = cli.network.settings(families, &cluster_cidrs) else { return Ok(None) };
        let options = &loaded.options;
        Ok(Some(Self {
            origin: options.origin(cli),
            node_name: options.node_name()?,
            watch_silence: cli.watch_silence,
            telemetry: Arc::clone(telemetry),
            policies: None,
            settings,
            flags: cli.network.clone(),
        }))
    }

    /// With new pods waiting for policies, which are asked there.
    pub(crate) fn with_policies(self, policies: Option<Arc<Desk>>) -> Self {
        Self { policies, ..self }
    }

    /// Makes everything ready; nothing is programmed yet.
    ///
    /// # Errors
    /// When the source cannot be opened, or the kernel cannot do what is asked for.
    fn prepare(self) -> anyhow::Result<Prepared> {
        let Self { origin, node_name, watch_silence, telemetry, policies, settings, flags } = self;
        let source: Box<dyn Source<Update>> = match &origin {
            Origin::Manifests(path) => Box::new(Manifests::open(path)?),
            Origin::Kubernetes(access) => {
                let (access, telemetry) = (access.clone(), Arc::clone(&telemetry));
                Box::new(Kubernetes::open(access, &node_name, watch_silence, telemetry)?)
            }
        };
        let annotator = match &origin {
            Origin::Kubernetes(access) => {
                Some(Annotator::start(access.clone(), &node_name, Arc::clone(&telemetry.network))?)
            }
            Origin::Manifests(_) => None,
        };
        let kernel = Applier::open(settings.clone()).context("cannot program the pod network")?;
        let (inbox, inputs) = channel();
        let bird = match settings.backend {
            Backend::Bgp => {
                let place = Place::within(&folder(&flags.pod_network_file), flags.pod_network_bird.clone());
                Some(Bird::begin(place, inbox.clone(), Arc::clone(&telemetry.network))?)
            }
            Backend::Vxlan | Backend::HostGw => None,
        };
        let own = own(&node_name, &settings, &flags);
        let (backend, data_path) = (own.backend, own.data_path);
        telemetry.network.is_joined(Joined { backend, data_path });
        tracing::info!(backend, data_path, "giving pods their network");
        let gate = gate::open(&flags.pod_network_gate_socket, policies, Arc::clone(&telemetry.network))?;
        let nodes = Nodes::new(node_name, settings);
        let network_loop = NetworkLoop::new(own, nodes, Box::new(kernel), Offer::of(&flags), telemetry)
            .with_annotator(annotator)
            .with_bird(bird);
        Ok(Prepared { network_loop, source, inbox, inputs, gate })
    }
}

fn own(node_name: &str, settings: &Settings, flags: &NetworkFlags) -> Own {
    Own {
        name: node_name.trim().to_lowercase(),
        data_path: flags.pod_network_data_path.as_str(),
        backend: settings.backend.as_str(),
        cluster_cidrs: settings.cluster_cidrs.iter().map(IpNet::trunc).collect(),
        annotations: None,
        is_new: false,
        addresses: Vec::new(),
    }
}

/// Where a file is.
fn folder(file: &Path) -> PathBuf {
    file.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Ready to begin.
struct Prepared {
    network_loop: NetworkLoop,
    source: Box<dyn Source<Update>>,
    inbox: Inbox,
    inputs: Receiver<Input>,
    gate: Socket,
}

impl Prepared {
    /// Does the work until told to stop.
    ///
    /// # Errors
    /// When it cannot be begun, or the source cannot go on.
    fn run(self) -> anyhow::Result<()> {
        let Self { mut network_loop, source, inbox, inputs, gate } = self;
        source::start("network-source", source, inbox.clone()).context("cannot start following Nodes")?;
        let outcome = event_loop::run(&mut network_loop, inbox, &inputs);
        network_loop.end();
        drop(gate);
        outcome
    }
}

/// The pod network is being kept, on a thread of its own.
pub(crate) type Running = event_loop::Running<Update, Message>;

/// Begins to. If that cannot go on, `failed` is told why.
///
/// # Errors
/// When it cannot be begun.
pub(crate) fn start(
    asked: Asked,
    failed: impl FnOnce(anyhow::Error) + Send + 'static,
) -> anyhow::Result<Running> {
    let prepared = asked.prepare()?;
    let inbox = prepared.inbox.clone();
    let work = move || prepared.run().context("Nodes cannot be followed");
    Running::start("network", inbox, work, failed)
}
