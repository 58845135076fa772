//! Pods reach each other and their node from the first packet on, and nothing is left of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cni::attach::{DataPath, Error, Wanted, add, remove};
use testbed::suite::Test;

use crate::scene::{BOTH, Over, PATIENCE, Pod, ROUTED, ask, bridge, ip, serve};

const PORT: u16 = 80;
/// Addresses of two pods, with the prefixes of their ranges.
type Families = [&'static [&'static str]; 2];
const V4: Families = [&["10.244.1.2/24"], &["10.244.1.3/24"]];
const V6: Families = [&["fd00:1::2/64"], &["fd00:1::3/64"]];
const DUAL: Families = [&["10.244.1.2/24", "fd00:1::2/64"], &["10.244.1.3/24", "fd00:1::3/64"]];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![];
    for (family, addresses) in [("v4", V4), ("v6", V6), ("dual", DUAL)] {
        for (name, path) in [("routed", ROUTED), ("bridge", bridge())] {
            tests.push(Test::new(format!("{name}::{family}::pods_and_node_reach_each_other_at_once"), {
                let path = path.clone();
                move || reach(&path, addresses)
            }));
            tests.push(Test::new(format!("{name}::{family}::nothing_is_left"), {
                move || nothing_left(&path, addresses)
            }));
        }
    }
    tests
}

fn addresses(wanted: &Wanted) -> Vec<IpAddr> {
    wanted.addresses.iter().map(|assigned| assigned.address.addr()).collect()
}

fn reach(path: &DataPath, [first, second]: Families) -> Result<()> {
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    ip("link add uplink type veth peer name cable")?;
    ip("link set uplink up")?;
    ip("address add 192.0.2.1/24 dev uplink")?;
    ip("-6 address add 2001:db8::1/64 dev uplink nodad")?;
    serve(PORT)?;
    b.serve(PORT)?;
    let (wanted_a, wanted_b) = (a.wanted(path.clone(), first)?, b.wanted(path.clone(), second)?);
    let since = Instant::now();
    add(&wanted_b)?;
    // The node's first packet passes.
    for to in addresses(&wanted_b) {
        for over in BOTH.into_iter().rev() {
            ask(over, None, SocketAddr::new(to, PORT), PATIENCE)?
                .with_context(|| format!("the node does not reach {to} over {over:?}"))?;
        }
    }
    add(&wanted_a)?;
    eprintln!("both in {:?}", since.elapsed());
    for (from, to) in addresses(&wanted_a).into_iter().zip(addresses(&wanted_b)) {
        for over in BOTH.into_iter().rev() {
            let seen = a.ask(over, SocketAddr::new(to, PORT))?;
            let seen = seen.with_context(|| format!("{from} does not reach {to} over {over:?}"))?;
            ensure!(seen.ip() == from, "{to} takes {from} for {seen}");
        }
    }
    for node in ["192.0.2.1", "2001:db8::1"] {
        let node: IpAddr = node.parse()?;
        for from in addresses(&wanted_a).into_iter().filter(|from| from.is_ipv4() == node.is_ipv4()) {
            // Not over UDP: a node with several addresses answers from the nearest.
            let seen = a.ask(Over::Tcp, SocketAddr::new(node, PORT))?;
            let seen = seen.with_context(|| format!("{from} does not reach the node"))?;
            ensure!(seen.ip() == from, "the node takes {from} for {seen}");
        }
    }
    Ok(())
}

fn nothing_left(path: &DataPath, [first, _]: Families) -> Result<()> {
    let pod = Pod::new("a")?;
    let wanted = pod.wanted(path.clone(), first)?;
    // What stays for the next pod: the bridge and its addresses.
    add(&wanted)?;
    remove(&wanted)?;
    let all = || -> Result<String> {
        let routes = ip("route show table all")? + &ip("-6 route show table all")?;
        let kept = |line: &&str| !line.contains("cni0") || path == &ROUTED;
        let routes: String = routes.lines().filter(kept).map(|line| format!("{line}\n")).collect();
        Ok(routes + &ip("-o -br link")? + &ip("neighbour")? + &pod.ip("-br link")?)
    };
    let before = all()?;
    add(&wanted)?;
    ensure!(all()? != before, "nothing was made");
    ensure!(matches!(add(&wanted), Err(Error::InterfaceTaken(_))), "it was made twice");
    remove(&wanted)?;
    remove(&wanted)?;
    let after = all()?;
    ensure!(after == before, "{after}\nnot\n{before}");
    // The pod's namespace goes first.
    add(&wanted)?;
    let gone = pod;
    ip("netns del a")?;
    drop(gone);
    testbed::await_that("the pair goes with the namespace, or its name can be removed", || {
        remove(&wanted)?;
        Ok(!ip("-o -br link")?.contains(&wanted.host_interface))
    })?;
    Ok(())
}
