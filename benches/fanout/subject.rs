//! Who leads connections on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use benches::contender::Contender;
use benches::objects;
use clap::ValueEnum;
use testbed::binary;

use crate::place::{PORT, Place, endpoint};

/// A way to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// To the pod itself.
    Direct,
    Nftables,
    Iptables,
    /// Takes a kernel with IPVS.
    Ipvs,
    Userspace,
    KubeProxyNftables,
    KubeProxyIptables,
}

impl Subject {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Userspace => "userspace",
            Self::KubeProxyNftables => "kube-proxy nftables",
            Self::KubeProxyIptables => "kube-proxy iptables",
        }
    }

    pub(crate) fn is_kube_proxy(self) -> bool {
        matches!(self, Self::KubeProxyNftables | Self::KubeProxyIptables)
    }

    fn mode(self) -> Option<&'static str> {
        match self {
            Self::Direct => None,
            Self::Nftables | Self::KubeProxyNftables => Some("nftables"),
            Self::Iptables | Self::KubeProxyIptables => Some("iptables"),
            Self::Ipvs => Some("ipvs"),
            Self::Userspace => Some("userspace"),
        }
    }

    /// Where to connect to.
    pub(crate) fn target(self) -> SocketAddr {
        match self {
            Self::Direct => SocketAddr::new(endpoint(0).into(), PORT),
            _ => objects::probed_address(),
        }
    }

    /// Starts it, if there is something to start.
    pub(crate) fn start(self, place: &Place, kube_proxy: Option<&Path>) -> Result<Option<Contender>> {
        let Some(mode) = self.mode() else { return Ok(None) };
        let program = match self.is_kube_proxy() {
            true => kube_proxy.context("no kube-proxy is given")?.to_path_buf(),
            false => binary()?,
        };
        let source = place.cluster.source();
        let args = [&source[..], &["--proxy-mode", mode]].concat();
        Contender::start(&place.cluster.bed, Command::new(program), &args).map(Some)
    }
}
