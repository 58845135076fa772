//! VXLAN devices against the kernel: what is made is what is read back and what `ip` shows.

use std::net::IpAddr;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use kernel::Mac;
use kernel::link::{LinkChange, Links, Vxlan};
use testbed::suite::{Test, run};

const MAC: Mac = Mac([0x02, 0x50, 0, 0, 0, 1]);

fn main() -> ExitCode {
    run(vec![
        Test::new("what_is_made_is_read_back", made),
        Test::new("a_device_of_each_family_may_have_the_same_network", both_families),
        Test::new("a_device_of_others_is_told_apart", foreign),
        Test::new("a_refusal_names_the_device", refusal),
        Test::new("hardware_address_and_size_can_be_changed", changed),
    ])
}

fn ip(command: &str) -> Result<String> {
    let output = Command::new("ip").args(command.split(' ')).output().context("apt-get install iproute2")?;
    ensure!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A device that packets can leave by, and how a VXLAN device sends by it.
fn underlay(local: &str) -> Result<Vxlan> {
    if Links::open()?.find("eth0")?.is_none() {
        ip("link add eth0 type veth peer name eth1")?;
        ip("link set eth0 up")?;
        ip("link set eth1 up")?;
        ip("addr add 192.0.2.1/24 dev eth0")?;
        ip("addr add 2001:db8::1/64 dev eth0 nodad")?;
    }
    let underlay = Links::open()?.find("eth0")?.context("no eth0")?.index;
    let local: IpAddr = local.parse()?;
    Ok(Vxlan { vni: 1, port: 8472, local: Some(local), underlay, learning: false, special: false })
}

fn made() -> Result<()> {
    let mut links = Links::open()?;
    for (name, local) in [("flannel.1", "192.0.2.1"), ("flannel-v6.1", "2001:db8::1")] {
        let wanted = underlay(local)?;
        ensure!(links.find_vxlan(name)?.is_none(), "{name} is there");
        links.make_vxlan(name, MAC, 1430, &wanted)?;
        let (link, found) = links.find_vxlan(name)?.with_context(|| format!("no {name}"))?;
        ensure!(found == Some(wanted), "{found:?}, not {wanted:?}");
        ensure!(link.mac == Some(MAC) && link.mtu == 1430 && !link.up, "{link:?}");
        ensure!(link.kind.as_deref() == Some("vxlan"), "{link:?}");
        let shown = ip(&format!("-d link show {name}"))?;
        for part in ["id 1", "dstport 8472", "nolearning", &format!("local {local}"), "dev eth0"] {
            ensure!(shown.contains(part), "no `{part}`: {shown}");
        }
        links.remove(link.index)?;
        ensure!(links.find_vxlan(name)?.is_none(), "{name} stays");
    }
    Ok(())
}

fn both_families() -> Result<()> {
    let mut links = Links::open()?;
    links.make_vxlan("flannel.1", MAC, 1450, &underlay("192.0.2.1")?)?;
    links.make_vxlan("flannel-v6.1", MAC, 1430, &underlay("2001:db8::1")?)?;
    for name in ["flannel.1", "flannel-v6.1"] {
        let link = links.find(name)?.context("gone")?;
        links.change(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        ensure!(links.find(name)?.is_some_and(|link| link.up), "{name} is down");
    }
    Ok(())
}

fn foreign() -> Result<()> {
    let mut links = Links::open()?;
    underlay("192.0.2.1")?;
    ip("link add flannel.1 type vxlan id 7 dstport 4789 remote 192.0.2.9 dev eth0")?;
    ip("link add plain type bridge")?;
    let (_, found) = links.find_vxlan("flannel.1")?.context("not found")?;
    let found = found.context("no VXLAN device")?;
    ensure!(found.vni == 7 && found.port == 4789 && found.learning && found.special, "{found:?}");
    ensure!(found.local.is_none(), "{found:?}");
    let (link, none) = links.find_vxlan("plain")?.context("no bridge")?;
    ensure!(none.is_none() && link.kind.as_deref() == Some("bridge"), "{none:?} {link:?}");
    Ok(())
}

fn refusal() -> Result<()> {
    let mut links = Links::open()?;
    let how = underlay("192.0.2.1")?;
    links.make_vxlan("flannel.1", MAC, 1450, &how)?;
    for name in ["flannel.1", "other", "a-name-that-is-too-long", ""] {
        let error = links.make_vxlan(name, MAC, 1450, &how).err().context("made twice")?.to_string();
        ensure!(error.contains(&format!("VXLAN device {name}")), "{error}");
    }
    Ok(())
}

fn changed() -> Result<()> {
    let mut links = Links::open()?;
    links.make_vxlan("flannel.1", MAC, 1450, &underlay("192.0.2.1")?)?;
    let link = links.find("flannel.1")?.context("gone")?.index;
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    let change = LinkChange { up: Some(true), mtu: Some(1400), mac: Some(mac), ..LinkChange::default() };
    links.change(link, &change)?;
    let found = links.find("flannel.1")?.context("gone")?;
    ensure!(found.mac == Some(mac) && found.mtu == 1400 && found.up, "{found:?}");
    Ok(())
}
