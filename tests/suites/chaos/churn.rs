//! Objects that change, in great number and at great speed, and a process that is killed meanwhile.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::cluster::Service;
use testbed::{Cluster, Family, Proxy};

use crate::subject::{Chaos, Dice, PODS};

/// Saves another set of endpoints, not waiting for the sync.
pub(crate) fn change(chaos: &Chaos, proxy: &Proxy, dice: &mut Dice) -> Result<()> {
    let mut cluster = Cluster::default();
    cluster.put_slice(chaos.slice("changing", &dice.pods()));
    proxy.write("changing.json", &cluster.manifest())
}

/// The slice that changes has a file of its own.
pub(crate) fn start_for_churn(chaos: &Chaos) -> Result<Proxy> {
    let mut cluster = chaos.cluster();
    cluster.delete_slice("changing");
    let proxy = chaos.start(&cluster)?;
    let mut changing = Cluster::default();
    changing.put_slice(chaos.slice("changing", &PODS));
    proxy.save("changing.json", &changing.manifest())?;
    Ok(proxy)
}

pub(crate) fn changes(chaos: &mut Chaos) -> Result<()> {
    const CHANGES: u32 = 2_000;
    const PACE: Duration = Duration::from_millis(5);
    let mut proxy = start_for_churn(chaos)?;
    let mut dice = Dice(1);
    // The first changes let memory grow to what it needs.
    for _ in 0..100 {
        change(chaos, &proxy, &mut dice)?;
    }
    proxy.save("changing.json", &chaos.cluster().manifest())?;
    let before = chaos.resources_at_rest(&proxy)?;
    let started = Instant::now();
    chaos.under_traffic(|| {
        for number in 0..CHANGES {
            change(chaos, &proxy, &mut dice)?;
            // The pace is what is asked for, not a wait for something.
            thread::sleep((started + PACE * number).saturating_duration_since(Instant::now()));
        }
        Ok(())
    })?;
    proxy.save("changing.json", &chaos.cluster().manifest())?;
    chaos.check_resources(&proxy, before)?;
    chaos.check_kernel(&mut proxy)
}

pub(crate) fn crashes(chaos: &mut Chaos) -> Result<()> {
    let mut proxy = start_for_churn(chaos)?;
    let mut dice = Dice(2);
    chaos.under_traffic(|| {
        for _ in 0..50 {
            for _ in 0..dice.below(8) {
                change(chaos, &proxy, &mut dice)?;
            }
            thread::sleep(Duration::from_micros(dice.below(5_000) as u64));
            proxy.kill()?;
            change(chaos, &proxy, &mut dice)?;
            proxy.start_again(&chaos.bed.node)?;
        }
        Ok(())
    })?;
    chaos.check_kernel(&mut proxy)
}

/// So many services, with two endpoints each.
pub(crate) fn many(chaos: &Chaos, count: u16) -> Cluster {
    let mut cluster = Cluster::default();
    for number in 0..count {
        let name = format!("s{number}");
        let [high, low] = number.to_be_bytes();
        let ip: std::net::IpAddr = match chaos.family {
            Family::V4 => [172, 30, 100 + high, low].into(),
            Family::V6 => std::net::Ipv6Addr::from([0xfd00, 0x172, 0x30, 0, 0, 0, 1, number]).into(),
        };
        cluster.put(Service::new(&name, ip).tcp("http", 80));
        cluster.put_slice(chaos.slice(&name, &PODS[..2]));
    }
    cluster
}

pub(crate) fn mass_deletion(chaos: &mut Chaos) -> Result<()> {
    let mut proxy = chaos.start(&chaos.cluster())?;
    let many = |count| many(chaos, count).manifest();
    let (full, empty) = (many(chaos.rules().services_at_once()), many(0));
    let come_and_go = || {
        proxy.save("many.json", &full)?;
        proxy.save("many.json", &empty)
    };
    // The allocator keeps memory for the next time, and needs some rounds to have enough: what grows on is a leak.
    for _ in 0..4 {
        come_and_go()?;
    }
    let before = chaos.resources_at_rest(&proxy)?;
    chaos.under_traffic(come_and_go)?;
    chaos.check_resources_over(&proxy, before, come_and_go)?;
    fs::remove_file(proxy.folder().join("many.json"))?;
    chaos.check_kernel(&mut proxy)
}
