//! Neighbours and forwarding entries against the kernel.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kernel::Mac;
use kernel::link::{LinkChange, Links, Vxlan};
use kernel::neighbour::{Forwarding, Neighbour, NeighbourEdit, Neighbours};
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("neighbours_are_listed_as_they_were_set", neighbours),
        Test::new("forwarding_entries_are_listed_as_they_were_set", forwarding),
        Test::new("an_entry_that_changes_is_one_entry", one_entry),
        Test::new("refusals_are_told_one_by_one", one_by_one),
        Test::new("five_thousand_entries_take_no_time", many),
    ])
}

fn run_program(program: &str, command: &str) -> Result<String> {
    let output = Command::new(program).args(command.split(' ')).output();
    let output = output.context("apt-get install iproute2")?;
    ensure!(output.status.success(), "{program} {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn device() -> Result<u32> {
    let mut links = Links::open()?;
    run_program("ip", "link set lo up")?;
    let local: IpAddr = Ipv4Addr::LOCALHOST.into();
    let how = Vxlan { vni: 1, port: 8472, local: Some(local), underlay: 0, learning: false, special: false };
    links.make_vxlan("flannel.1", Mac([2, 0, 0, 0, 0, 1]), 1450, &how)?;
    let link = links.find("flannel.1")?.context("no device")?.index;
    links.change(link, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    Ok(link)
}

fn mac(n: u16) -> Mac {
    let [high, low] = n.to_be_bytes();
    Mac([2, 0x50, 0, 0, high, low])
}

fn neighbour(link: u32, address: &str, n: u16) -> Result<Neighbour> {
    Ok(Neighbour { link, address: address.parse()?, mac: mac(n), permanent: true })
}

fn run_all(neighbours: &mut Neighbours, edits: &[NeighbourEdit]) -> Result<()> {
    let refused = neighbours.run(edits)?;
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

/// Without those that the device has by itself, for multicast.
fn permanent(neighbours: &mut Neighbours, link: u32) -> Result<Vec<Neighbour>> {
    let mut found = neighbours.list(link)?;
    found.retain(|neighbour| neighbour.permanent);
    found.sort_unstable();
    Ok(found)
}

fn neighbours() -> Result<()> {
    let (mut neighbours, link) = (Neighbours::open()?, device()?);
    let wanted = [neighbour(link, "10.244.1.0", 1)?, neighbour(link, "fd00:1::", 2)?];
    for _ in 0..2 {
        run_all(&mut neighbours, &wanted.map(NeighbourEdit::Set))?;
        let found = permanent(&mut neighbours, link)?;
        ensure!(found == wanted, "{found:?}");
    }
    let shown = run_program("ip", "neigh show dev flannel.1")?;
    ensure!(shown.contains("10.244.1.0 lladdr 02:50:00:00:00:01 PERMANENT"), "{shown}");
    for _ in 0..2 {
        run_all(&mut neighbours, &wanted.map(NeighbourEdit::Forget))?;
        let found = permanent(&mut neighbours, link)?;
        ensure!(found.is_empty(), "{found:?}");
    }
    Ok(())
}

fn forwarding() -> Result<()> {
    let (mut neighbours, link) = (Neighbours::open()?, device()?);
    let wanted = [
        Forwarding { link, mac: mac(1), to: "192.0.2.1".parse()? },
        Forwarding { link, mac: mac(2), to: "192.0.2.2".parse()? },
    ];
    for _ in 0..2 {
        run_all(&mut neighbours, &wanted.map(NeighbourEdit::Forward))?;
        let mut found = neighbours.forwarding(link)?;
        found.sort_unstable();
        ensure!(found == wanted, "{found:?}");
    }
    let shown = run_program("bridge", "fdb show dev flannel.1")?;
    ensure!(shown.contains("02:50:00:00:00:01 dst 192.0.2.1 self permanent"), "{shown}");
    for _ in 0..2 {
        run_all(&mut neighbours, &wanted.map(NeighbourEdit::Stop))?;
        let found = neighbours.forwarding(link)?;
        ensure!(found.is_empty(), "{found:?}");
    }
    Ok(())
}

fn one_entry() -> Result<()> {
    let (mut neighbours, link) = (Neighbours::open()?, device()?);
    let to = |n: u16, last: u8| Forwarding { link, mac: mac(n), to: Ipv4Addr::new(192, 0, 2, last).into() };
    let edits = [
        NeighbourEdit::Set(neighbour(link, "10.244.1.0", 1)?),
        NeighbourEdit::Forward(to(1, 1)),
        NeighbourEdit::Set(neighbour(link, "10.244.1.0", 2)?),
        NeighbourEdit::Forward(to(1, 2)),
    ];
    run_all(&mut neighbours, &edits)?;
    ensure!(permanent(&mut neighbours, link)? == [neighbour(link, "10.244.1.0", 2)?]);
    ensure!(neighbours.forwarding(link)? == [to(1, 2)], "{:?}", neighbours.forwarding(link)?);
    // To stop what goes elsewhere by now stops nothing.
    run_all(&mut neighbours, &[NeighbourEdit::Stop(to(1, 1))])?;
    ensure!(neighbours.forwarding(link)? == [to(1, 2)]);
    // What is for everybody may go to several places.
    for last in [8, 9] {
        let command = format!("fdb append 00:00:00:00:00:00 dev flannel.1 dst 192.0.2.{last}");
        run_program("bridge", &command)?;
    }
    let everybody = |last| Forwarding { mac: Mac::ZERO, ..to(1, last) };
    run_all(&mut neighbours, &[NeighbourEdit::Stop(everybody(8))])?;
    let mut found = neighbours.forwarding(link)?;
    found.sort_unstable();
    ensure!(found == [everybody(9), to(1, 2)], "{found:?}");
    Ok(())
}

fn one_by_one() -> Result<()> {
    let (mut neighbours, link) = (Neighbours::open()?, device()?);
    let mut edits: Vec<_> = (0..600)
        .map(|n: u16| {
            let [high, low] = n.to_be_bytes();
            let address = Ipv4Addr::new(10, high, low, 0).into();
            NeighbourEdit::Set(Neighbour { link, address, mac: mac(n), permanent: true })
        })
        .collect();
    edits[3] = NeighbourEdit::Set(neighbour(9999, "10.1.2.3", 1)?);
    edits[555] = NeighbourEdit::Forward(Forwarding { link: 9999, mac: mac(1), to: "192.0.2.1".parse()? });
    let refused = neighbours.run(&edits)?;
    let places: Vec<_> = refused.iter().map(|(at, _)| *at).collect();
    ensure!(places == [3, 555], "{refused:?}");
    ensure!(refused[0].1.to_string().contains("10.1.2.3"), "{:?}", refused[0]);
    ensure!(permanent(&mut neighbours, link)?.len() == 598);
    Ok(())
}

fn many() -> Result<()> {
    let (mut neighbours, link) = (Neighbours::open()?, device()?);
    let edits: Vec<_> = (0..5000_u16)
        .flat_map(|n| {
            let [high, low] = n.to_be_bytes();
            let node = Ipv4Addr::new(172, 16, high, low).into();
            let address = Ipv4Addr::new(10, high, low, 0).into();
            [
                NeighbourEdit::Set(Neighbour { link, address, mac: mac(n), permanent: true }),
                NeighbourEdit::Forward(Forwarding { link, mac: mac(n), to: node }),
            ]
        })
        .collect();
    let start = Instant::now();
    run_all(&mut neighbours, &edits)?;
    let set = start.elapsed();
    let found = (permanent(&mut neighbours, link)?.len(), neighbours.forwarding(link)?.len());
    let listed = start.elapsed() - set;
    ensure!(found == (5000, 5000), "{found:?}");
    println!("5000 neighbours and as many forwarding entries: set in {set:?}, listed in {listed:?}");
    ensure!(set.as_millis() < 2000, "{set:?}");
    Ok(())
}
