//! Full loads, by the mode and by its messages alone: in turns, and each in a namespace where nothing is yet.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::figures::{Figures, median};
use benches::process;
use endpoint_cache::{Cache, Desired};
use modes::Mode;
use modes::ipvs::Ipvs;
use testbed::Namespace;

use crate::contender::{self, Contender};
use crate::floor::{Floor, Messages, Times};
use crate::report as row;

/// Of each.
const LOADS: usize = 3;

/// Somebody with the namespace where everything is loaded.
pub(crate) struct Loaded<T> {
    pub(crate) by: T,
    pub(crate) namespace: Namespace,
}

/// The mode and the floor, in the same state.
pub(crate) struct Pair {
    pub(crate) mode: Loaded<Ipvs>,
    pub(crate) floor: Loaded<Floor>,
}

pub(crate) fn measure(desired: &Desired, messages: &Messages, figures: &mut Figures) -> Result<Pair> {
    let nothing = Cache::new("nobody").desired();
    let (mut fixed_times, mut mode_times, mut floor_times) = (Vec::new(), Vec::new(), Vec::new());
    let mut round = 1;
    loop {
        let (empty, time, fixed) = by_mode(&format!("nothing-{round}"), &nothing)?;
        empty.take_down()?;
        fixed_times.push(time);
        let (floor, times) = by_floor(&format!("floor-{round}"), messages)?;
        floor_times.push(times);
        // What is there takes time of the kernel's now and then: the last stays, the others make room.
        let floor = if round < LOADS { floor.take_down().map(|()| None)? } else { Some(floor) };
        let (mode, time, operations) = by_mode(&format!("mode-{round}"), desired)?;
        mode_times.push(time);
        let (own, sent) = (operations - fixed, messages.count());
        ensure!(own == sent, "the mode makes {own} changes, and {sent} messages are compared with it");
        let Some(floor) = floor else {
            mode.take_down()?;
            round += 1;
            continue;
        };
        add(figures, median(&mut mode_times), &floor_times, median(&mut fixed_times));
        return Ok(Pair { mode, floor });
    }
}

fn add(figures: &mut Figures, mode: Duration, floor: &[Times], fixed: Duration) {
    let of_floor = |part: fn(&Times) -> Duration| median(&mut floor.iter().map(part).collect::<Vec<_>>());
    let (who, total) = (Contender::Ipvs.name(), of_floor(Times::total));
    figures.add(who, row::LOAD, mode);
    figures.add(who, row::LOAD_FLOOR, total);
    figures.add_ratio(who, row::LOAD_RATIO, mode, total);
    figures.add(who, row::LOAD_SERVERS, of_floor(|times| times.servers));
    figures.add(who, row::LOAD_SETS, of_floor(|times| times.sets));
    figures.add(who, row::LOAD_ADDRESSES, of_floor(|times| times.addresses));
    figures.add(who, row::LOAD_FIXED, fixed);
    // Where nothing takes longer than everything, the machine was disturbed, and the rest is no figure.
    if let Some(rest) = mode.checked_sub(fixed) {
        figures.add_ratio(who, row::LOAD_REST_RATIO, rest, total);
    }
}

/// Says how long it takes, and how many operations.
fn by_mode(name: &str, desired: &Desired) -> Result<(Loaded<Ipvs>, Duration, usize)> {
    let namespace = Namespace::new(name)?;
    let (by, time, operations) = namespace.run(|| -> Result<_> {
        let mut mode = contender::ipvs()?;
        let started = Instant::now();
        let report = mode.resync(desired)?;
        Ok((mode, started.elapsed(), report.operations))
    })??;
    Ok((Loaded { by, namespace }, time, operations))
}

fn by_floor(name: &str, messages: &Messages) -> Result<(Loaded<Floor>, Times)> {
    let namespace = Namespace::new(name)?;
    let (by, times) = namespace.run(|| -> Result<_> {
        let mut floor = Floor::open()?;
        let times = floor.send(messages)?;
        Ok((floor, times))
    })??;
    Ok((Loaded { by, namespace }, times))
}

impl<T> Loaded<T> {
    /// Removes the namespace with all that is in it, and waits until the kernel has done so.
    fn take_down(self) -> Result<()> {
        let name = self.namespace.name().to_owned();
        drop(self);
        let status = Command::new("ip").args(["netns", "delete", &name]).status();
        ensure!(status.context("cannot run ip")?.success(), "cannot remove namespace {name}");
        process::await_idle_machine()
    }
}
