//! Routes without tunnels, BIRD, and going from one way to another.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cni::network::bird::TABLE;
use testbed::cluster_bed::{Lan, pod_cidr, while_asking, while_echoing};
use testbed::cni::PORT;
use testbed::{Family, under_traffic};

use crate::scene::{Backend, Scene, must_be_tunnelled, must_need_a_tunnel_only_off_the_link};

/// A connection may rest so long while the way changes.
const LONGEST_GAP: Duration = Duration::from_secs(1);

pub(crate) mod host_gw {
    use super::*;

    testbed::scenarios! { Scene: nodes_that_are_not_on_the_link_get_a_tunnel }

    fn nodes_that_are_not_on_the_link_get_a_tunnel(s: &mut Scene) -> Result<()> {
        must_need_a_tunnel_only_off_the_link(s)
    }
}

pub(crate) mod switching {
    use super::*;

    testbed::scenarios! { Scene:
        from_tunnels_to_routes_and_back_no_connection_is_lost,
    }

    fn from_tunnels_to_routes_and_back_no_connection_is_lost(s: &mut Scene) -> Result<()> {
        s.start(3)?;
        let pods = s.pods()?;
        s.await_all_reach(&pods)?;
        let family = s.families()[0];
        let to = (pods[1].ip(family)?, PORT).into();
        let mut conversation = pods[0].place().open(to)?;
        for backend in [Backend::HostGw, Backend::Vxlan] {
            let place = pods[2].place();
            let gap = while_echoing(&mut conversation, || {
                under_traffic(place, to, || {
                    s.backend = backend;
                    // One after the other, as a DaemonSet is rolled out.
                    for node in 1..=3 {
                        s.bed.node_mut(node).terminate()?;
                        s.launch(node)?;
                        s.bed.node(node).daemon()?.await_line_with("pod network programmed")?;
                        s.await_reach(&pods[0], &pods[1])?;
                    }
                    Ok(())
                })
            })?;
            ensure!(gap < LONGEST_GAP, "a connection rested for {gap:?}");
            s.await_all_reach(&pods)?;
            await_way(s, &pods, family)?;
        }
        conversation.close()
    }

    /// Packets come to go as they should.
    fn await_way(s: &Scene, pods: &[testbed::cni::Pod], family: Family) -> Result<()> {
        testbed::await_that("packets go the other way", || {
            let frames = s.heard(|| pods[0].must_reach(&pods[1]))?;
            Ok(must_be_tunnelled(&frames, &pods[0], &pods[1], family, s.is_tunnelled()).is_ok())
        })
    }
}

pub(crate) mod bgp {
    use super::*;

    testbed::scenarios! { Scene:
        a_router_at_the_top_of_the_rack_learns_and_tells,
        a_bird_that_dies_takes_nothing_with_it,
        a_partition_that_outlasts_sessions_heals,
    }

    /// The router's own BIRD.
    struct Bird {
        child: std::process::Child,
    }

    impl Drop for Bird {
        fn drop(&mut self) {
            // It may have ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn router(s: &Scene) -> Result<Bird> {
        let mut text = "router id 192.168.70.254;\nprotocol device { }\n\
                        protocol kernel { ipv4 { export all; }; learn off; }\n\
                        protocol kernel { ipv6 { export all; }; learn off; }\n"
            .replace(" learn off;", "");
        for node in s.bed.nodes() {
            for (family, channel) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
                let (name, address) = (node.name().replace('-', "_"), node.address(family));
                text += &format!(
                    "protocol bgp {name}_{channel} {{ local {} as 64513; neighbor {address} as 64512; \
                     connect delay time 1; error wait time 1, 2; \
                     {channel} {{ import all; export all; next hop self; }}; }}\n",
                    node.lan().router(family)
                );
            }
        }
        std::fs::write("/run/router.conf", text)?;
        let mut command = std::process::Command::new("bird");
        command.args(["-f", "-c", "/run/router.conf", "-s", "/run/router.ctl", "-P", "/run/router.pid"]);
        let child = s.bed.underlay.router.run(|| command.spawn())?.context("apt-get install bird2")?;
        Ok(Bird { child })
    }

    fn a_router_at_the_top_of_the_rack_learns_and_tells(s: &mut Scene) -> Result<()> {
        // Each node speaks to the router of its own network, and nobody else.
        s.bed.join(1, Lan::Near)?;
        s.bed.join(2, Lan::Near)?;
        s.bed.join(3, Lan::Far)?;
        let _bird = router(s)?;
        s.args.push("--pod-network-bgp-mesh=off");
        for node in 1..=3 {
            let peers = match s.bed.node(node).lan() {
                Lan::Near => "--pod-network-bgp-peers=192.168.70.254@64513,fd00:70::fe@64513",
                Lan::Far => "--pod-network-bgp-peers=192.168.71.254@64513,fd00:71::fe@64513",
            };
            s.args.push(peers);
            s.launch(node)?;
            s.args.pop();
        }
        for node in s.bed.nodes() {
            node.await_ready()?;
        }
        let pods = s.pods()?;
        s.await_all_reach(&pods)?;
        for family in s.families() {
            // The router itself finds pods, which nobody but BIRD tells it of.
            let to = (pods[0].ip(*family)?, PORT).into();
            let is_there = |outcome: &testbed::Outcome| matches!(outcome, testbed::Outcome::Answered { .. });
            let router = testbed::Place::of(&s.bed.underlay.router);
            router.connect_until(testbed::Protocol::Tcp, to, Duration::from_secs(15), is_there)?;
        }
        // Until BIRD has learnt of it, what is behind the router is reached by a tunnel.
        testbed::await_that("packets go by what BIRD learnt", || {
            let frames = s.heard(|| pods[0].must_reach(&pods[2]))?;
            let bare =
                |family: &Family| must_be_tunnelled(&frames, &pods[0], &pods[2], *family, false).is_ok();
            Ok(s.families().iter().all(bare))
        })
    }

    fn a_bird_that_dies_takes_nothing_with_it(s: &mut Scene) -> Result<()> {
        s.start(2)?;
        let pods = s.pods()?;
        s.await_all_reach(&pods)?;
        for family in s.families() {
            let flow = pods[0].place().flow((pods[1].ip(*family)?, PORT).into())?;
            while_asking(&flow, || {
                for _ in 0..2 {
                    let before = bird(s)?.context("BIRD does not run")?;
                    nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(before),
                        nix::sys::signal::Signal::SIGKILL,
                    )?;
                    testbed::await_that("BIRD runs again", || Ok(bird(s)?.is_some_and(|now| now != before)))?;
                }
                Ok(())
            })?;
        }
        s.await_all_reach(&pods)
    }

    /// Sessions end after the hold time, and with them what they told.
    fn a_partition_that_outlasts_sessions_heals(s: &mut Scene) -> Result<()> {
        s.start(3)?;
        let pods = s.pods()?;
        s.await_all_reach(&pods)?;
        let is_learned = |s: &Scene| -> Result<bool> {
            let table = format!("table {TABLE}");
            let told = [
                s.lines(1, "-4 route show table all", &table)?,
                s.lines(1, "-6 route show table all", &table)?,
            ];
            let ranges: Vec<_> = s.families().iter().map(|family| pod_cidr(*family, 3)).collect();
            Ok(told.iter().flatten().any(|line| ranges.iter().any(|range| line.starts_with(range))))
        };
        testbed::await_that("node-3 has told BIRD", || is_learned(s))?;
        s.bed.underlay.cut_off(s.bed.node(3))?;
        testbed::await_that("what BIRD was told by node-3 is forgotten", || is_learned(s).map(|is| !is))?;
        pods[0].must_reach(&pods[1])?;
        s.bed.underlay.join_again(s.bed.node(3))?;
        testbed::await_that("node-3 tells BIRD again", || is_learned(s))?;
        s.await_all_reach(&pods)
    }

    /// The process of node 1's BIRD.
    fn bird(s: &Scene) -> Result<Option<i32>> {
        let own = std::fs::read_link(format!("/proc/{}/ns/net", s.bed.node(1).daemon()?.id()))?;
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let is_its = std::fs::read_link(path.join("ns/net")).is_ok_and(|net| net == own);
            // One that has ended, and has not been waited for, has no command line; one that is just being started has
            // that of who starts it, and for a moment none.
            let line = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            let runs = line.split('\0').next().is_some_and(|program| program.ends_with("bird"));
            if is_its && runs {
                let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                return Ok(id);
            }
        }
        Ok(None)
    }
}
