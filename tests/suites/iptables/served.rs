//! What scenarios about trouble have in common: two services, a change of one, and whether the proxy is healthy.

use anyhow::Result;
use testbed::cluster::Service;
use testbed::{Subject, await_that, http};

fn health(s: &Subject) -> Result<(u16, String)> {
    http::get(&s.bed.node, ([127, 0, 0, 1], 10256).into(), "/healthz")
}

pub(crate) fn await_health(s: &Subject, status: u16) -> Result<String> {
    await_that(&format!("/healthz answers {status}"), || Ok(health(s)?.0 == status))?;
    Ok(health(s)?.1)
}

/// Two services, neither of which is being changed by anybody.
pub(crate) fn serve_web_and_shop(s: &mut Subject) -> Result<()> {
    let shop = Service::new("shop", s.family().cluster_ip(11)).tcp("http", 80);
    let slice = s.slice("shop", &["pod-1"]);
    s.cluster.put(shop).put_slice(slice);
    s.serve_web(&["pod-1"])
}

/// Other endpoints for `web`, saved and not waited for.
pub(crate) fn change_web(s: &mut Subject, pods: &[&str]) -> Result<()> {
    let slice = s.slice("web", pods);
    s.cluster.put_slice(slice);
    let manifest = s.cluster.manifest();
    s.proxy()?.write("cluster.json", &manifest)
}
