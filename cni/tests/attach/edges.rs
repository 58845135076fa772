//! What is there already, what cannot be, how fast, and how large.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cni::attach::{Bandwidth, DataPath, Error, PodRoute, Wanted, add, check, host_interface_name, remove};
use testbed::suite::Test;

use crate::scene::{BRIEFLY, Over, PATIENCE, Pod, ROUTED, ask, bridge, ip};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("an_interface_that_is_there_is_left_alone", taken),
        Test::new("what_a_pod_of_that_name_left_behind_gives_way", left_behind),
        Test::new("namespaces_that_are_none_are_refused", no_namespace),
        Test::new("names_and_sizes_that_cannot_be_are_refused", nonsense),
        Test::new("what_fails_half_way_is_undone", undone),
        Test::new("routed::nobody_asks_for_hardware_addresses", no_questions),
        Test::new("routed::nobody_sends_under_an_address_of_others", no_spoofing),
        Test::new("routed::the_node_goes_on_listening_to_routers", routers),
        Test::new("bridge::its_hardware_address_stays_as_pods_come_and_go", stable),
        Test::new("bridge::others_bridges_and_addresses_are_respected", others),
        Test::new("bridge::one_of_ours_takes_a_second_range", second_range),
        Test::new("bridge::without_a_gateway_there_is_no_way_out", no_gateway),
        Test::new("routed::wanted_routes_lead_by_the_gateway", || routes(&ROUTED)),
        Test::new("bridge::wanted_routes_lead_by_the_gateway", || routes(&bridge())),
        Test::new("mtu_and_hardware_address_are_as_wanted", || {
            sizes(&ROUTED).and_then(|()| sizes(&bridge()))
        }),
        Test::new("many_pods_come_at_once", at_once),
        Test::new("routed::bandwidth_is_as_wanted", || limited(&ROUTED)),
        Test::new("bridge::bandwidth_is_as_wanted", || limited(&bridge())),
    ]
}

const ADDRESSES: [&str; 2] = ["10.244.1.2/24", "fd00:1::2/64"];

fn taken() -> Result<()> {
    let pod = Pod::new("a")?;
    let first = pod.wanted(ROUTED, &ADDRESSES)?;
    add(&first)?;
    let second = Wanted {
        container: "another".to_owned(),
        host_interface: host_interface_name("another", "eth0"),
        ..pod.wanted(ROUTED, &["10.244.1.9/24"])?
    };
    for again in [&first, &second] {
        let Err(error) = add(again) else { bail!("eth0 was made twice") };
        ensure!(matches!(&error, Error::InterfaceTaken(name) if name == "eth0"), "{error}");
        check(&first)?;
    }
    ensure!(!ip("-br link")?.contains(&second.host_interface), "the second's end is left");
    let third = Wanted {
        interface: "net1".to_owned(),
        host_interface: host_interface_name(&first.container, "net1"),
        ..pod.wanted(ROUTED, &["10.244.1.10/24"])?
    };
    add(&third).context("a second interface")?;
    check(&first)?;
    remove(&third)?;
    check(&first).context("after the second interface went")
}

fn left_behind() -> Result<()> {
    let (before, pod) = (Pod::new("before")?, Pod::new("a")?);
    let wanted = pod.wanted(ROUTED, &ADDRESSES)?;
    add(&Wanted { netns: before.netns.path().to_owned(), ..wanted.clone() })?;
    add(&wanted)?;
    check(&wanted)?;
    ensure!(!before.ip("-br link")?.contains("eth0"), "the other end stayed where it was");
    Ok(())
}

fn no_namespace() -> Result<()> {
    let pod = Pod::new("a")?;
    std::fs::write("/run/netns/file", "")?;
    let wanted = pod.wanted(ROUTED, &ADDRESSES)?;
    for (path, says) in [
        ("/run/netns/none", "is gone"),
        ("/run/netns/file", "is gone"),
        ("/proc/self/ns/mnt", "not one of networks"),
        ("/proc/self/ns/net", "is the node's own"),
        ("/run/netns/a/b", "is gone"),
    ] {
        let bad = Wanted { netns: PathBuf::from(path), ..wanted.clone() };
        let Err(error) = add(&bad) else { bail!("{path} was taken for a pod's") };
        ensure!(error.to_string().contains(says), "{path}: {error}");
        remove(&bad)?;
    }
    Ok(())
}

fn nonsense() -> Result<()> {
    let pod = Pod::new("a")?;
    let good = pod.wanted(ROUTED, &ADDRESSES)?;
    let named = |interface: &str| Wanted { interface: interface.to_owned(), ..good.clone() };
    let mac = |mac: &str| Wanted { mac: Some(mac.to_owned()), ..good.clone() };
    let mtu = |mtu| Wanted { mtu: Some(mtu), ..good.clone() };
    for bad in [
        named(""),
        named("../../eth0"),
        named("a-name-of-16-chr"),
        named("eth 0"),
        mac("01:00:5e:00:00:01"),
        mac("nonsense"),
        mtu(0),
        mtu(1279),
        mtu(70_000),
    ] {
        let Err(Error::Bad(_)) = add(&bad) else { bail!("{bad:?} was made") };
    }
    ensure!(!ip("-br link")?.contains("pm"), "something is left");
    // A dot is no separator here.
    let dotted = named("eth0.5");
    add(&dotted)?;
    check(&dotted)?;
    Ok(())
}

fn undone() -> Result<()> {
    let pod = Pod::new("a")?;
    // A gateway that is on no link of the pod.
    let wanted = Wanted {
        routes: vec![PodRoute { dst: "198.51.100.0/24".parse()?, gw: Some("203.0.113.1".parse()?) }],
        bandwidth: Some(Bandwidth { egress_rate: 1_000_000, ..Bandwidth::default() }),
        ..pod.wanted(bridge(), &ADDRESSES)?
    };
    let Err(error) = add(&wanted) else { bail!("a route by a gateway on no link was made") };
    ensure!(error.to_string().contains("203.0.113.1"), "{error}");
    let left = ip("-br link")? + &pod.ip("-br link")?;
    ensure!(!left.contains("pm") && !left.contains("pb") && !left.contains("eth0"), "{left}");
    Ok(())
}

fn no_questions() -> Result<()> {
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    ip("link add uplink type veth peer name cable")?;
    ip("link set uplink up")?;
    ip("address add 192.0.2.1/24 dev uplink")?;
    add(&a.wanted(ROUTED, &ADDRESSES)?)?;
    add(&b.wanted(ROUTED, &["10.244.1.3/24", "fd00:1::3/64"])?)?;
    b.serve(80)?;
    for to in ["10.244.1.3", "fd00:1::3"] {
        a.ask(Over::Udp, SocketAddr::new(to.parse()?, 80))?.context("no answer")?;
    }
    for known in [ip("neighbour")?, a.ip("neighbour")?, b.ip("neighbour")?] {
        let of_pods: Vec<&str> = known.lines().filter(|line| !line.contains("uplink")).collect();
        ensure!(
            of_pods.len() >= 2 && of_pods.iter().all(|line| line.trim_end().ends_with("PERMANENT")),
            "{known}"
        );
    }
    // Who asks all the same is told nothing, of the node's addresses neither.
    a.ip("route add 192.0.2.1 dev eth0")?;
    a.ip("route add 10.244.1.3 dev eth0")?;
    for silent in ["192.0.2.1", "10.244.1.3"] {
        let reached =
            a.netns.run(|| ask(Over::Udp, None, SocketAddr::new(silent.parse()?, 80), BRIEFLY))??;
        ensure!(reached.is_none(), "somebody answers for {silent}");
        let known = a.ip(&format!("neighbour show {silent}"))?;
        ensure!(!known.contains("lladdr"), "{known}");
    }
    Ok(())
}

fn no_spoofing() -> Result<()> {
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    add(&a.wanted(ROUTED, &ADDRESSES)?)?;
    add(&b.wanted(ROUTED, &["10.244.1.3/24"])?)?;
    a.ip("address add 10.244.1.77/32 dev eth0")?;
    // An answer would find its way: it is the packet that is refused.
    let sent = b.netns.run(|| -> Result<bool> {
        let server = std::net::UdpSocket::bind("10.244.1.3:80")?;
        server.set_read_timeout(Some(BRIEFLY))?;
        let send =
            |from: &str| a.netns.run(|| std::net::UdpSocket::bind((from, 0))?.send_to(b"?", "10.244.1.3:80"));
        send("10.244.1.77")??;
        let spoofed = server.recv_from(&mut [0; 8]).is_ok();
        send("10.244.1.2")??;
        server.set_read_timeout(Some(PATIENCE))?;
        server.recv_from(&mut [0; 8]).context("what the pod sends under its own address does not pass")?;
        Ok(spoofed)
    })??;
    ensure!(!sent, "a pod sends under an address that is not its own");
    Ok(())
}

fn routers() -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}"));
    ip("link add uplink type veth peer name cable")?;
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0")?;
    ensure!(read("uplink/accept_ra")?.trim() == "1", "the kernel's default is another one");
    let pod = Pod::new("a")?;
    add(&pod.wanted(ROUTED, &ADDRESSES)?)?;
    ensure!(read("all/forwarding")?.trim() == "1", "the node does not forward");
    ensure!(read("uplink/accept_ra")?.trim() == "2", "the node listens to routers no longer");
    let host = pod.wanted(ROUTED, &ADDRESSES)?.host_interface;
    ensure!(
        read(&format!("{host}/accept_ra"))?.trim() == "0",
        "the node listens to what the pod says of routers"
    );
    Ok(())
}

fn stable() -> Result<()> {
    let mac = || -> Result<String> {
        let shown = ip("-br link show cni0")?;
        Ok(shown.split_whitespace().nth(2).context("no address")?.to_owned())
    };
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    let (first, second) = (a.wanted(bridge(), &ADDRESSES)?, b.wanted(bridge(), &["10.244.1.3/24"])?);
    let made = add(&first)?;
    let before = mac()?;
    ensure!(made.bridge.context("no bridge")?.mac == before, "{before}");
    add(&second)?;
    remove(&first)?;
    ensure!(mac()? == before, "it changed");
    remove(&second)?;
    ip("link del cni0")?;
    add(&first)?;
    ensure!(mac()? == before, "it is another one when it is made again");
    Ok(())
}

fn others() -> Result<()> {
    let pod = Pod::new("a")?;
    let wanted = pod.wanted(bridge(), &ADDRESSES)?;
    let refused = |says: &str| -> Result<()> {
        let Err(error) = add(&wanted) else { bail!("it was made") };
        let said = error.to_string();
        ensure!(said.contains("bridge cni0") && said.contains(says), "{said}");
        let left = ip("-br link")? + &pod.ip("-br link")?;
        ensure!(!left.contains("pm") && !left.contains("eth0"), "{left}");
        Ok(())
    };
    ip("link add cni0 type veth peer name other")?;
    refused("a veth device has that name")?;
    ip("link del cni0")?;
    ip("link add cni0 type bridge")?;
    ip("address add 10.88.0.1/16 dev cni0")?;
    refused("10.88.0.1/16")?;
    ip("address del 10.88.0.1/16 dev cni0")?;
    ip("address add 10.244.1.7/24 dev cni0")?;
    refused("10.244.1.1/24")?;
    ip("address del 10.244.1.7/24 dev cni0")?;
    // Their bridge will do, and is left as it is.
    ip("address add fd77::1/64 dev cni0 nodad")?;
    add(&wanted)?;
    check(&wanted)?;
    ensure!(ip("address show dev cni0")?.contains("fd77::1/64"), "its address is gone");
    Ok(())
}

fn second_range() -> Result<()> {
    let (a, b) = (Pod::new("a")?, Pod::new("b")?);
    let (first, second) = (a.wanted(bridge(), &ADDRESSES)?, b.wanted(bridge(), &["10.244.7.3/24"])?);
    add(&first)?;
    add(&second)?;
    check(&first)?;
    check(&second)?;
    a.serve(80)?;
    b.ask(Over::Udp, "10.244.1.2:80".parse()?)?.context("the ranges do not reach each other")?;
    Ok(())
}

fn no_gateway() -> Result<()> {
    let pod = Pod::new("a")?;
    let mut wanted = pod.wanted(bridge(), &["10.244.1.2/24"])?;
    wanted.addresses[0].gateway = None;
    add(&wanted)?;
    check(&wanted)?;
    ensure!(!ip("address show dev cni0")?.contains("inet "), "the bridge has an address");
    ensure!(pod.ip("route")?.lines().count() == 1, "{}", pod.ip("route")?);
    Ok(())
}

fn routes(path: &DataPath) -> Result<()> {
    let pod = Pod::new("a")?;
    let route = |dst: &str, gw: Option<&str>| -> Result<PodRoute> {
        Ok(PodRoute { dst: dst.parse()?, gw: gw.map(str::parse).transpose()? })
    };
    let wanted = Wanted {
        // As host-local's users have it: the default route is there twice, so to speak.
        routes: vec![
            route("0.0.0.0/0", None)?,
            route("198.51.100.0/24", Some("10.244.1.1"))?,
            route("2001:db8::/32", None)?,
        ],
        ..pod.wanted(path.clone(), &ADDRESSES)?
    };
    add(&wanted)?;
    check(&wanted)?;
    let (v4, v6) = (pod.ip("route")?, pod.ip("-6 route")?);
    let gateways = if *path == ROUTED { ["169.254.1.1", "fe80::1"] } else { ["10.244.1.1", "fd00:1::1"] };
    ensure!(v4.matches("default").count() == 1, "{v4}");
    for part in ["default", "198.51.100.0/24"] {
        ensure!(v4.contains(&format!("{part} via {} dev eth0", gateways[0])), "{v4}");
    }
    for part in ["default", "2001:db8::/32"] {
        ensure!(v6.contains(&format!("{part} via {} dev eth0", gateways[1])), "{v6}");
    }
    Ok(())
}

fn sizes(path: &DataPath) -> Result<()> {
    let pod = Pod::new("a")?;
    // Too small for IPv6, which the device then does not have.
    let small = Wanted { mtu: Some(1000), ..pod.wanted(path.clone(), &["10.244.1.2/24"])? };
    add(&small)?;
    check(&small)?;
    remove(&small)?;
    if *path != ROUTED {
        ip("link del cni0")?;
    }
    for mtu in [1280, 1450, 9000] {
        let mac = "02:00:00:00:00:07";
        let wanted =
            Wanted { mtu: Some(mtu), mac: Some(mac.to_owned()), ..pod.wanted(path.clone(), &ADDRESSES)? };
        let made = add(&wanted)?;
        ensure!((made.host.mtu, made.pod.mtu) == (mtu, mtu) && made.pod.mac == mac, "{made:?}");
        check(&wanted)?;
        let (inside, outside) = (pod.ip("link show eth0")?, ip(&format!("link show {}", made.host.name))?);
        ensure!(inside.contains(&format!("mtu {mtu} ")) && inside.contains(mac), "{inside}");
        ensure!(outside.contains(&format!("mtu {mtu} ")) && outside.contains(&made.host.mac), "{outside}");
        remove(&wanted)?;
        if made.bridge.is_some() {
            ip("link del cni0")?;
        }
    }
    ip("netns del a").map(drop)
}

fn at_once() -> Result<()> {
    let pods = (2..18_u8).map(|number| Pod::new(&format!("pod{number}"))).collect::<Result<Vec<_>>>()?;
    for path in [ROUTED, bridge()] {
        let wanted = pods
            .iter()
            .zip(2..)
            .map(|(pod, number)| {
                pod.wanted(path.clone(), &[&format!("10.244.1.{number}/24"), &format!("fd00:1::{number}/64")])
            })
            .collect::<Result<Vec<_>>>()?;
        let each = |body: fn(&Wanted) -> Result<()>| -> Result<()> {
            std::thread::scope(|scope| {
                let threads: Vec<_> = wanted.iter().map(|wanted| scope.spawn(|| body(wanted))).collect();
                threads.into_iter().try_for_each(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
            })
        };
        each(|wanted| Ok(add(wanted).map(drop)?))?;
        each(|wanted| Ok(check(wanted)?))?;
        each(|wanted| Ok(remove(wanted)?))?;
        ensure!(!ip("-br link")?.contains("pm"), "something is left");
    }
    Ok(())
}

/// Bits a second from whom calls `send` to who listens, as the receiver sees it.
fn rate(
    listener: &TcpListener,
    send: impl FnOnce() -> Result<TcpStream> + Send,
    bytes: usize,
) -> Result<f64> {
    std::thread::scope(|scope| {
        scope.spawn(move || -> Result<()> {
            let mut stream = send()?;
            stream.write_all(&vec![0; bytes])?;
            Ok(())
        });
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (mut buffer, mut received, mut since) = (vec![0; 1 << 16], 0, None);
        loop {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            // What passed at once does not count.
            match since {
                None if received + length > bytes / 5 => since = Some((Instant::now(), received + length)),
                _ => {}
            }
            received += length;
        }
        ensure!(received == bytes, "{received} of {bytes} bytes arrived");
        let (since, before) = since.context("nothing was received")?;
        #[allow(clippy::cast_precision_loss, reason = "far fewer bytes than that")]
        Ok((received - before) as f64 * 8.0 / since.elapsed().as_secs_f64())
    })
}

/// On a machine that is busy, who sends does not always get the time to send enough; so it is measured until they do.
fn must_be_near(wanted: f64, measure: impl Fn() -> Result<f64>) -> Result<()> {
    const TIMES: usize = 8;
    let mut shares = Vec::new();
    for _ in 0..TIMES {
        let share = measure()? / wanted;
        if (0.8..=1.2).contains(&share) {
            return Ok(());
        }
        shares.push(share);
    }
    bail!("never near {wanted:.0} bit/s, but {shares:.2?} of it")
}

fn limited(path: &DataPath) -> Result<()> {
    let pod = Pod::new("a")?;
    let wanted = Wanted {
        bandwidth: Some(Bandwidth {
            ingress_rate: 20_000_000,
            ingress_burst: 400_000,
            egress_rate: 40_000_000,
            egress_burst: 400_000,
        }),
        ..pod.wanted(path.clone(), &["10.244.1.2/24"])?
    };
    add(&wanted)?;
    check(&wanted)?;
    let inside: IpAddr = "10.244.1.2".parse()?;
    ip("address add 192.0.2.1/32 dev lo")?;
    let here = TcpListener::bind("192.0.2.1:80")?;
    let there = pod.netns.run(|| TcpListener::bind((inside, 80)))??;
    let ingress = || rate(&there, || Ok(TcpStream::connect((inside, 80))?), 3_000_000);
    let outwards = || Ok(pod.netns.run(|| TcpStream::connect("192.0.2.1:80"))??);
    must_be_near(20e6, ingress).context("what the pod receives")?;
    must_be_near(40e6, || rate(&here, outwards, 6_000_000)).context("what the pod sends")?;
    remove(&wanted)?;
    ensure!(!ip("-br link")?.contains("pb"), "a device is left");
    Ok(())
}
