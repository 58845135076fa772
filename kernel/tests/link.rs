//! Devices and addresses against the kernel: what is made is what `ip` shows and what the kernel delivers to.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel::link::{Address, AddressEdit, AddressMonitor, AddressNews, Link, Links};
use kernel::{Error, sysctl};
use testbed::suite::{Test, run};

/// Set in the virtual machine of the test-bed, whose kernel has dummy devices.
const GUEST: &str = "POINTSMAN_GUEST";
/// How long the kernel may take for what it does later.
const PATIENCE: Duration = Duration::from_secs(10);

type Case = (&'static str, fn() -> Result<()>);

const EVERYWHERE: [Case; 10] = [
    ("devices_are_found_by_name", found),
    ("devices_of_another_kind_are_no_dummies", no_dummy),
    ("devices_can_be_removed", removed),
    ("addresses_come_and_go", addresses),
    ("addresses_of_a_device_that_is_down_are_local", || local(&mut Links::open()?, &bridge("br0")?)),
    ("what_is_there_can_be_added_and_what_is_not_removed", repeated),
    ("refusals_name_the_address_and_the_device", refusals),
    ("many_addresses_come_and_go", || many(&mut Links::open()?, &bridge("br0")?)),
    ("changes_by_others_are_heard_of_and_our_own_are_not", heard),
    ("news_that_the_kernel_had_to_drop_are_told_of", lost),
];
const WITH_DUMMIES: [Case; 3] = [
    ("a_dummy_is_made_once_and_left_down", made),
    ("addresses_of_a_dummy_that_is_down_are_local", || local(&mut Links::open()?, &dummy("kube-ipvs0")?)),
    ("a_dummy_has_many_addresses", || many(&mut Links::open()?, &dummy("kube-ipvs0")?)),
];
const WITHOUT_DUMMIES: [Case; 1] = [("a_kernel_without_dummies_is_reported", unsupported)];

fn main() -> ExitCode {
    let guest = std::env::var_os(GUEST).is_some();
    let dummies: &[Case] = if guest { &WITH_DUMMIES } else { &WITHOUT_DUMMIES };
    let cases = EVERYWHERE.iter().chain(dummies);
    run(cases.map(|(name, run)| Test::new(*name, run)).collect())
}

fn ip(command: &str) -> Result<String> {
    let output = Command::new("ip").args(command.split(' ')).output().context("apt-get install iproute2")?;
    ensure!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A device that stands for a dummy: nothing is attached to it.
fn bridge(name: &str) -> Result<Link> {
    ip(&format!("link add {name} type bridge"))?;
    Links::open()?.find(name)?.context("a bridge that was made is not found")
}

fn dummy(name: &str) -> Result<Link> {
    Ok(Links::open()?.make_dummy(name)?)
}

fn edit(link: &Link, add: bool, address: impl Into<IpAddr>) -> AddressEdit {
    AddressEdit { link: link.index, add, address: address.into() }
}

fn v4(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 96, high, low).into()
}

fn v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number).into()
}

fn of(links: &mut Links, link: &Link) -> Result<HashSet<IpAddr>> {
    let addresses = links.addresses()?.into_iter().filter(|address| address.link == link.index);
    Ok(addresses.map(|address| address.address).collect())
}

fn found() -> Result<()> {
    let mut links = Links::open()?;
    ip("link add veth-a type veth peer name veth-b")?;
    ip("link set veth-a up")?;
    let found = links.find("veth-a")?.context("veth-a is not found")?;
    let index: u32 = std::fs::read_to_string("/proc/net/dev_snmp6/veth-a")?
        .lines()
        .find_map(|line| line.strip_prefix("ifIndex")?.trim().parse().ok())
        .context("no index")?;
    let veth = Some("veth".to_owned());
    let is_it = found.index == index && found.name == "veth-a" && found.kind == veth && found.up;
    ensure!(is_it && !found.operating, "{found:?}");
    let down = links.find("veth-b")?.context("veth-b is not found")?;
    ensure!(!down.up && down.kind == veth, "{down:?}");
    let lo = links.find("lo")?.context("lo is not found")?;
    ensure!(lo.kind.is_none() && lo.up, "{lo:?}");
    ensure!(links.get(index)? == Some(found), "veth-a is not found by its index");
    ensure!(links.get(9_999)?.is_none(), "a device that is not there is found by its index");
    for missing in ["none", "", "a-name-that-no-device-has"] {
        ensure!(links.find(missing)?.is_none(), "{missing} is found");
    }
    Ok(())
}

fn no_dummy() -> Result<()> {
    let mut links = Links::open()?;
    bridge("kube-ipvs0")?;
    for (name, reason) in [
        ("kube-ipvs0", "a bridge device has that name"),
        ("lo", "loopback"),
        ("a-name-of-16-chr", "15 bytes"),
    ] {
        let Err(error) = links.make_dummy(name) else { bail!("{name} passes for a dummy") };
        let said = error.to_string();
        ensure!(said.contains(&format!("make dummy device {name}")) && said.contains(reason), "{said}");
    }
    Ok(())
}

fn unsupported() -> Result<()> {
    let mut links = Links::open()?;
    match links.make_dummy("kube-ipvs0") {
        Err(Error::Unsupported { what: "dummy devices (module dummy)" }) => {}
        other => bail!("{other:?}; where there are dummy devices, set {GUEST}"),
    }
    ensure!(links.find("kube-ipvs0")?.is_none(), "something was made");
    Ok(())
}

fn made() -> Result<()> {
    let mut links = Links::open()?;
    let link = links.make_dummy("kube-ipvs0")?;
    ensure!(!link.up && link.kind.as_deref() == Some("dummy") && link.name == "kube-ipvs0", "{link:?}");
    ensure!(links.make_dummy("kube-ipvs0")? == link, "it was made again");
    links.run(&[edit(&link, true, v4(1)), edit(&link, true, v6(1))])?;
    ensure!(of(&mut links, &link)? == HashSet::from([v4(1), v6(1)]), "addresses are missing");
    links.remove(link.index)?;
    ensure!(links.find("kube-ipvs0")?.is_none(), "it is still there");
    Ok(())
}

fn removed() -> Result<()> {
    let mut links = Links::open()?;
    let link = bridge("br0")?;
    links.remove(link.index)?;
    ensure!(links.find("br0")?.is_none(), "it is still there");
    let Err(error) = links.remove(link.index) else { bail!("it was removed twice") };
    let said = error.to_string();
    ensure!(said.contains(&format!("remove device {}", link.index)) && said.contains("ENODEV"), "{said}");
    Ok(())
}

fn addresses() -> Result<()> {
    let mut links = Links::open()?;
    let link = bridge("br0")?;
    links.run(&[edit(&link, true, v4(1)), edit(&link, true, v6(1)), edit(&link, true, v4(2))])?;
    let shown = ip("-o address show dev br0")?;
    for wanted in ["inet 10.96.0.1/32", "inet 10.96.0.2/32", "inet6 fd00::1:1/128 scope global"] {
        ensure!(shown.contains(wanted), "{wanted} is not in\n{shown}");
    }
    ip("address add 192.0.2.1/24 dev br0")?;
    ip("address add 192.0.2.9 peer 192.0.2.8 dev br0 scope link")?;
    ip("link add other type bridge")?;
    ip("link set other up")?;
    ip("-6 address add fe80::1/64 dev other nodad")?;
    let other = links.find("other")?.context("other is not found")?;
    let found: HashSet<Address> = links.addresses()?.into_iter().collect();
    let address = |link: u32, address: IpAddr, prefix, link_local_scope| Address {
        link,
        address,
        prefix,
        link_local_scope,
    };
    let wanted = [
        address(link.index, v4(1), 32, false),
        address(link.index, v4(2), 32, false),
        address(link.index, v6(1), 128, false),
        address(link.index, "192.0.2.1".parse()?, 24, false),
        address(link.index, "192.0.2.9".parse()?, 32, true),
        address(other.index, "fe80::1".parse()?, 64, true),
        address(1, Ipv4Addr::LOCALHOST.into(), 8, false),
        address(1, Ipv6Addr::LOCALHOST.into(), 128, false),
    ];
    ensure!(wanted.iter().all(|wanted| found.contains(wanted)), "{wanted:?} are not in {found:?}");
    links.run(&[edit(&link, false, v4(1)), edit(&link, false, v6(1))])?;
    let left = of(&mut links, &link)?;
    ensure!(left == HashSet::from([v4(2), "192.0.2.1".parse()?, "192.0.2.9".parse()?]), "{left:?}");
    Ok(())
}

/// Whether packets to an address are delivered here.
fn delivered(address: IpAddr) -> Result<()> {
    // A listener on all addresses, so that only delivery counts.
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let listener = TcpListener::bind((any, 0))?;
    let target = (address, listener.local_addr()?.port()).into();
    TcpStream::connect_timeout(&target, PATIENCE).with_context(|| format!("nothing comes to {address}"))?;
    Ok(())
}

fn local(links: &mut Links, link: &Link) -> Result<()> {
    ensure!(!link.up, "{link:?} is up");
    links.run(&[edit(link, true, v4(1)), edit(link, true, v6(1))])?;
    delivered(v4(1))?;
    // The route of an IPv6 address comes a moment later; there is no other that leads to it.
    let (since, any) = (Instant::now(), UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?);
    while any.connect((v6(1), 9)).is_err() {
        ensure!(since.elapsed() < PATIENCE, "{} did not become local", v6(1));
        std::thread::yield_now();
    }
    delivered(v6(1))?;
    let routes = ip("-6 route show table local")?;
    ensure!(routes.contains("local fd00::1:1 dev"), "{routes}");
    links.run(&[edit(link, false, v4(1)), edit(link, false, v6(1))])?;
    for address in [v4(1), v6(1)] {
        ensure!(UdpSocket::bind((address, 0)).is_err(), "{address} is still local");
    }
    let up = links.find(&link.name)?.is_some_and(|link| link.up);
    ensure!(!up, "{} was brought up", link.name);
    Ok(())
}

fn repeated() -> Result<()> {
    let mut links = Links::open()?;
    let link = bridge("br0")?;
    let both = |add| [edit(&link, add, v4(1)), edit(&link, add, v6(1))];
    links.run(&both(false))?;
    links.run(&both(true))?;
    links.run(&both(true))?;
    ensure!(of(&mut links, &link)?.len() == 2, "an address is there twice or not at all");
    links.run(&[both(false), both(true)].concat())?;
    ensure!(of(&mut links, &link)?.len() == 2, "edits were not carried out in order");
    links.run(&both(false))?;
    links.run(&both(false))?;
    ensure!(of(&mut links, &link)?.is_empty(), "an address is left");
    Ok(())
}

fn refusals() -> Result<()> {
    let mut links = Links::open()?;
    let link = bridge("br0")?;
    let missing = Link { index: 4242, ..link.clone() };
    let cases = [
        (edit(&missing, true, v4(1)), "add address 10.96.0.1 to device 4242"),
        (edit(&missing, true, v6(1)), "add address fd00::1:1 to device 4242"),
        (edit(&link, true, Ipv6Addr::from(0xff02_u128 << 112 | 1)), "add address ff02::1 to device"),
    ];
    for (bad, operation) in cases {
        let Err(error) = links.run(&[bad, edit(&link, true, v4(2))]) else { bail!("{bad} was done") };
        let said = error.to_string();
        ensure!(said.contains(operation), "{said}");
        ensure!(of(&mut links, &link)? == HashSet::from([v4(2)]), "the other address was not added");
        links.run(&[edit(&link, false, v4(2))])?;
    }
    sysctl::set("net.ipv6.conf.br0.disable_ipv6", "1")?;
    let Err(error) = links.run(&[edit(&link, true, v6(1))]) else { bail!("a device without IPv6 took it") };
    let said = error.to_string();
    ensure!(said.contains("IPv6 is disabled") && !said.contains("CAP_NET_ADMIN"), "{said}");
    let bulk: Vec<_> = (0..5000).map(|number| edit(&missing, true, v4(number))).collect();
    ensure!(
        matches!(links.run(&bulk), Err(Error::Refused { .. })),
        "5000 refusals are more than one can take"
    );
    Ok(())
}

fn many(links: &mut Links, link: &Link) -> Result<()> {
    let all = |add| (0..10_000).map(|number| edit(link, add, v4(number))).collect::<Vec<_>>();
    let all6 = |add| (0..1_000).map(|number| edit(link, add, v6(number))).collect::<Vec<_>>();
    links.run(&[all(true), all6(true)].concat())?;
    ensure!(of(links, link)?.len() == 11_000, "some are missing");
    links.run(&[&all(false)[1..], &all6(false)[1..]].concat())?;
    let left = of(links, link)?;
    ensure!(left == HashSet::from([v4(0), v6(0)]), "{} are left", left.len());
    Ok(())
}

fn heard() -> Result<()> {
    let mut links = Links::open()?;
    ip("link add br0 type bridge")?;
    ip("link add veth-a type veth peer name veth-b")?;
    let mut monitor = AddressMonitor::open(Some(links.port()))?;
    let (bridge, veth) =
        (links.find("br0")?.context("no bridge")?, links.find("veth-a")?.context("no veth")?);
    // Ours, of which nothing is heard.
    links.run(&[edit(&bridge, true, v4(1)), edit(&bridge, false, v4(1))])?;
    ip("address add 10.96.0.2/32 dev br0")?;
    let (link, address) = (bridge.index, v4(2));
    expect(&mut monitor, &AddressNews::Came { link, address })?;
    ip("address del 10.96.0.2/32 dev br0")?;
    expect(&mut monitor, &AddressNews::Went { link, address })?;
    // A device that leaves a bridge is not gone.
    ip("link set veth-a master br0")?;
    ip("link set veth-a nomaster")?;
    ip("address add fd00::1:7/128 dev br0 nodad")?;
    expect(&mut monitor, &AddressNews::Came { link, address: v6(7) })?;
    ip("address del fd00::1:7/128 dev br0")?;
    expect(&mut monitor, &AddressNews::Went { link, address: v6(7) })?;
    ip("link del veth-a")?;
    let mut gone = HashSet::new();
    while gone.len() < 2 {
        match monitor.next()? {
            AddressNews::LinkWent { link, name } => gone.insert((link, name)),
            other => bail!("{other:?}"),
        };
    }
    ensure!(gone.contains(&(veth.index, "veth-a".to_owned())), "{gone:?}");
    Ok(())
}

fn expect(monitor: &mut AddressMonitor, wanted: &AddressNews) -> Result<()> {
    let heard = monitor.next()?;
    ensure!(heard == *wanted, "{heard:?}, not {wanted:?}");
    Ok(())
}

fn lost() -> Result<()> {
    let mut monitor = AddressMonitor::open(None)?;
    let mut links = Links::open()?;
    let link = bridge("br0")?;
    // More than any buffer takes, at some five hundred bytes for each.
    for _ in 0..20_000 {
        links.run(&[edit(&link, true, v4(1)), edit(&link, false, v4(1))])?;
    }
    // What had arrived before comes first.
    for _ in 0..40_000 {
        if monitor.next()? == AddressNews::Lost {
            return Ok(());
        }
    }
    bail!("nothing was lost")
}
