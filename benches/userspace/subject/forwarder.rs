use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use endpoint_cache::{Endpoint, Family, Protocol, ServicePortName, TrafficPolicy};
use modes::userspace::forward::{Forwarder, Options, SourceAddress, Target, TargetKey};

use super::Running;
use crate::frontend::{self, Frontend};
use crate::place::Place;

/// Starts this program once more, to [`forward`].
pub(crate) fn start(place: &Place) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--forward").arg(place.node().to_string());
    Running::program(place, command)
}

/// Forwards all frontends from an address until the process ends.
pub(crate) fn forward(address: IpAddr) -> Result<()> {
    let forwarder = Forwarder::start(Options::default())?;
    for frontend in frontend::all() {
        let listen = SocketAddr::new(address, frontend.port);
        forwarder.open(key(&frontend), listen, &target(&frontend))?;
    }
    loop {
        std::thread::park();
    }
}

fn key(frontend: &Frontend) -> TargetKey {
    let protocol = match frontend.protocol {
        testbed::Protocol::Tcp => Protocol::Tcp,
        testbed::Protocol::Udp => Protocol::Udp,
        testbed::Protocol::Sctp => Protocol::Sctp,
    };
    let name = ServicePortName {
        namespace: "bench".into(),
        name: "bench".into(),
        port: frontend.name.into(),
        protocol,
    };
    TargetKey { name: Arc::new(name), family: Family::V4, policy: TrafficPolicy::Cluster }
}

fn target(frontend: &Frontend) -> Target {
    let endpoint = |target: SocketAddr| Endpoint { address: target.ip(), port: target.port(), local: true };
    Target {
        endpoints: frontend.targets().map(endpoint).collect(),
        serving: [].into(),
        affinity: None,
        proxy_protocol: false,
        source: SourceAddress::Node,
    }
}
