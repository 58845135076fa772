//! A demonstration: a node, three pods and an outside client, the real binary, and real connections.

pub(crate) mod cluster;
pub(crate) mod unprivileged;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use comfy_table::{Cell, CellAlignment, Table, presets};
use testbed::{Bed, Family, Layout, Outcome, Place, Protocol, Proxy, isolation};

const PODS: [&str; 3] = ["pod-1", "pod-2", "pod-3"];
const CONNECTIONS: usize = 300;

/// Runs it in namespaces of its own.
pub(crate) fn run() -> Result<()> {
    if isolation::is_isolated() {
        isolation::settle()?;
        return show();
    }
    let started = Instant::now();
    let mut child = isolation::this_program(&["demo".into()])?.stdin(Stdio::piped()).spawn()?;
    // Dropping its standard input would end it: `wait` does that, so it is taken out first.
    let stdin = child.stdin.take();
    let status = child.wait().context("cannot wait for the demonstration")?;
    drop(stdin);
    ensure!(status.success(), "the demonstration did not go as expected");
    println!(
        "Everything was as expected, and nothing is left of it. {:.1} s.",
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

fn show() -> Result<()> {
    step("Building a node, three pods and an outside client out of network namespaces");
    let bed = Bed::new(Layout::Routed, 3, 0)?;
    println!("{PICTURE}");
    let manifests = manifests()?;
    step("Starting pointsman on the node, in nftables mode, with the manifests in deploy/demo");
    let args = ["--proxy-mode", "nftables", "--hostname-override", "node", "--cluster-cidr", "10.180.0.0/16"];
    let proxy = Proxy::start_on_copy_of(&bed.node, &manifests, &args.map(str::to_owned))?;
    println!("  {}\n", proxy.last_line_with("synced").unwrap_or_default());
    fan_out(&bed)?;
    ask_why(&bed)?;
    affinity(&bed)?;
    remove_an_endpoint(&bed, &proxy, &manifests)?;
    step("What the kernel holds for it: nft list map ip pointsman service-ips");
    println!("{}", bed.node.output("nft", &["list", "map", "ip", "pointsman", "service-ips"])?);
    Ok(())
}

const PICTURE: &str = "
   client 203.0.113.2 ──── node 192.168.0.2 ─┬── pod-1 10.180.0.1
                                             ├── pod-2 10.180.0.2
                                             └── pod-3 10.180.0.3
";

fn step(what: &str) {
    println!("==> {what}");
}

fn manifests() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo");
    folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))
}

/// One row of the table: who connects, to what, and whether pods see the client itself.
struct Row<'a> {
    from: &'a str,
    place: Place<'a>,
    frontend: &'a str,
    to: SocketAddr,
}

fn fan_out(bed: &Bed) -> Result<()> {
    step(&format!("Connecting {CONNECTIONS} times to each frontend of the Service demo/web"));
    let web: SocketAddr = (Family::V4.cluster_ip(10), 80).into();
    let external: SocketAddr = (Family::V4.external_ip(5), 80).into();
    let node_port: SocketAddr = (Family::V4.node(), 30080).into();
    let web6: SocketAddr = (Family::V6.cluster_ip(0x10), 80).into();
    let (client, node, pod) = (Place::of(&bed.client), Place::of(&bed.node), Place::of(bed.pod_namespace(3)));
    let row = |from, place, frontend, to| Row { from, place, frontend, to };
    let rows = [
        row("pod-3", pod, "ClusterIP", web),
        row("pod-3", pod, "ClusterIP (IPv6)", web6),
        row("node", node, "ClusterIP", web),
        row("client", client, "node port", node_port),
        row("client", client, "external IP", external),
    ];
    let mut table = table(&["from", "to", "", "pod-1", "pod-2", "pod-3", "pods see"]);
    for row in &rows {
        let outcomes = row.place.connect_times(Protocol::Tcp, row.to, CONNECTIONS)?;
        let shares = shares(&outcomes)?;
        ensure!(shares.len() == PODS.len(), "not every pod was chosen: {shares:?}");
        let mut seen: Vec<String> = outcomes.keys().filter_map(seen_as).collect();
        seen.dedup();
        let mut cells = vec![Cell::new(row.from), Cell::new(row.frontend), Cell::new(row.to)];
        cells.extend(PODS.map(|pod| Cell::new(shares[pod]).set_alignment(CellAlignment::Right)));
        cells.push(Cell::new(seen.join(", ")));
        table.add_row(cells);
    }
    println!("{table}\n");
    Ok(())
}

/// What an operator would ask.
fn ask_why(bed: &Bed) -> Result<()> {
    let program = testbed::binary()?;
    let program = program.to_string_lossy();
    for command in ["trace -s 10.180.0.3 demo/web:http", "fanout demo/web:http -n 300"] {
        step(&format!("Asking on the node: pointsman {command}"));
        println!("{}", bed.node.output(&program, &command.split(' ').collect::<Vec<_>>())?);
    }
    Ok(())
}

fn affinity(bed: &Bed) -> Result<()> {
    step("Asking the Service demo/dns over UDP: session affinity keeps each client with one pod");
    let dns = (Family::V4.cluster_ip(53), 53).into();
    let clients = [
        ("client", Place::of(&bed.client)),
        ("node", Place::of(&bed.node)),
        ("pod-1", Place::of(bed.pod_namespace(1))),
        ("pod-2", Place::of(bed.pod_namespace(2))),
        ("pod-3", Place::of(bed.pod_namespace(3))),
    ];
    let mut table = table(&["from", "queries", "answered by"]);
    for (from, place) in clients {
        let shares = shares(&place.connect_times(Protocol::Udp, dns, 20)?)?;
        ensure!(shares.len() == 1, "{from} was answered by several pods: {shares:?}");
        table.add_rows(shares.into_iter().map(|(pod, count)| [from.to_owned(), count.to_string(), pod]));
    }
    println!("{table}\n");
    Ok(())
}

/// Takes pod-2 out of the YAML while a client connects without pause.
fn remove_an_endpoint(bed: &Bed, proxy: &Proxy, manifests: &Path) -> Result<()> {
    step("Removing pod-2 from web.yaml while pod-3 connects without pause");
    let text = fs::read_to_string(manifests.join("web.yaml"))?;
    let pod_2 = "  - addresses: [10.180.0.2]\n    nodeName: node\n    conditions: {ready: true}\n";
    let edited = text.replace(pod_2, "");
    ensure!(edited != text, "deploy/demo/web.yaml has no pod-2 to remove");
    let web: SocketAddr = (Family::V4.cluster_ip(10), 80).into();
    let place = Place::of(bed.pod_namespace(3));
    let done = AtomicBool::new(false);
    let (during, saved) = thread::scope(|scope| {
        let traffic = scope.spawn(|| -> Result<BTreeMap<Outcome, usize>> {
            let mut outcomes = BTreeMap::new();
            while !done.load(Ordering::Relaxed) {
                *outcomes.entry(place.connect(Protocol::Tcp, web)?).or_default() += 1;
            }
            Ok(outcomes)
        });
        // The change falls into the middle of the traffic.
        let before = place.connect_times(Protocol::Tcp, web, CONNECTIONS);
        let saved = before.and_then(|_| proxy.save("web.yaml", &edited));
        let after = place.connect_times(Protocol::Tcp, web, CONNECTIONS);
        done.store(true, Ordering::Relaxed);
        let during = traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (during, saved.and(after))
    });
    let (during, after) = (shares(&during?)?, shares(&saved?)?);
    ensure!(!after.contains_key("pod-2"), "pod-2 was chosen after it was removed: {after:?}");
    let mut table = table(&["connections", "pod-1", "pod-2", "pod-3", "failed"]);
    for (when, shares) in [("during the change", &during), ("after it", &after)] {
        let mut cells = vec![Cell::new(when)];
        let count = |pod: &str| shares.get(pod).copied().unwrap_or_default();
        cells.extend(PODS.map(|pod| Cell::new(count(pod)).set_alignment(CellAlignment::Right)));
        cells.push(Cell::new(0).set_alignment(CellAlignment::Right));
        table.add_row(cells);
    }
    println!("{table}");
    println!("  {}\n", proxy.last_line_with("synced").unwrap_or_default());
    Ok(())
}

fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(columns);
    table
}

/// How many connections each pod answered; fails if any was not answered.
fn shares(outcomes: &BTreeMap<Outcome, usize>) -> Result<BTreeMap<String, usize>> {
    let mut shares = BTreeMap::new();
    for (outcome, count) in outcomes {
        match outcome {
            Outcome::Answered { by, .. } => *shares.entry(by.clone()).or_default() += count,
            failure => bail!("{count} connections failed: {failure}"),
        }
    }
    Ok(shares)
}

fn seen_as(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Answered { seen_as, .. } => Some(seen_as.to_string()),
        _ => None,
    }
}
