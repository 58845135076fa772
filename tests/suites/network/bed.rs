//! The cluster itself, by routes and tunnels made by hand: what it says of packets is so.

use anyhow::{Result, ensure};
use testbed::cluster_bed::{Frame, Lan, Sniffer, WORLD_PORT, world};
use testbed::{ClusterBed, Family, Outcome, Protocol, Responder, scenarios};

const PORT: u16 = 8080;

scenarios! { ClusterBed:
    nodes_reach_each_other_and_the_world_unless_they_are_cut_off,
    what_a_tunnel_carries_is_told_from_what_goes_bare,
    nodes_have_folders_of_their_own,
}

fn nodes_reach_each_other_and_the_world_unless_they_are_cut_off(bed: &mut ClusterBed) -> Result<()> {
    bed.join(1, Lan::Near)?;
    bed.join(2, Lan::Near)?;
    bed.join(3, Lan::Far)?;
    for family in Family::BOTH {
        for number in [2, 3] {
            let to = (bed.node(number).address(family), 1).into();
            let outcome = bed.node(1).place().connect(Protocol::Tcp, to)?;
            ensure!(outcome == Outcome::Refused, "{to}: {outcome}");
        }
        let outcome = bed.node(3).place().connect(Protocol::Udp, (world(family), WORLD_PORT).into())?;
        ensure!(matches!(outcome, Outcome::Answered { .. }), "the world: {outcome}");
    }
    let to = (bed.node(2).address(Family::V4), 1).into();
    bed.underlay.cut_off(bed.node(2))?;
    let outcome = bed.node(1).place().connect_briefly(Protocol::Tcp, to)?;
    ensure!(outcome == Outcome::Silence, "cut off: {outcome}");
    bed.underlay.join_again(bed.node(2))?;
    let outcome = bed.node(1).place().connect(Protocol::Tcp, to)?;
    ensure!(outcome == Outcome::Refused, "joined again: {outcome}");
    Ok(())
}

fn what_a_tunnel_carries_is_told_from_what_goes_bare(bed: &mut ClusterBed) -> Result<()> {
    bed.join(1, Lan::Near)?;
    bed.join(2, Lan::Near)?;
    for (own, other) in [(1, 2), (2, 1)] {
        let (node, remote) = (bed.node(own), bed.node(other).address(Family::V4));
        node.namespace.ip(&format!(
            "link add tunnel type vxlan id 7 dstport 8472 local {} remote {remote}\nlink set tunnel up\n\
             addr add 10.9.0.{own}/24 dev tunnel\n",
            node.address(Family::V4)
        ))?;
    }
    let inner = ([10, 9, 0, 2], PORT).into();
    let _responder = Responder::new(&bed.node(2).namespace, inner, "two")?;
    let bare = (bed.node(2).address(Family::V4), PORT).into();
    let _other = Responder::new(&bed.node(2).namespace, bare, "two")?;
    let sniffer = Sniffer::on(&bed.underlay.router)?;
    for to in [inner, bare] {
        let outcome = bed.node(1).place().connect(Protocol::Tcp, to)?;
        ensure!(matches!(outcome, Outcome::Answered { .. }), "{to}: {outcome}");
    }
    let frames = sniffer.stop();
    let tunnelled: Vec<_> = frames.iter().filter_map(Frame::tunnelled).collect();
    ensure!(!tunnelled.is_empty() && tunnelled.iter().all(|(number, _)| *number == 7), "{tunnelled:?}");
    ensure!(tunnelled.iter().any(|(_, frame)| frame.asks_for_neighbour()), "nobody asked who has {inner}");
    let between = |frame: &&Frame| frame.is_between([10, 9, 0, 1].into(), inner.ip());
    ensure!(tunnelled.iter().map(|(_, frame)| frame).any(|frame| between(&frame)), "no packet was carried");
    ensure!(!frames.iter().any(|frame| between(&frame)), "a packet went bare");
    Ok(())
}

fn nodes_have_folders_of_their_own(bed: &mut ClusterBed) -> Result<()> {
    bed.join(1, Lan::Near)?;
    bed.join(2, Lan::Near)?;
    let write = |folder: &str| -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(format!("{folder}/mine"), "1")
    };
    for folder in ["/etc/cni/net.d", "/var/lib/cni", "/run/pointsman"] {
        bed.node(1).namespace.run(|| write(folder))??;
        let file = format!("{folder}/mine");
        ensure!(bed.node(1).namespace.run(|| std::fs::exists(&file))??, "{file} is not there");
        ensure!(!bed.node(2).namespace.run(|| std::fs::exists(&file))??, "{file} is everywhere");
        ensure!(!std::fs::exists(&file)?, "{file} is on this machine");
    }
    Ok(())
}
