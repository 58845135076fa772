//! A server that goes away, and a clock that cannot be trusted.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::api_server::{Fault, Options};
use testbed::{ApiServer, Cluster, Proxy, faketime, http};

use crate::subject::{Chaos, Dice};

const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that may be idle: a list and the watch after it may use one each, and the first is kept for a minute.
const IDLE: usize = 4;

/// Both services and the Node, which the proxy would wait for.
fn cluster(chaos: &Chaos) -> Cluster {
    let mut cluster = chaos.cluster();
    cluster.put_other("node", testbed::cluster::node(None, &[chaos.family.node()], &[]));
    cluster
}

/// A server in the node's namespace that holds both services.
fn server(chaos: &Chaos) -> Result<ApiServer> {
    let server = chaos.bed.node.run(|| ApiServer::start(Options::default()))??;
    server.hold(&cluster(chaos).manifest())?;
    Ok(server)
}

/// Gives the service that changes other endpoints.
fn change(chaos: &Chaos, server: &ApiServer, dice: &mut Dice) -> Result<()> {
    let mut cluster = cluster(chaos);
    cluster.put_slice(chaos.slice("changing", &dice.pods()));
    server.hold(&cluster.manifest())
}

pub(crate) fn api_server(chaos: &mut Chaos) -> Result<()> {
    let server = server(chaos)?;
    let mut proxy = Proxy::start_with_api(&chaos.bed.node, &server, &chaos.args)?;
    server.await_watches(4, PATIENCE)?;
    let mut dice = Dice(5);
    let before = chaos.resources_at_rest(&proxy)?;
    chaos.under_traffic(|| {
        for round in 0..12 {
            let older = server.snapshot();
            for _ in 0..50 {
                change(chaos, &server, &mut dice)?;
            }
            let opened = server.watches_opened();
            match round % 3 {
                0 => {
                    server.set_fault(Some(Fault::Down));
                    change(chaos, &server, &mut dice)?;
                    server.set_fault(None);
                }
                1 => server.restart_with(older),
                _ => {
                    change(chaos, &server, &mut dice)?;
                    server.compact();
                    server.cut_connections();
                }
            }
            server.await_watches_opened(opened + 4, PATIENCE)?;
        }
        Ok(())
    })?;
    // The last word is the server's.
    proxy.await_sync_after(|| {
        let mut cluster = cluster(chaos);
        cluster.put_slice(chaos.slice("changing", &["pod-2"]));
        server.hold(&cluster.manifest())
    })?;
    chaos.check_resources_with(&proxy, before, IDLE)?;
    chaos.check_answers("the server came back")?;
    chaos.check_kernel(&mut proxy)
}

pub(crate) fn clock(chaos: &mut Chaos) -> Result<()> {
    let server = server(chaos)?;
    let (kubeconfig, shift) = (PathBuf::from("/run/kubeconfig"), PathBuf::from("/run/clock"));
    fs::write(&kubeconfig, server.kubeconfig())?;
    fs::write(&shift, "+0")?;
    let environment = faketime::shifted_by(&shift)?;
    let source = ["--kubeconfig".to_owned(), kubeconfig.to_string_lossy().into_owned()];
    let args = [&source, &chaos.args[..]].concat();
    let mut proxy = Proxy::launch_with_environment(&chaos.bed.node, environment, &args)?;
    proxy.await_line_with("synced")?;
    server.await_watches(4, PATIENCE)?;
    let before = chaos.resources_at_rest(&proxy)?;
    let mut dice = Dice(6);
    chaos.under_traffic(|| {
        for jump in ["+400d", "-400d", "+1h", "-1", "+0"] {
            let year = |line: Option<String>| line.unwrap_or_default().chars().take(4).collect::<String>();
            let before = year(proxy.last_line_with("synced"));
            fs::write(&shift, jump)?;
            for _ in 0..80 {
                proxy.await_sync_after(|| {
                    // Two in a row may be the same.
                    change(chaos, &server, &mut dice)?;
                    let mut cluster = cluster(chaos);
                    cluster.delete_slice("changing");
                    cluster.put_slice(chaos.slice("changing", &["pod-1", "remote-2"]));
                    server.hold(&cluster.manifest())
                })?;
            }
            let after = year(proxy.last_line_with("synced"));
            ensure!(before != after || !jump.ends_with('d'), "the clock did not jump by {jump}");
        }
        Ok(())
    })?;
    for failure in ["cannot program", "cannot follow"] {
        ensure!(proxy.last_line_with(failure).is_none(), "something failed:\n{}", proxy.log());
    }
    let (status, health) = http::get(&chaos.bed.node, ([127, 0, 0, 1], 10256).into(), "/healthz")?;
    ensure!(status == 200, "it is not healthy: {health}");
    chaos.check_answers("the clock jumped")?;
    chaos.check_resources_with(&proxy, before, IDLE)?;
    chaos.check_kernel(&mut proxy)
}
