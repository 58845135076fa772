//! The mode by itself, from objects that are decoded already, beside the floor: the same messages without the mode.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use benches::figures::{Figures, median};
use endpoint_cache::{Delta, Desired};
use modes::Mode;

use crate::Measured;
use crate::contender::{self, Contender};
use crate::floor::{self, Messages, Times};
use crate::load::{self, Pair};
use crate::report as row;
use crate::workload::{Workload, pods};

/// Changes of each sort.
const CHANGES: u32 = 100;

pub(crate) fn measure(services: u32) -> Result<Measured> {
    ensure!(services >= 2 * CHANGES, "every second service may change, and {CHANGES} do");
    let mut workload = Workload::new(services);
    let mut figures = Figures::default();
    let desired = workload.desired();
    let mut pair = load::measure(&desired, &Messages::add(0..services), &mut figures)?;
    restart(&mut pair, &desired, services, &mut figures)?;
    drop(desired);
    let moved = |number| pods(number).start + 1..pods(number).end + 1;
    let replaced = (0..CHANGES).map(|sample| sample * (services / CHANGES));
    let replaced = replaced.map(|number| {
        let delta = workload.put(number, moved(number))?;
        Ok((delta, Messages::replace(number, pods(number), moved(number))))
    });
    compare(&mut pair, row::REPLACE, replaced, &mut figures)?;
    let new: Range<u32> = services..services + CHANGES;
    let added = new.clone().map(|number| Ok((workload.add(number)?, Messages::add(number..number + 1))));
    compare(&mut pair, row::ADD, added, &mut figures)?;
    let deleted = new.map(|number| Ok((workload.delete(number)?, Messages::delete(number))));
    compare(&mut pair, row::DELETE, deleted, &mut figures)?;
    Ok(Measured { figures, notes: vec![floor::kernel_limits()?] })
}

/// A second process on what is there, which finds nothing to do.
fn restart(pair: &mut Pair, desired: &Desired, services: u32, figures: &mut Figures) -> Result<()> {
    let by_mode = pair.mode.namespace.run(|| -> Result<_> {
        let mut mode = contender::ipvs()?;
        let started = Instant::now();
        let report = mode.resync(desired)?;
        ensure!(report.operations == 0, "a second sync found {} things to do", report.operations);
        Ok(started.elapsed())
    })??;
    let floor = &mut pair.floor.by;
    let by_floor = pair.floor.namespace.run(|| floor.read(services))??.total();
    let who = Contender::Ipvs.name();
    figures.add(who, row::RESTART, by_mode);
    figures.add(who, row::RESTART_FLOOR, by_floor);
    figures.add_ratio(who, row::RESTART_RATIO, by_mode, by_floor);
    Ok(())
}

/// Changes by the mode, and the same by messages alone.
fn compare(
    pair: &mut Pair,
    what: &str,
    changes: impl Iterator<Item = Result<(Delta, Messages)>>,
    figures: &mut Figures,
) -> Result<()> {
    let (mut by_mode, mut by_floor) = (Vec::new(), Vec::new());
    for change in changes {
        let (delta, messages) = change?;
        by_mode.push(apply(pair, &delta, messages.count())?);
        let floor = &mut pair.floor.by;
        by_floor.push(pair.floor.namespace.run(|| floor.send(&messages))??);
    }
    let of_floor = |part: fn(&Times) -> Duration| median(&mut by_floor.iter().map(part).collect::<Vec<_>>());
    let (who, by_mode, total) = (Contender::Ipvs.name(), median(&mut by_mode), of_floor(Times::total));
    figures.add(who, &format!("{what}, median"), by_mode);
    figures.add(who, &format!("{what}, the same messages alone, median"), total);
    figures.add_ratio(who, &format!("{what}, ratio"), by_mode, total);
    figures.add(who, &format!("{what}, of the messages: IPVS"), of_floor(|times| times.servers));
    let addresses = of_floor(|times| times.addresses);
    if what != row::REPLACE {
        figures.add(who, &format!("{what}, of the messages: addresses"), addresses);
    }
    Ok(())
}

fn apply(pair: &mut Pair, delta: &Delta, expected: usize) -> Result<Duration> {
    let mode = &mut pair.mode.by;
    pair.mode.namespace.run(|| {
        let started = Instant::now();
        let report = mode.apply(delta)?;
        let (time, made) = (started.elapsed(), report.operations);
        ensure!(
            made == expected,
            "the mode makes {made} changes, and {expected} messages are compared with it"
        );
        Ok(time)
    })?
}
