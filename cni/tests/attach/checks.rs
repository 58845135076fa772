//! A check tells what is not as it was made, and lets pass what others may have added.

use anyhow::{Context, Result, bail, ensure};
use cni::attach::{Bandwidth, DataPath, Error, PodRoute, PortMapping, Wanted, add, check, remove};
use testbed::suite::Test;

use crate::scene::{Pod, ROUTED, ip, run};

/// What is broken, by a program and its arguments, and what a check says of it. `HOST` stands for the node's end, `IFB`
/// for the device that holds back what the pod sends.
type Damage = (&'static str, &'static str, &'static str);

const EITHER: &[Damage] = &[
    ("ip", "-n a link set eth0 down", "interface eth0 in the pod is down"),
    ("ip", "-n a link set eth0 mtu 1300", "interface eth0 in the pod has an MTU of 1300"),
    ("ip", "-n a link del eth0", "interface eth0 is missing in the pod"),
    ("ip", "-n a route del default", "the pod's route to 0.0.0.0/0 by way of"),
    ("ip", "-n a -6 route del default", "the pod's route to ::/0 by way of"),
    ("ip", "-n a route del 198.51.100.0/24", "the pod's route to 198.51.100.0/24 by way of"),
    ("ip", "link set HOST down", "the node's end HOST is down"),
    ("ip", "link set HOST mtu 1300", "the node's end HOST has an MTU of 1300"),
    ("ip", "link del HOST", "the node's end HOST is missing"),
    ("tc", "qdisc del dev HOST root", "what the pod receives is not limited"),
    ("tc", "qdisc del dev HOST ingress", "what the pod sends is not limited"),
    ("tc", "qdisc del dev IFB root", "what the pod sends is not limited"),
    (
        "tc",
        "qdisc change dev HOST root tbf rate 9mbit burst 20k latency 25ms",
        "what the pod receives is not limited",
    ),
    ("ip", "link del IFB", "what the pod sends is not limited"),
    (
        "nft",
        "flush map inet pointsman-hostport ports-4",
        "port 8080/tcp of the node does not lead to the pod",
    ),
    ("nft", "flush chain inet pointsman-hostport output", "the rules of table inet pointsman-hostport"),
    ("nft", "delete table inet pointsman-hostport", "port 8080/tcp of the node does not lead to the pod"),
];
const ROUTED_ONLY: &[Damage] = &[
    ("ip", "-n a address del 10.244.1.2/32 dev eth0", "address 10.244.1.2/32 is missing in the pod"),
    ("ip", "-n a address del fd00:1::2/128 dev eth0", "address fd00:1::2/128 is missing in the pod"),
    ("ip", "-n a neighbour del 169.254.1.1 dev eth0", "the hardware address of gateway 169.254.1.1"),
    ("ip", "-n a neighbour del fe80::1 dev eth0", "the hardware address of gateway fe80::1"),
    ("ip", "-n a link set eth0 address 02:00:00:00:00:07", "the pod's hardware address for 10.244.1.2"),
    ("ip", "route del 10.244.1.2", "the node's route to 10.244.1.2/32 is missing"),
    ("ip", "-6 route del fd00:1::2", "the node's route to fd00:1::2/128 is missing"),
    ("ip", "neighbour del 10.244.1.2 dev HOST", "the pod's hardware address for 10.244.1.2"),
    ("sysctl", "-w net.ipv4.conf.HOST.forwarding=0", "forwarding of HOST is not 1"),
];
const BRIDGE_ONLY: &[Damage] = &[
    ("ip", "-n a address del 10.244.1.2/24 dev eth0", "address 10.244.1.2/24 is missing in the pod"),
    ("ip", "-n a address del fd00:1::2/64 dev eth0", "address fd00:1::2/64 is missing in the pod"),
    ("ip", "link set HOST nomaster", "HOST is no port of bridge cni0"),
    ("ip", "link set HOST type bridge_slave hairpin off", "hairpin mode of HOST is not true"),
    ("ip", "link set cni0 down", "bridge cni0 is down"),
    ("ip", "link set cni0 promisc off", "bridge cni0 is not promiscuous"),
    ("ip", "address del 10.244.1.1/24 dev cni0", "bridge cni0 has no longer the address 10.244.1.1/24"),
    ("ip", "address del fd00:1::1/64 dev cni0", "bridge cni0 has no longer the address fd00:1::1/64"),
    ("ip", "link del cni0", "bridge cni0 is missing"),
];
/// What plugins that are chained after us do.
const HARMLESS: &[(&str, &str)] = &[
    ("ip", "-n a address add 10.9.9.9/32 dev eth0"),
    ("ip", "-n a route add 203.0.113.0/24 dev eth0"),
    ("ip", "-n a link add other type veth peer name else"),
    ("ip", "-n a rule add from 10.244.1.2 lookup 100"),
    ("tc", "qdisc add dev lo root tbf rate 1gbit burst 1m latency 1ms"),
];

pub(crate) fn tests() -> Vec<Test> {
    let bridge = DataPath::Bridge { name: "cni0".to_owned(), hairpin: true, promiscuous: true };
    let mut tests = Vec::new();
    for (name, path, only) in [("routed", ROUTED, ROUTED_ONLY), ("bridge", bridge, BRIDGE_ONLY)] {
        tests.push(Test::new(format!("check::{name}::tells_whatever_is_broken"), {
            let path = path.clone();
            move || EITHER.iter().chain(only).try_for_each(|damage| tells(&path, damage))
        }));
        tests.push(Test::new(format!("check::{name}::lets_pass_what_others_add"), move || lets_pass(&path)));
    }
    tests.push(Test::new("check::a_namespace_that_is_gone_is_told", gone));
    tests
}

fn everything(pod: &Pod, path: &DataPath) -> Result<Wanted> {
    let port = PortMapping { host_port: 8080, container_port: 80, protocol: "tcp".to_owned(), host_ip: None };
    let (rate, burst) = (20_000_000, 200_000);
    Ok(Wanted {
        mtu: Some(1400),
        routes: vec![PodRoute { dst: "198.51.100.0/24".parse()?, gw: None }],
        ports: vec![port],
        bandwidth: Some(Bandwidth {
            ingress_rate: rate,
            ingress_burst: burst,
            egress_rate: rate,
            egress_burst: burst,
        }),
        ..pod.wanted(path.clone(), &["10.244.1.2/24", "fd00:1::2/64"])?
    })
}

fn tells(path: &DataPath, (program, arguments, says): &Damage) -> Result<()> {
    let pod = Pod::new("a")?;
    let wanted = everything(&pod, path)?;
    add(&wanted)?;
    check(&wanted).with_context(|| format!("before {arguments}"))?;
    let host = &wanted.host_interface;
    let real = |text: &str| text.replace("HOST", host).replace("IFB", &host.replacen("pm", "pb", 1));
    run(program, &real(arguments))?;
    let Err(Error::Differs(said)) = check(&wanted) else { bail!("after {arguments} all is well") };
    ensure!(said.iter().any(|said| said.contains(&real(says))), "after {arguments}: {said:?}");
    remove(&wanted).with_context(|| format!("after {arguments}"))?;
    let left = ip("-br link")?;
    ensure!(!left.contains(&host[2..]), "after {arguments}, this is left: {left}");
    ip("netns del a")?;
    // Some damages are the bridge's.
    if left.contains("cni0") {
        ip("link del cni0")?;
    }
    Ok(())
}

fn lets_pass(path: &DataPath) -> Result<()> {
    let pod = Pod::new("a")?;
    let wanted = everything(&pod, path)?;
    add(&wanted)?;
    for (program, arguments) in HARMLESS {
        run(program, arguments)?;
        check(&wanted).with_context(|| format!("after {arguments}"))?;
    }
    // A chained plugin leads the pod's packets by a table of their own.
    for family in ["-4", "-6"] {
        let route = pod.ip(&format!("{family} route show default"))?;
        let route = route.split(" proto ").next().context("no route")?.trim().to_owned();
        let onlink = if *path == ROUTED { " onlink" } else { "" };
        pod.ip(&format!("{family} route add {route}{onlink} table 100"))?;
        pod.ip(&format!("{family} route del default"))?;
        check(&wanted).with_context(|| format!("after {route} was moved"))?;
    }
    Ok(())
}

fn gone() -> Result<()> {
    let pod = Pod::new("a")?;
    let wanted = everything(&pod, &ROUTED)?;
    add(&wanted)?;
    drop(pod);
    ip("netns del a")?;
    let Err(error) = check(&wanted) else { bail!("all is well") };
    ensure!(
        matches!(error, Error::Netns(_)) && error.to_string().contains("/run/netns/a is gone"),
        "{error}"
    );
    remove(&wanted)?;
    Ok(())
}
