//! The mode by itself, from objects that are decoded already, beside the floor: the same scripts without the mode.
//!
//! Both take turns, in namespaces of their own with the same content, so that what else the machine does hits both.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::figures::{Figures, median};
use modes::Mode;
use modes::iptables::{Backend, Iptables};
use nix::sys::resource::{UsageWho, getrusage};
use testbed::Namespace;

use crate::floor;
use crate::recording::Recording;
use crate::report as row;
use crate::workload::{self, CHANGES, Workload};

/// First syncs, if one takes no longer than this.
const LOADS: usize = 3;
const QUICK: Duration = Duration::from_secs(30);

pub(crate) fn measure(services: u32, backend: Backend) -> Result<Figures> {
    let mut recording = Recording::make(services, backend)?;
    let mut workload = Workload::new(services);
    let mut figures = Figures::default();
    let mut pair = load(&workload, &recording, backend, &mut figures)?;
    let restarted = pair.mode_namespace.run(|| restart(&workload, backend))??;
    figures.add(&who(backend), row::RESTART, restarted);
    // A proxy does not hold these megabytes, which make starting a process slower.
    recording.load = Vec::new();
    change(&mut pair, &mut workload, &recording, &mut figures)?;
    Ok(figures)
}

/// As one run.
pub(crate) fn measure_one_run(services: u32, backend: Backend) -> Result<Figures> {
    let script = Recording::make(services, backend)?.load_at_once();
    let mut figures = Figures::default();
    let time = Namespace::new("floor")?.run(|| floor::restore(backend, &[script]))??;
    figures.add(&who(backend), row::LOAD_ONE_RUN, time);
    Ok(figures)
}

/// How a back end is called in the table.
pub(crate) fn who(backend: Backend) -> String {
    format!("iptables-{backend}")
}

/// The mode, and the floor in the same state.
struct Pair {
    mode: Iptables,
    mode_namespace: Namespace,
    floor_namespace: Namespace,
    backend: Backend,
}

fn load(workload: &Workload, recording: &Recording, backend: Backend, figures: &mut Figures) -> Result<Pair> {
    let desired = workload.desired();
    let (mut by_mode, mut by_floor, mut own, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    while by_mode.len() < LOADS && by_mode.first().is_none_or(|time| *time < QUICK) {
        let round = by_mode.len();
        let mode_namespace = Namespace::new(&format!("mode-{round}"))?;
        let (mode, time, cpu) = mode_namespace.run(|| -> Result<_> {
            let mut mode = workload::mode(backend)?;
            let (time, cpu) = timed(|| Ok(mode.resync(&desired).map(drop)?))?;
            Ok((mode, time, cpu))
        })??;
        by_mode.push(time);
        own.push(cpu);
        let floor_namespace = Namespace::new(&format!("floor-{round}"))?;
        by_floor.push(floor_namespace.run(|| floor::restore(backend, &recording.load))??);
        last = Some(Pair { mode, mode_namespace, floor_namespace, backend });
    }
    let (who, by_mode, by_floor) = (who(backend), median(&mut by_mode), median(&mut by_floor));
    figures.add(&who, row::LOAD, by_mode);
    figures.add(&who, row::LOAD_FLOOR, by_floor);
    figures.add_ratio(&who, row::LOAD_RATIO, by_mode, by_floor);
    figures.add(&who, row::LOAD_CPU, median(&mut own));
    figures.add_bytes(&who, row::LOAD_BYTES, recording.load.iter().map(String::len).sum::<usize>() as f64);
    last.context("nothing was loaded")
}

/// A second process on the same tables, which finds nothing to do.
fn restart(workload: &Workload, backend: Backend) -> Result<Duration> {
    let (desired, mut mode) = (workload.desired(), workload::mode(backend)?);
    let started = Instant::now();
    let report = mode.resync(&desired)?;
    ensure!(report.operations == 0, "a second sync found {} things to do", report.operations);
    Ok(started.elapsed())
}

fn change(
    pair: &mut Pair,
    workload: &mut Workload,
    recording: &Recording,
    figures: &mut Figures,
) -> Result<()> {
    let (mut by_mode, mut by_floor, mut own) = (Vec::new(), Vec::new(), Vec::new());
    let Pair { mode, mode_namespace, floor_namespace, backend } = pair;
    for (number, scripts) in (0..CHANGES).zip(&recording.changes) {
        let delta = workload.change(number)?;
        let apply = || timed(|| Ok(mode.apply(&delta).map(drop)?));
        let (time, cpu) = mode_namespace.run(apply)??;
        by_mode.push(time);
        own.push(cpu);
        by_floor.push(floor_namespace.run(|| floor::restore(*backend, scripts))??);
    }
    let (who, by_mode, by_floor) = (who(*backend), median(&mut by_mode), median(&mut by_floor));
    figures.add(&who, row::CHANGE, by_mode);
    figures.add(&who, row::CHANGE_FLOOR, by_floor);
    figures.add_ratio(&who, row::CHANGE_RATIO, by_mode, by_floor);
    figures.add(&who, row::CHANGE_CPU, median(&mut own));
    Ok(())
}

/// How long something takes, and how long a processor is busy with it in this very process.
fn timed(body: impl FnOnce() -> Result<()>) -> Result<(Duration, Duration)> {
    let (cpu, started) = (own_cpu()?, Instant::now());
    body()?;
    Ok((started.elapsed(), own_cpu()?.saturating_sub(cpu)))
}

fn own_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let [user, system] = [usage.user_time(), usage.system_time()];
    let micros = user.tv_sec() * 1_000_000 + user.tv_usec() + system.tv_sec() * 1_000_000 + system.tv_usec();
    Ok(Duration::from_micros(micros.cast_unsigned()))
}
