//! Ports of the node that lead to pods.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use cni::attach::{DataPath, Error, PortMapper, PortMapping, Wanted, add, check, remove, remove_all_ports};
use testbed::suite::Test;

use crate::scene::{BOTH, BRIEFLY, Over, PATIENCE, Pod, ROUTED, ask, ip, run};

const HOST_PORT: u16 = 8080;
const POD_PORT: u16 = 80;
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const CLIENT: [&str; 2] = ["192.0.2.9", "2001:db8::9"];

/// By what ports lead to pods in a test.
#[derive(Clone, Copy)]
struct By {
    name: &'static str,
    mapper: PortMapper,
    /// Takes the guard of the node's loopback address away.
    unguard: (&'static str, &'static str),
    legacy: bool,
}

const BY: [By; 3] = [
    By {
        name: "nftables",
        mapper: PortMapper::Auto,
        unguard: ("nft", "flush chain inet pointsman-hostport loopback"),
        legacy: false,
    },
    By {
        name: "iptables_nft",
        mapper: PortMapper::Iptables,
        unguard: ("iptables-nft", "-t mangle -F PREROUTING"),
        legacy: false,
    },
    By {
        name: "iptables_legacy",
        mapper: PortMapper::Iptables,
        unguard: ("iptables-legacy", "-t mangle -F PREROUTING"),
        legacy: true,
    },
];

impl By {
    fn prepare(self) -> Result<()> {
        if self.legacy {
            // Its rules are what tells which iptables a node uses.
            for program in ["iptables-legacy", "ip6tables-legacy"] {
                run(program, "-A INPUT -j ACCEPT")?;
            }
        }
        Ok(())
    }
}

static UNGUARD: OnceLock<(&str, &str)> = OnceLock::new();
static MAPPER: OnceLock<PortMapper> = OnceLock::new();

type Case = (&'static str, fn() -> Result<()>);

/// None minds by what ports lead to pods.
const CASES: [Case; 10] = [
    ("a_port_of_the_loopback_address_is_the_nodes_alone", loopback_only),
    ("a_port_of_one_address_is_of_that_alone", one_address),
    ("who_has_a_port_is_named_to_who_wants_it", taken),
    ("what_makes_no_sense_is_refused_and_nothing_is_left", nonsense),
    ("many_ports_of_many_pods_come_and_go", many),
    ("udp_flows_follow_the_port", udp_follows),
    ("nobody_comes_in_by_the_loopback_address", guarded),
    ("pods_that_come_at_once_do_not_get_the_same_port", at_once),
    ("routed::outsiders_pods_and_the_node_reach_a_pod_by_them", || reach(&ROUTED)),
    ("bridge::outsiders_pods_and_the_node_reach_a_pod_by_them", || {
        // With br_netfilter, which bridges what comes by a bridge and goes by it, a pod reaches itself only so.
        reach(&DataPath::Bridge { name: "cni0".to_owned(), hairpin: true, promiscuous: false })
    }),
];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for by in BY {
        for (name, run) in CASES {
            tests.push(Test::new(format!("ports::{}::{name}", by.name), move || {
                by.prepare()?;
                MAPPER.get_or_init(|| by.mapper);
                UNGUARD.get_or_init(|| by.unguard);
                run()?;
                remove_all_ports()?;
                let left = rules()?;
                ensure!(!left.contains("hostport") && !left.contains("PM-"), "{left}");
                Ok(())
            }));
        }
    }
    tests
}

/// All rules that there are, whoever's.
fn rules() -> Result<String> {
    let mut all = run("nft", "list ruleset")?;
    for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        let output = std::process::Command::new(program).output()?;
        all += &String::from_utf8(output.stdout)?;
    }
    Ok(all)
}

/// The node's uplink, and a client at its other end.
fn outside() -> Result<Pod> {
    let client = Pod::new("client")?;
    ip("link add uplink type veth peer name eth0 netns client")?;
    ip("link set uplink up")?;
    ip(&format!("address add {}/24 dev uplink", NODE[0]))?;
    ip(&format!("-6 address add {}/64 dev uplink nodad", NODE[1]))?;
    client.ip("link set eth0 up")?;
    client.ip(&format!("address add {}/24 dev eth0", CLIENT[0]))?;
    client.ip(&format!("-6 address add {}/64 dev eth0 nodad", CLIENT[1]))?;
    client.ip(&format!("route add default via {}", NODE[0]))?;
    client.ip(&format!("-6 route add default via {}", NODE[1]))?;
    // The client's first packet must not wait for the carrier.
    testbed::await_that("the client reaches the node", || {
        Ok(client.netns.run(|| {
            std::net::TcpStream::connect((NODE[1], 9))
                .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
        })?)
    })?;
    Ok(client)
}

fn mapping(host_port: u16, protocol: &str, host_ip: Option<&str>) -> Result<PortMapping> {
    let host_ip = host_ip.map(str::parse).transpose()?;
    Ok(PortMapping { host_port, container_port: POD_PORT, protocol: protocol.to_owned(), host_ip })
}

fn with_ports(pod: &Pod, path: &DataPath, number: u8, ports: Vec<PortMapping>) -> Result<Wanted> {
    let addresses = [format!("10.244.1.{number}/24"), format!("fd00:1::{number}/64")];
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let port_mapper = MAPPER.get().copied().unwrap_or_default();
    Ok(Wanted { ports, port_mapper, ..pod.wanted(path.clone(), &addresses)? })
}

fn both(host_ip: Option<&str>) -> Result<Vec<PortMapping>> {
    Ok(vec![mapping(HOST_PORT, "tcp", host_ip)?, mapping(HOST_PORT, "udp", host_ip)?])
}

fn node(port: u16) -> Result<[SocketAddr; 2]> {
    Ok([SocketAddr::new(NODE[0].parse()?, port), SocketAddr::new(NODE[1].parse()?, port)])
}

fn reach(path: &DataPath) -> Result<()> {
    let client = outside()?;
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    let wanted = with_ports(&a, path, 2, both(None)?)?;
    add(&wanted)?;
    a.serve(POD_PORT)?;
    check(&wanted)?;
    add(&with_ports(&b, path, 3, Vec::new())?)?;
    for (to, outsider) in node(HOST_PORT)?.into_iter().zip(CLIENT) {
        for over in BOTH {
            let seen = client.ask(over, to)?.with_context(|| format!("outsiders do not reach {to}"))?;
            ensure!(seen.ip() == outsider.parse::<IpAddr>()?, "an outsider is taken for {seen}");
            b.ask(over, to)?.with_context(|| format!("a pod does not reach {to} over {over:?}"))?;
            a.ask(over, to)?
                .with_context(|| format!("the pod does not reach itself by {to} over {over:?}"))?;
            ask(over, None, to, PATIENCE)?.with_context(|| format!("the node does not reach {to}"))?;
        }
    }
    for over in BOTH {
        let loopback = SocketAddr::new([127, 0, 0, 1].into(), HOST_PORT);
        let seen = ask(over, None, loopback, PATIENCE)?;
        let seen = seen.with_context(|| format!("the node does not reach 127.0.0.1 over {over:?}"))?;
        ensure!(!seen.ip().is_loopback(), "the pod sees {seen}");
    }
    let loopback = SocketAddr::new("::1".parse()?, HOST_PORT);
    ensure!(ask(Over::Tcp, None, loopback, PATIENCE)?.is_none(), "::1 leads somewhere");
    // A pod's own ports are not touched.
    let own = SocketAddr::new("10.244.1.2".parse()?, HOST_PORT);
    ensure!(client.ask(Over::Tcp, own)?.is_none(), "the pod has a port that it does not serve");
    remove(&wanted)?;
    for to in node(HOST_PORT)? {
        for over in BOTH {
            ensure!(client.ask(over, to)?.is_none(), "{to} leads somewhere still");
        }
    }
    ensure!(!rules()?.contains("container-a"), "entries are left");
    Ok(())
}

fn one_address() -> Result<()> {
    let client = outside()?;
    ip("address add 192.0.2.2/24 dev uplink")?;
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    add(&with_ports(&a, &ROUTED, 2, both(Some("192.0.2.2"))?)?)?;
    let everywhere = with_ports(&b, &ROUTED, 3, both(Some("0.0.0.0"))?)?;
    add(&everywhere)?;
    a.serve(POD_PORT)?;
    let second = SocketAddr::new("192.0.2.2".parse()?, HOST_PORT);
    let [v4, v6] = node(HOST_PORT)?;
    for over in BOTH {
        client.ask(over, second)?.with_context(|| format!("{second} does not lead to its pod"))?;
        // Nobody serves there, in the other pod; and the mapping is of IPv4.
        ensure!(client.ask(over, v4)?.is_none() && client.ask(over, v6)?.is_none());
    }
    b.serve(POD_PORT)?;
    for over in BOTH {
        client.ask(over, v4)?.with_context(|| format!("{v4} does not lead to its pod"))?;
        ensure!(client.ask(over, v6)?.is_none(), "0.0.0.0 is every address of IPv4 alone");
    }
    remove(&everywhere)?;
    ensure!(client.ask(Over::Tcp, second)?.is_some(), "the other pod's port went, too");
    Ok(())
}

fn loopback_only() -> Result<()> {
    let client = outside()?;
    let pod = Pod::new("a")?;
    let wanted = with_ports(&pod, &ROUTED, 2, both(Some("127.0.0.1"))?)?;
    add(&wanted)?;
    check(&wanted)?;
    pod.serve(POD_PORT)?;
    let loopback = SocketAddr::new([127, 0, 0, 1].into(), HOST_PORT);
    for over in BOTH {
        ask(over, None, loopback, PATIENCE)?.context("the node does not reach the pod")?;
        for to in node(HOST_PORT)? {
            ensure!(client.ask(over, to)?.is_none() && ask(over, None, to, PATIENCE)?.is_none());
        }
    }
    Ok(())
}

fn taken() -> Result<()> {
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    let first = with_ports(&a, &ROUTED, 2, both(None)?)?;
    add(&first)?;
    let second =
        with_ports(&b, &ROUTED, 3, vec![mapping(9, "tcp", None)?, mapping(HOST_PORT, "udp", None)?])?;
    let Err(error) = add(&second) else { bail!("two pods have one port") };
    let said = error.to_string();
    for part in ["8080/udp", "10.244.1.2:80", "container-a/eth0"] {
        ensure!(said.contains(part), "{said}");
    }
    ensure!(!ip("-br link")?.contains(&second.host_interface), "the pod's interface is left");
    ensure!(!rules()?.contains("10.244.1.3"), "some of its ports are left");
    // To remove it takes nothing from the first.
    remove(&second)?;
    check(&first)?;
    remove(&first)?;
    add(&second)?;
    check(&second).context("the port that was freed")
}

fn nonsense() -> Result<()> {
    let pod = Pod::new("a")?;
    let cases = [
        (vec![mapping(1, "icmp", None)?], "icmp"),
        (vec![mapping(1, "tcp", None)?, mapping(1, "tcp", None)?], "twice"),
        (vec![mapping(1, "tcp", Some("::1"))?], "::1"),
        (vec![PortMapping { container_port: 0, ..mapping(1, "tcp", None)? }], "port 0"),
    ];
    for (ports, part) in cases {
        let wanted = with_ports(&pod, &ROUTED, 2, ports)?;
        let Err(error) = add(&wanted) else { bail!("{wanted:?} was made") };
        ensure!(error.to_string().contains(part), "{error}");
        ensure!(!ip("-br link")?.contains("pm"), "an interface is left");
        remove(&wanted)?;
    }
    let only_v4 = Wanted {
        ports: vec![mapping(1, "tcp", Some("2001:db8::1"))?],
        ..pod.wanted(ROUTED, &["10.244.1.2/24"])?
    };
    ensure!(matches!(add(&only_v4), Err(Error::Bad(_))), "a port of an IPv6 address leads to IPv4");
    Ok(())
}

fn many() -> Result<()> {
    let mut all = Vec::new();
    for number in 2..12 {
        let pod = Pod::new(&format!("pod{number}"))?;
        let first = 1000 * u16::from(number);
        let ports = (first..first + 30).map(|port| mapping(port, "tcp", None)).collect::<Result<_>>()?;
        let wanted = with_ports(&pod, &ROUTED, number, ports)?;
        add(&wanted)?;
        all.push((pod, wanted));
    }
    for (_, wanted) in &all {
        check(wanted)?;
    }
    for (at, (_, wanted)) in all.iter().enumerate() {
        remove(wanted)?;
        all[at + 1..].iter().try_for_each(|(_, wanted)| check(wanted))?;
    }
    ensure!(!rules()?.contains("10.244."), "entries are left");
    Ok(())
}

fn udp_follows() -> Result<()> {
    let client = outside()?;
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    a.serve(POD_PORT)?;
    b.serve(POD_PORT)?;
    let [to, _] = node(HOST_PORT)?;
    // The node refuses this, and remembers that the flow was for itself.
    let socket = client.netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    // What the node refuses is told as an error of the next call.
    let answered = || -> Result<bool> {
        socket.send_to(b"?", to)?;
        let mut buffer = [0; 64];
        Ok(socket.recv_from(&mut buffer).is_ok())
    };
    socket.set_read_timeout(Some(BRIEFLY))?;
    ensure!(!answered()?, "somebody answers before there is a pod");
    socket.set_read_timeout(Some(PATIENCE))?;
    let first = with_ports(&a, &ROUTED, 2, both(None)?)?;
    add(&first)?;
    ensure!(answered()?, "a flow from before does not reach the pod");
    remove(&first)?;
    add(&with_ports(&b, &ROUTED, 3, both(None)?)?)?;
    ensure!(answered()?, "the flow does not reach the port's next pod");
    Ok(())
}

fn guarded() -> Result<()> {
    let client = outside()?;
    let pod = Pod::new("a")?;
    add(&with_ports(&pod, &ROUTED, 2, both(None)?)?)?;
    crate::scene::serve(99)?;
    // As who attacks would: the node's loopback address is by way of the node.
    for (who, gateway) in [(&client, NODE[0]), (&pod, "169.254.1.1")] {
        who.ip(&format!("route add 127.0.0.1 via {gateway} dev eth0 onlink table 7"))?;
        who.ip("rule add to 127.0.0.1 lookup 7 priority 1")?;
        who.ip("rule add lookup local priority 2")?;
        who.ip("rule del lookup local priority 0")?;
        for (parameter, value) in [("all/route_localnet", "1"), ("eth0/route_localnet", "1")] {
            who.netns.run(|| std::fs::write(format!("/proc/sys/net/ipv4/conf/{parameter}"), value))??;
        }
    }
    std::fs::write("/proc/sys/net/ipv4/conf/uplink/route_localnet", "1")?;
    let loopback = SocketAddr::new([127, 0, 0, 1].into(), 99);
    ensure!(ask(Over::Tcp, None, loopback, PATIENCE)?.is_some(), "the node itself does not reach it");
    let reach = |who: &Pod, patience| who.netns.run(|| ask(Over::Tcp, None, loopback, patience))?;
    for who in [&client, &pod] {
        ensure!(reach(who, BRIEFLY)?.is_none(), "{} reached the node's loopback address", who.name);
    }
    // It is the guard that keeps them out.
    let (program, arguments) = UNGUARD.get().context("not prepared")?;
    run(program, arguments)?;
    for who in [&client, &pod] {
        ensure!(reach(who, PATIENCE)?.is_some(), "{} would not reach the node anyway", who.name);
    }
    Ok(())
}

fn at_once() -> Result<()> {
    let pods = (2..8).map(|number| Pod::new(&format!("pod{number}"))).collect::<Result<Vec<_>>>()?;
    let wanted = pods
        .iter()
        .zip(2..)
        .map(|(pod, number)| with_ports(pod, &ROUTED, number, both(None)?))
        .collect::<Result<Vec<_>>>()?;
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = wanted.iter().map(|wanted| scope.spawn(|| add(wanted))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let made = results.iter().filter(|result| result.is_ok()).count();
    let refused = results.iter().filter(|result| matches!(result, Err(Error::PortTaken { .. }))).count();
    ensure!((made, refused) == (1, 5), "{results:?}");
    Ok(())
}
