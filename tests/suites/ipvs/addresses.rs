//! Node ports answer at the node's addresses as they come and go.

use anyhow::{Result, ensure};
use testbed::subject::Seen::Masqueraded;
use testbed::{Family, Subject, await_that};

use crate::{at, servers};

testbed::scenarios![
    Subject:
    node_ports_follow_the_nodes_addresses,
    an_address_that_the_node_gets_itself_leaves_the_device,
];

fn change_address(s: &Subject, verb: &str, address: std::net::IpAddr) -> Result<()> {
    let (prefix, no_dad) = match s.family() {
        Family::V4 => (32, ""),
        Family::V6 => (128, if verb == "add" { " nodad" } else { "" }),
    };
    s.bed.node.ip(&format!("addr {verb} {address}/{prefix} dev eth0{no_dad}\n"))
}

fn node_ports_follow_the_nodes_addresses(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1", "remote-1"])?;
    s.proxy()?.await_quiet()?;
    let second = s.family().second_node_address();
    let begin = format!("-a -t {} ", at(second, 30080));
    // Connections that there were are waited for.
    let is_served = |s: &Subject| -> Result<bool> {
        Ok(servers(s)?.lines().any(|line| line.starts_with(&begin) && line.ends_with("-w 1")))
    };
    for _ in 0..2 {
        s.reaches(s.client(), (second, 30080), &["pod-1", "remote-1"], Masqueraded)?;
        change_address(s, "del", second)?;
        await_that("the node port is gone with its address", || Ok(!is_served(s)?))?;
        s.reaches(s.client(), (s.family().node(), 30080), &["pod-1", "remote-1"], Masqueraded)?;
        change_address(s, "add", second)?;
        await_that("the node port is there with its address", || is_served(s))?;
    }
    let log = s.proxy()?.log();
    ensure!(log.contains(&format!("the node has lost address {second}")), "{log}");
    ensure!(!log.contains("repairing"), "nobody damaged anything:\n{log}");
    Ok(())
}

fn an_address_that_the_node_gets_itself_leaves_the_device(s: &mut Subject) -> Result<()> {
    let address = s.family().external_ip(5);
    let web = s.web().external_ip(address);
    s.serve(web, &["pod-1"])?;
    s.proxy()?.await_quiet()?;
    let is_on_device = |s: &Subject| -> Result<bool> {
        let listed = s.bed.node.output("ip", &["-o", "addr", "show", "dev", "kube-ipvs0"])?;
        Ok(listed.contains(&format!(" {address}/")))
    };
    ensure!(is_on_device(s)?, "the address is not there to begin with");
    change_address(s, "add", address)?;
    await_that("the address is the node's own", || Ok(!is_on_device(s)?))?;
    s.reaches(s.client(), (address, 80), &["pod-1"], Masqueraded)?;
    change_address(s, "del", address)?;
    await_that("the address is on the device again", || is_on_device(s))?;
    s.reaches(s.client(), (address, 80), &["pod-1"], Masqueraded)?;
    Ok(())
}
