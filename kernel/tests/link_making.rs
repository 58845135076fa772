//! Devices that are made and changed, against the kernel: what is asked for is what `ip` shows.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use kernel::link::{Assignment, End, Link, LinkChange, Links, NewBridge};
use kernel::netns::Netns;
use kernel::route::Routes;
use kernel::{Error, Mac};
use testbed::suite::{Test, run};

const MAC_A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const MAC_B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
const A: End<'_> = End { name: "veth-a", mtu: Some(1400), mac: MAC_A };
const B: End<'_> = End { name: "eth0", mtu: Some(1400), mac: MAC_B };

fn main() -> ExitCode {
    run(vec![
        Test::new("a_pair_is_made_with_its_other_end_elsewhere", pair),
        Test::new("names_that_are_taken_make_nothing", taken),
        Test::new("an_end_that_is_first_up_carries_packets_a_moment_later", operating),
        Test::new("bridges_keep_their_address_and_have_ports", bridge),
        Test::new("a_device_is_changed_as_asked", changed),
        Test::new("a_device_may_move", moved),
        Test::new("no_link_local_address_is_made_where_none_is_to_be", no_link_local),
        Test::new("addresses_have_prefixes_and_routes_or_not", addresses),
        Test::new("ipv6_addresses_are_of_use_at_once", at_once),
        Test::new("all_devices_are_listed", listed),
    ])
}

fn ip(command: &str) -> Result<String> {
    let output = Command::new("ip").args(command.split(' ')).output().context("apt-get install iproute2")?;
    ensure!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn pod() -> Result<Netns> {
    ip("netns add pod")?;
    Ok(Netns::open(Path::new("/run/netns/pod"))?)
}

fn find(links: &mut Links, name: &str) -> Result<Link> {
    links.find(name)?.with_context(|| format!("{name} is not found"))
}

fn up(links: &mut Links, link: &Link) -> Result<()> {
    Ok(links.change(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?)
}

fn pair() -> Result<()> {
    let (pod, mut links) = (pod()?, Links::open()?);
    let mut inside = pod.run(Links::open)??;
    links.make_veth(&A, &B, Some(pod.as_fd()))?;
    let (a, b) = (find(&mut links, "veth-a")?, find(&mut inside, "eth0")?);
    let wanted = Link {
        index: a.index,
        name: "veth-a".to_owned(),
        kind: Some("veth".to_owned()),
        mtu: 1400,
        mac: Some(MAC_A),
        peer: Some(b.index),
        ..Link::default()
    };
    ensure!(a == wanted, "{a:?}, not {wanted:?}");
    ensure!(b.peer == Some(a.index) && b.mac == Some(MAC_B) && b.mtu == 1400, "{b:?}");
    ensure!(!ip("-br link")?.contains("eth0"), "the other end was here");
    links.remove(a.index)?;
    ensure!(inside.find("eth0")?.is_none(), "the other end is still there");
    // Both ends here.
    links.make_veth(&A, &B, None)?;
    find(&mut links, "eth0")?;
    Ok(())
}

fn taken() -> Result<()> {
    let (pod, mut links) = (pod()?, Links::open()?);
    ip("-n pod link add eth0 type bridge")?;
    let Err(error) = links.make_veth(&A, &B, Some(pod.as_fd())) else { bail!("eth0 was made twice") };
    let said = error.to_string();
    ensure!(said.contains("make veth pair veth-a and eth0") && said.contains("EEXIST"), "{said}");
    ensure!(links.find("veth-a")?.is_none(), "one end was made");
    for bad in ["", "a/b", "a b", "..", "a-name-of-16-chr", "a:b"] {
        let end = End { name: bad, ..B };
        ensure!(links.make_veth(&A, &end, Some(pod.as_fd())).is_err(), "{bad:?} was made");
        ensure!(
            links.make_ifb(bad).is_err()
                && links.make_bridge(&NewBridge { name: bad, mtu: None, mac: MAC_A }).is_err()
        );
    }
    ensure!(links.find("veth-a")?.is_none(), "one end was made");
    Ok(())
}

fn operating() -> Result<()> {
    let (pod, mut links) = (pod()?, Links::open()?);
    let mut inside = pod.run(Links::open)??;
    links.make_veth(&A, &B, Some(pod.as_fd()))?;
    let (a, b) = (find(&mut links, "veth-a")?, find(&mut inside, "eth0")?);
    up(&mut links, &a)?;
    let alone = find(&mut links, "veth-a")?;
    ensure!(alone.up && !alone.operating, "{alone:?}");
    up(&mut inside, &b)?;
    testbed::await_that("both ends carry packets", || {
        Ok(find(&mut links, "veth-a")?.operating && find(&mut inside, "eth0")?.operating)
    })
}

fn bridge() -> Result<()> {
    let mut links = Links::open()?;
    links.make_bridge(&NewBridge { name: "cni0", mtu: Some(1450), mac: MAC_B })?;
    let bridge = find(&mut links, "cni0")?;
    ensure!(bridge.kind.as_deref() == Some("bridge") && bridge.mtu == 1450, "{bridge:?}");
    links.make_veth(&A, &B, None)?;
    let (a, b) = (find(&mut links, "veth-a")?, find(&mut links, "eth0")?);
    links.change(a.index, &LinkChange { master: Some(bridge.index), ..LinkChange::default() })?;
    for link in [&bridge, &a, &b] {
        up(&mut links, link)?;
    }
    testbed::await_that("the port forwards", || {
        Ok(find(&mut links, "veth-a")?.port.is_some_and(|port| port.forwarding))
    })?;
    let port = find(&mut links, "veth-a")?;
    ensure!(port.master == Some(bridge.index) && port.port.is_some_and(|port| !port.hairpin), "{port:?}");
    links.set_hairpin(a.index, true)?;
    ensure!(find(&mut links, "veth-a")?.port.is_some_and(|port| port.hairpin), "no hairpin mode");
    ensure!(links.set_hairpin(b.index, true).is_err(), "what is no port has hairpin mode");
    // The port's address is lower than the bridge's.
    ensure!(find(&mut links, "cni0")?.mac == Some(MAC_B), "the bridge took its port's address");
    links.change(a.index, &LinkChange { master: Some(0), ..LinkChange::default() })?;
    let left = find(&mut links, "veth-a")?;
    ensure!(left.master.is_none() && left.port.is_none(), "{left:?}");
    Ok(())
}

fn changed() -> Result<()> {
    let mut links = Links::open()?;
    links.make_ifb("ifb-a")?;
    let ifb = find(&mut links, "ifb-a")?;
    ensure!(ifb.kind.as_deref() == Some("ifb") && !ifb.up, "{ifb:?}");
    links.make_veth(&B, &A, None)?;
    let link = find(&mut links, "eth0")?;
    let change = LinkChange {
        promiscuous: Some(true),
        mtu: Some(1300),
        mac: Some(Mac([2, 0, 0, 0, 0, 0xc])),
        alias: Some("whose it is"),
        name: Some("renamed"),
        ..LinkChange::default()
    };
    links.change(link.index, &change)?;
    let found = find(&mut links, "renamed")?;
    ensure!(found.index == link.index && found.promiscuous && found.mtu == 1300, "{found:?}");
    ensure!(found.mac == change.mac && found.alias.as_deref() == Some("whose it is"), "{found:?}");
    links.change(link.index, &LinkChange { promiscuous: Some(false), ..LinkChange::default() })?;
    ensure!(!find(&mut links, "renamed")?.promiscuous, "it takes in everything still");
    // An alias longer than the kernel takes is cut between two letters.
    let long = "ä".repeat(200);
    links.change(link.index, &LinkChange { alias: Some(&long), ..LinkChange::default() })?;
    let alias = find(&mut links, "renamed")?.alias.context("no alias")?;
    ensure!(long.starts_with(&alias) && alias.len() == 254, "{alias}");
    let Err(error) = links.change(9999, &change) else { bail!("what is not there was changed") };
    ensure!(matches!(error, Error::Refused { .. }) && error.to_string().contains("device 9999"), "{error}");
    Ok(())
}

fn moved() -> Result<()> {
    let (pod, mut links) = (pod()?, Links::open()?);
    links.make_veth(&A, &B, None)?;
    let b = find(&mut links, "eth0")?;
    links.change(b.index, &LinkChange { netns: Some(pod.as_fd()), ..LinkChange::default() })?;
    ensure!(links.find("eth0")?.is_none(), "it is still here");
    ensure!(pod.run(|| Links::open()?.find("eth0"))??.is_some(), "it did not arrive");
    Ok(())
}

fn no_link_local() -> Result<()> {
    let mut links = Links::open()?;
    links.make_veth(&A, &B, None)?;
    let (a, b) = (find(&mut links, "veth-a")?, find(&mut links, "eth0")?);
    links.change(a.index, &LinkChange { no_link_local: true, ..LinkChange::default() })?;
    up(&mut links, &a)?;
    up(&mut links, &b)?;
    let mut of = |link: u32| -> Result<usize> {
        Ok(links.addresses()?.into_iter().filter(|address| address.link == link).count())
    };
    testbed::await_that("the other end has one", || Ok(of(b.index)? == 1))?;
    ensure!(of(a.index)? == 0, "it has one all the same");
    Ok(())
}

fn addresses() -> Result<()> {
    let mut links = Links::open()?;
    links.make_veth(&A, &B, None)?;
    let (a, b) = (find(&mut links, "veth-a")?, find(&mut links, "eth0")?);
    up(&mut links, &a)?;
    up(&mut links, &b)?;
    let assign = |address: &str, on_link| -> Result<Assignment> {
        Ok(Assignment { link: a.index, address: address.parse()?, on_link })
    };
    let all = [
        assign("10.1.0.1/24", true)?,
        assign("10.2.0.1/24", false)?,
        assign("10.3.0.1/32", true)?,
        assign("fd01::1/64", true)?,
        assign("fd02::1/64", false)?,
    ];
    links.assign(&all)?;
    links.assign(&all)?;
    links.assign(&[])?;
    let shown = ip("address show dev veth-a")?;
    for part in ["10.1.0.1/24 brd 10.1.0.255", "10.2.0.1/24", "10.3.0.1/32", "fd01::1/64", "fd02::1/64"] {
        ensure!(shown.contains(part), "{part} is not in {shown}");
    }
    let routes = ip("route")? + &ip("-6 route")?;
    ensure!(routes.contains("10.1.0.0/24") && routes.contains("fd01::/64"), "{routes}");
    ensure!(!routes.contains("10.2.0.0/24") && !routes.contains("fd02::/64"), "{routes}");
    let bad = Assignment { link: 9999, ..all[0] };
    let Err(error) = links.assign(&[bad, assign("10.4.0.1/24", true)?]) else { bail!("{bad} was done") };
    ensure!(error.to_string().contains("add address 10.1.0.1/24 to device 9999"), "{error}");
    ensure!(ip("address show dev veth-a")?.contains("10.4.0.1/24"), "the other one was not added");
    for address in all.map(|assignment| assignment.address) {
        ensure!(links.unassign(a.index, address)?, "{address} was not there");
        ensure!(!links.unassign(a.index, address)?, "{address} is there still");
    }
    kernel::sysctl::set("net.ipv6.conf.veth-a.disable_ipv6", "1")?;
    let Err(error) = links.assign(&[all[3]]) else { bail!("a device without IPv6 took it") };
    ensure!(error.to_string().contains("IPv6 is disabled") && !error.to_string().contains("CAP_"), "{error}");
    Ok(())
}

fn at_once() -> Result<()> {
    let (mut links, mut routes) = (Links::open()?, Routes::open()?);
    links.make_veth(&A, &B, None)?;
    for name in ["veth-a", "eth0"] {
        let link = find(&mut links, name)?;
        up(&mut links, &link)?;
    }
    let address: IpNet = "fd01::1/128".parse()?;
    let link = find(&mut links, "veth-a")?.index;
    links.assign(&[Assignment { link, address, on_link: false }])?;
    // With the kernel's default, a second or more would pass before it may be used.
    let shown = ip("address show dev veth-a")?;
    let line = shown.lines().find(|line| line.contains("fd01::1")).context("no address")?;
    ensure!(!line.contains("tentative") && line.contains("nodad"), "{line}");
    testbed::await_that("packets are delivered to it", || {
        Ok(routes.way(address.addr(), 0)?.is_some_and(|way| way.local))
    })
}

fn listed() -> Result<()> {
    let mut links = Links::open()?;
    for number in 0..200 {
        links.make_ifb(&format!("ifb{number}"))?;
    }
    let listed = links.list()?;
    for name in (0..200).map(|number| format!("ifb{number}")).chain(["lo".to_owned()]) {
        let link =
            listed.iter().find(|link| link.name == name).with_context(|| format!("{name} is missing"))?;
        ensure!(links.get(link.index)?.as_ref() == Some(link), "{link:?} is listed otherwise");
    }
    ensure!(listed.iter().find(|link| link.name == "lo").is_some_and(|lo| lo.up && lo.kind.is_none()));
    Ok(())
}
