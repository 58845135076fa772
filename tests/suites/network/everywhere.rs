//! What holds however nodes are joined.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::cluster_bed::{CONFLIST, Frame, Lan, WORLD_PORT, pod_cidr, while_asking, while_echoing, world};
use testbed::cni::{PORT, Pod, refused};
use testbed::{Family, Outcome, Protocol, scenarios};

use crate::scene::{REPAIRED, Scene, must_be_tunnelled};

pub(crate) mod basic {
    use super::*;

    scenarios! { Scene:
        pods_reach_each_other_wherever_they_are,
        what_is_sent_out_gets_the_nodes_address_and_what_stays_in_does_not,
    }

    fn pods_reach_each_other_wherever_they_are(s: &mut Scene) -> Result<()> {
        s.start(3)?;
        let mut pods = s.pods()?;
        pods.push(s.bed.pod(1, "neighbour")?);
        s.await_all_reach(&pods)?;
        let frames = s.heard(|| pods[0].must_reach(&pods[1]))?;
        for family in s.families() {
            must_be_tunnelled(&frames, &pods[0], &pods[1], *family, s.is_tunnelled())?;
            // Nodes reach pods, too, of their own and others'.
            for node in 1..=3 {
                let to = (pods[1].ip(*family)?, PORT).into();
                let outcome = s.node(node).connect(Protocol::Tcp, to)?;
                ensure!(matches!(outcome, Outcome::Answered { .. }), "node {node} to {to}: {outcome}");
            }
        }
        // Nobody had to be asked for, beyond nodes themselves.
        let asked = frames.iter().filter_map(Frame::tunnelled).any(|(_, frame)| frame.asks_for_neighbour());
        ensure!(!asked, "somebody asked for a neighbour in the tunnel");
        Ok(())
    }

    fn what_is_sent_out_gets_the_nodes_address_and_what_stays_in_does_not(s: &mut Scene) -> Result<()> {
        s.start(2)?;
        let pods = s.pods()?;
        s.await_all_reach(&pods)?;
        for family in s.families() {
            let outcome = pods[0].place().connect(Protocol::Tcp, (world(*family), WORLD_PORT).into())?;
            let seen_as = s.bed.node(1).address(*family);
            ensure!(
                outcome == Outcome::Answered { by: "world".to_owned(), seen_as },
                "to the world: {outcome}"
            );
        }
        Ok(())
    }
}

scenarios! { Scene:
    a_node_that_joins_is_reached_and_one_that_leaves_is_forgotten,
    a_node_with_another_range_is_reached_there,
    a_partition_heals,
    a_restart_loses_no_packet,
    a_crash_loses_no_packet,
    a_route_that_somebody_removed_is_back,
    routes_of_others_are_let_alone,
    a_range_that_two_nodes_claim_belongs_to_one,
    a_range_out_of_the_cluster_is_refused,
    runtimes_find_us_once_the_network_is_ready,
    status_tells_whether_running_pods_feel_it,
    cleaning_up_removes_all_of_it,
    without_masquerade_pods_are_seen_as_themselves,
    services_lead_to_pods_of_other_nodes,
    nodes_that_went_while_nobody_looked_are_forgotten,
}

fn a_node_that_joins_is_reached_and_one_that_leaves_is_forgotten(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let mut pods = s.pods()?;
    s.await_all_reach(&pods)?;
    s.bed.join(3, Lan::Near)?;
    s.start_all()?;
    pods.push(s.bed.pod(3, "pod-3")?);
    s.await_all_reach(&pods)?;
    let mentions = |lines: &[String], node: u8, s: &Scene| {
        s.families().iter().any(|family| {
            let prefix = pod_cidr(*family, node);
            lines.iter().any(|line| line.starts_with(&prefix))
        })
    };
    ensure!(mentions(&s.routes(1)?, 3, s), "{:#?}", s.routes(1)?);
    s.bed.server.delete("Node", "", "node-3")?;
    s.bed.node_mut(3).kill()?;
    s.await_routes(1, |lines| !mentions(lines, 3, s))?;
    s.await_routes(2, |lines| !mentions(lines, 3, s))?;
    let neighbours = s.lines(1, "neighbour show nud permanent", "10.244.3.")?;
    ensure!(neighbours.is_empty(), "{neighbours:#?}");
    pods[0].must_reach(&pods[1])
}

fn a_node_with_another_range_is_reached_there(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    // The Node comes back with another range, as when it was set up anew.
    s.bed.remove(2, &pods[1])?;
    s.bed.node_mut(2).kill()?;
    let ranges: Vec<String> = s.families().iter().map(|family| pod_cidr(*family, 22)).collect();
    s.bed.server.patch(
        "Node",
        "",
        "node-2",
        json!({ "spec": { "podCIDR": ranges[0], "podCIDRs": ranges } }),
    )?;
    s.start_all()?;
    let range = ranges[0].clone();
    let old = pod_cidr(s.families()[0], 2);
    s.await_routes(1, |lines| {
        lines.iter().any(|line| line.starts_with(&range)) && !lines.iter().any(|line| line.starts_with(&old))
    })?;
    let published = || {
        let text = s.bed.node(2).namespace.run(|| fs::read_to_string("/run/pointsman/network.json"))?;
        Ok(text.is_ok_and(|text| text.contains(&range)))
    };
    testbed::await_that("the new range is published", published)?;
    let moved = s.bed.pod(2, "moved")?;
    ensure!(
        moved
            .ip(s.families()[0])?
            .to_string()
            .starts_with(range.trim_end_matches("0/24").trim_end_matches("/64")),
        "{}",
        moved.result
    );
    s.await_reach(&pods[0], &moved)?;
    s.await_reach(&moved, &pods[0])
}

fn a_partition_heals(s: &mut Scene) -> Result<()> {
    s.start(3)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    s.bed.underlay.cut_off(s.bed.node(3))?;
    s.await_silence(&pods[0], &pods[2])?;
    pods[0].must_reach(&pods[1])?;
    s.bed.underlay.join_again(s.bed.node(3))?;
    s.await_all_reach(&pods)
}

fn a_restart_loses_no_packet(s: &mut Scene) -> Result<()> {
    without_loss(s, |s| s.bed.node_mut(1).terminate())
}

fn a_crash_loses_no_packet(s: &mut Scene) -> Result<()> {
    without_loss(s, |s| s.bed.node_mut(1).kill())
}

fn without_loss(s: &mut Scene, end: fn(&mut Scene) -> Result<()>) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    for family in s.families().to_vec() {
        let to = (pods[1].ip(family)?, PORT).into();
        let flow = pods[0].place().flow(to)?;
        let mut conversation = pods[0].place().open(to)?;
        while_echoing(&mut conversation, || {
            while_asking(&flow, || {
                end(s)?;
                s.launch(1)?;
                s.bed.node(1).daemon()?.await_line_with("synced")?;
                s.bed.node(1).await_ready()
            })
            .map(drop)
        })?;
        conversation.close()?;
    }
    let late = s.bed.pod(1, "late")?;
    s.await_reach(&late, &pods[1])
}

fn a_route_that_somebody_removed_is_back(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    for family in s.families() {
        let (cidr, flag) = (pod_cidr(*family, 2), if *family == Family::V4 { "-4" } else { "-6" });
        s.bed.node(1).namespace.output("ip", &[flag, "route", "del", &cidr])?;
        s.await_reach_within(REPAIRED, &pods[0], &pods[1])?;
        // So is one that was led elsewhere.
        let router = Lan::Near.router(*family).to_string();
        let elsewhere = [flag, "route", "replace", &cidr, "via", &router, "proto", "112"];
        s.bed.node(1).namespace.output("ip", &elsewhere)?;
        s.await_reach_within(REPAIRED, &pods[0], &pods[1])?;
        let nowhere = [flag, "route", "replace", "blackhole", &cidr, "proto", "112"];
        s.bed.node(1).namespace.output("ip", &nowhere)?;
        s.await_reach_within(REPAIRED, &pods[0], &pods[1])?;
    }
    // And the one to a pod of its own.
    let neighbour = s.bed.pod(1, "neighbour")?;
    neighbour.must_reach(&pods[0])
}

fn routes_of_others_are_let_alone(s: &mut Scene) -> Result<()> {
    s.bed.join(1, Lan::Near)?;
    s.bed.join(2, Lan::Near)?;
    let router = Lan::Near.router(Family::V4);
    s.bed.node(1).namespace.ip(&format!(
        "route add 198.51.100.0/24 via {router}\nroute add 10.244.9.0/24 via {router} proto 17\n\
         neighbour add 192.168.70.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent"
    ))?;
    let foreign = |s: &Scene| -> Result<Vec<String>> {
        let routes = ["198.51.100.0/24", "10.244.9.0/24"].map(|word| s.lines(1, "-4 route", word));
        let [one, other] = routes;
        Ok([one?, other?, s.lines(1, "neighbour show nud permanent", "192.168.70.77")?].concat())
    };
    let before = foreign(s)?;
    ensure!(before.len() == 3, "{before:?}");
    s.start_all()?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    ensure!(foreign(s)? == before, "{:?}", foreign(s)?);
    s.bed.node_mut(1).terminate()?;
    s.bed.node(1).ask(&["--cleanup"])?;
    ensure!(foreign(s)? == before, "{:?}", foreign(s)?);
    Ok(())
}

fn a_range_that_two_nodes_claim_belongs_to_one(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    // A third one claims the second's range, and is younger.
    let mut claim = s.bed.node(2).object(s.families());
    claim["metadata"]["name"] = json!("claimant");
    claim["metadata"]["creationTimestamp"] = json!("2099-01-01T00:00:00Z");
    claim["metadata"]["annotations"] = json!({});
    claim["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "192.168.70.99" }, { "type": "InternalIP", "address": "fd00:70::99" }]);
    s.bed.server.put(claim)?;
    let line = s.bed.node(1).daemon()?.await_line_with("claimant")?;
    ensure!(line.contains("node-2") || line.contains(&pod_cidr(s.families()[0], 2)), "{line}");
    s.await_all_reach(&pods)?;
    // The rest works all the same.
    s.bed.join(3, Lan::Near)?;
    s.start_all()?;
    let third = s.bed.pod(3, "pod-3")?;
    s.await_reach(&pods[0], &third)?;
    s.await_reach(&pods[0], &pods[1])
}

fn a_range_out_of_the_cluster_is_refused(s: &mut Scene) -> Result<()> {
    s.start(2)?;
    let pods = s.pods()?;
    let mut stranger = s.bed.node(2).object(s.families());
    stranger["metadata"] = json!({ "name": "stranger" });
    // All of the world would go there.
    stranger["spec"] = json!({ "podCIDR": "0.0.0.0/0", "podCIDRs": ["0.0.0.0/0", "::/0"] });
    s.bed.server.put(stranger)?;
    s.bed.node(1).daemon()?.await_line_with("stranger")?;
    s.await_all_reach(&pods)?;
    ensure!(!s.routes(1)?.iter().any(|line| line.starts_with("default")), "{:#?}", s.routes(1)?);
    Ok(())
}

fn runtimes_find_us_once_the_network_is_ready(s: &mut Scene) -> Result<()> {
    s.bed.join(1, Lan::Near)?;
    let other = "/etc/cni/net.d/87-podman.conflist";
    s.bed.node(1).namespace.run(|| -> std::io::Result<()> {
        fs::create_dir_all("/etc/cni/net.d")?;
        fs::write(other, "{}")
    })??;
    // A node that has no range yet is not ready.
    let mut object = s.bed.node(1).object(s.families());
    object["spec"] = json!({});
    s.bed.server.put(object)?;
    s.launch(1)?;
    s.bed.node(1).daemon()?.await_line_with("pod network programmed")?;
    let exists = |s: &Scene, file: &'static str| s.bed.node(1).namespace.run(|| fs::exists(file));
    ensure!(!exists(s, CONFLIST)??, "runtimes were told too early");
    s.bed.server.put(s.bed.node(1).object(s.families()))?;
    s.bed.node(1).await_ready()?;
    let pod = s.bed.pod(1, "pod-1")?;
    s.bed.node(1).runtime.check(&s.bed.node(1).list()?, &pod.attachment)?;
    let written = s.bed.node(1).namespace.run(|| fs::read_dir("/etc/cni/net.d").map(Iterator::count))??;
    ensure!(written == 2, "there are {written} files");
    ensure!(exists(s, other)??, "somebody else's file is gone");
    Ok(())
}

/// The node's range is taken from it, and comes back.
fn status_tells_whether_running_pods_feel_it(s: &mut Scene) -> Result<()> {
    s.start(1)?;
    let node = s.bed.node(1);
    let list = node.list()?.in_version("1.1.0");
    let pod = s.bed.pod(1, "pod")?;
    node.runtime.status(&list)?;
    s.bed.server.delete("Node", "", node.name())?;
    let code = || match node.runtime.status(&list) {
        Ok(()) => Ok(None),
        status => refused(status).map(|refusal| Some(refusal.code)),
    };
    testbed::await_that("pods are said to feel it", || Ok(code()? == Some(51)))?;
    node.runtime.del(&list, &pod.attachment)?;
    ensure!(code()? == Some(50), "without pods: {:?}", code()?);
    s.bed.server.put(node.object(s.families()))?;
    testbed::await_that("all is well again", || Ok(code()?.is_none()))
}

fn cleaning_up_removes_all_of_it(s: &mut Scene) -> Result<()> {
    s.bed.join(1, Lan::Near)?;
    s.bed.join(2, Lan::Near)?;
    let before = testbed::cni::There::on(&s.bed.node(1).namespace)?;
    s.start_all()?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    s.bed.remove(1, &pods[0])?;
    s.bed.node_mut(1).terminate()?;
    let exists = s.bed.node(1).namespace.run(|| fs::exists(CONFLIST))??;
    ensure!(exists, "a daemon that only ends takes the network with it");
    s.bed.node(1).ask(&["--cleanup"])?;
    // What plugins lock files by stays, and so does how far addresses were given out.
    let there = testbed::cni::There::on(&s.bed.node(1).namespace)?;
    let theirs = ["/var/lib/cni/networks/", ".lock"];
    let without =
        |there: &testbed::cni::There| theirs.iter().fold(there.clone(), |there, text| there.without(text));
    without(&there).must_be_as(&without(&before))
}

fn without_masquerade_pods_are_seen_as_themselves(s: &mut Scene) -> Result<()> {
    s.args.push("--pod-network-masquerade=off");
    s.start(1)?;
    let pod = s.bed.pod(1, "pod-1")?;
    for family in s.families() {
        let via = s.bed.node(1).address(*family);
        s.bed.underlay.router.ip(&format!("route add {} via {via}", pod_cidr(*family, 1)))?;
        let outcome = pod.place().connect(Protocol::Tcp, (world(*family), WORLD_PORT).into())?;
        let seen_as = pod.ip(*family)?;
        ensure!(outcome == Outcome::Answered { by: "world".to_owned(), seen_as }, "to the world: {outcome}");
    }
    Ok(())
}

fn services_lead_to_pods_of_other_nodes(s: &mut Scene) -> Result<()> {
    s.start(3)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    for family in s.families() {
        let name = format!("web-{}", family.name().to_lowercase());
        let service = Service::new(&name, family.cluster_ip(10)).tcp("http", 80);
        let endpoints = pods[1..].iter().map(|pod| -> Result<Endpoint> {
            Ok(Endpoint { address: pod.ip(*family)?.to_string(), ..Endpoint::default() })
        });
        let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_>>()?;
        let slice = Slice::new(&name, *family, endpoints).port("http", Protocol::Tcp, PORT);
        s.bed.server.put(service.to_json())?;
        s.bed.server.put(slice.to_json())?;
        let to = (family.cluster_ip(10), 80).into();
        let answered = |outcome: &Outcome| matches!(outcome, Outcome::Answered { .. });
        pods[0].place().connect_until(Protocol::Tcp, to, std::time::Duration::from_secs(10), answered)?;
        let outcomes = pods[0].place().connect_times(Protocol::Tcp, to, 40)?;
        let own = pods[0].ip(*family)?;
        for pod in &pods[1..] {
            let wanted = Outcome::Answered { by: pod.name().to_owned(), seen_as: own };
            ensure!(outcomes.contains_key(&wanted), "{outcomes:?}");
        }
        ensure!(outcomes.len() == 2, "{outcomes:?}");
    }
    Ok(())
}

fn nodes_that_went_while_nobody_looked_are_forgotten(s: &mut Scene) -> Result<()> {
    s.start(3)?;
    let pods = s.pods()?;
    s.await_all_reach(&pods)?;
    s.bed.node_mut(1).kill()?;
    s.bed.server.delete("Node", "", "node-3")?;
    s.bed.node_mut(3).kill()?;
    s.launch(1)?;
    let gone = pod_cidr(s.families()[0], 3);
    s.await_routes(1, |lines| !lines.iter().any(|line| line.starts_with(&gone)))?;
    s.await_reach(&pods[0], &pods[1])?;
    let left: Vec<Pod> = pods.into_iter().take(2).collect();
    s.await_all_reach(&left).context("those that stayed")
}
