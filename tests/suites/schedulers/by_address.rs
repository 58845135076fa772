//! Those that go by an address: sh by the client's, mh by that and its port, dh, lblc and lblcr by the service's.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use testbed::Subject;
use testbed::subject::Seen::AsItself;

use crate::{PODS, serve, sole_answerer};

testbed::scenarios![
    Subject:
    sh_keeps_each_client_with_an_endpoint,
    mh_goes_by_the_clients_port_too,
    dh_keeps_each_address_with_an_endpoint,
    lblc_keeps_each_address_with_an_endpoint_until_it_has_too_much_to_do,
    lblcr_keeps_each_address_with_an_endpoint_until_it_has_too_much_to_do,
];

fn sh_keeps_each_client_with_an_endpoint(s: &mut Subject) -> Result<()> {
    serve(s, "sh", 0)?;
    let mut used = BTreeSet::new();
    for ip in s.many_clients()? {
        used.insert(sole_answerer(s.client_at(ip), s.web_address())?);
    }
    // Which client goes where is the same in every run.
    ensure!(used.len() > 1, "all clients use {used:?}");
    Ok(())
}

/// With the option that kube-proxy gives it, which spreads what comes from behind one address.
fn mh_goes_by_the_clients_port_too(s: &mut Subject) -> Result<()> {
    serve(s, "mh", 0)?;
    s.reaches(s.pod(3), s.web_address(), &PODS, AsItself).map(drop)
}

fn dh_keeps_each_address_with_an_endpoint(s: &mut Subject) -> Result<()> {
    const ADDRESSES: u8 = 16;
    serve(s, "dh", ADDRESSES)?;
    let mut used = BTreeSet::new();
    for number in 1..=ADDRESSES {
        let to = (s.family().external_ip(number), 80);
        let pod = sole_answerer(s.client(), to)?;
        let other = sole_answerer(s.foreign_client(), to)?;
        ensure!(other == pod, "{pod} for one client, {other} for another at {to:?}");
        used.insert(pod);
    }
    ensure!(used.len() > 1, "all addresses lead to {used:?}");
    sole_answerer(s.pod(3), s.web_address()).map(drop)
}

fn lblc_keeps_each_address_with_an_endpoint_until_it_has_too_much_to_do(s: &mut Subject) -> Result<()> {
    keeps_addresses_until_overload(s, "lblc")
}

fn lblcr_keeps_each_address_with_an_endpoint_until_it_has_too_much_to_do(s: &mut Subject) -> Result<()> {
    keeps_addresses_until_overload(s, "lblcr")
}

fn keeps_addresses_until_overload(s: &mut Subject, scheduler: &str) -> Result<()> {
    serve(s, scheduler, 1)?;
    for to in [(s.family().cluster_ip(10), 80), (s.family().external_ip(1), 80)] {
        let pod = sole_answerer(s.client(), to)?;
        let other = sole_answerer(s.foreign_client(), to)?;
        ensure!(other == pod, "{pod} for one client, {other} for another at {to:?}");
        // Too much are more connections than its weight, which is 1, while another has less than half of its own.
        let open = || s.client().place.open(to.into());
        let held = [open()?, open()?];
        ensure!(held.iter().all(|held| held.with == pod), "{to:?} led to {pod}, and now to {held:?}");
        let relieved = open()?;
        ensure!(relieved.with != pod, "{pod} got a third connection, and others have none");
    }
    Ok(())
}
