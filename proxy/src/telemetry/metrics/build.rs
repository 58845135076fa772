//! `kubernetes_build_info`: which build this is.

use std::env::consts::{ARCH, OS};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::manual::VERSION;

type Labels = Vec<(&'static str, String)>;

/// Registers it.
pub(super) fn register(registry: &mut Registry) {
    let help = "A metric with a constant '1' value, labeled by the version of pointsman (not of Kubernetes), what it was \
                compiled by and the platform it is for";
    let info = Family::<Labels, Gauge>::default();
    info.get_or_create(&labels()).set(1);
    registry.register("kubernetes_build_info", help, info);
}

fn labels() -> Labels {
    // What Go calls it.
    let architecture = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let version = |text: &str| text.to_owned();
    vec![
        ("major", version(env!("CARGO_PKG_VERSION_MAJOR"))),
        ("minor", version(env!("CARGO_PKG_VERSION_MINOR"))),
        ("git_version", format!("v{VERSION}")),
        ("compiler", version("rustc")),
        ("platform", format!("{OS}/{architecture}")),
    ]
}
