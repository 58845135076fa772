//! The course of events: churn with kills and flushes, churn alone, and the reckoning.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::{Mode, Resources, await_that};

use crate::canonical;
use crate::report::{self, Outcome};
use crate::traffic::Traffic;
use crate::world::World;

/// Between changes.
const PACE: Duration = Duration::from_millis(60);
/// Between lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Between kills, and between flushes.
const KILL_EVERY: Duration = Duration::from_secs(7);
const FLUSH_EVERY: Duration = Duration::from_secs(11);
/// How much more memory may be resident at the end: the allocator does not give all back at once.
const SLACK_KB: u64 = 4_096;
/// Connections to the API server that may be idle and are closed after a while.
const IDLE: usize = 4;

/// The parts of the time: with kills and flushes, and until everything is warm after the last one.
const ROUGH: f64 = 0.4;
const WARM: f64 = 0.55;

/// How far it has come.
struct Course<'a> {
    traffic: &'a Traffic,
    began: Instant,
    next_line: Instant,
    next_kill: Instant,
    next_flush: Instant,
    kills: u32,
    flushes: u32,
}

/// Lets everything happen for so long, and looks at what has come of it.
pub(crate) fn run(world: &mut World, duration: Duration, busy: bool) -> Result<Outcome> {
    let (traffic, began) = (Traffic::new(busy), Instant::now());
    let mut course = Course::new(&traffic, began);
    let until = |share: f64| began + duration.mul_f64(share);
    let resources = traffic.during(world, |world| {
        course.churn(world, until(ROUGH), true)?;
        course.churn(world, until(WARM), false)?;
        let before = at_rest(world)?;
        course.churn(world, until(1.0), false)?;
        Ok((before, at_rest(world)?))
    })?;
    let Course { kills, flushes, .. } = course;
    let mut failures = traffic.failures();
    failures.extend(leaks(resources, world.mode));
    failures.extend(reckon(world)?);
    Ok(Outcome {
        took: began.elapsed(),
        traffic,
        changes: world.changes,
        kills,
        flushes,
        resources,
        failures,
    })
}

impl<'a> Course<'a> {
    fn new(traffic: &'a Traffic, began: Instant) -> Self {
        let [next_line, next_kill, next_flush] =
            [TOLD_EVERY, KILL_EVERY, FLUSH_EVERY].map(|every| began + every);
        Self { traffic, began, next_line, next_kill, next_flush, kills: 0, flushes: 0 }
    }

    /// Changes something all the time; with kills and flushes, if times are rough.
    fn churn(&mut self, world: &mut World, until: Instant, rough: bool) -> Result<()> {
        while Instant::now() < until {
            world.change()?;
            if rough {
                self.trouble(world)?;
            }
            if Instant::now() > self.next_line {
                let resources = world.proxy.resources()?;
                report::progress(self.began.elapsed(), self.traffic, world.changes, resources);
                self.next_line += TOLD_EVERY;
            }
            // The pace is what is asked for, not a wait for something.
            thread::sleep(PACE);
        }
        Ok(())
    }

    fn trouble(&mut self, world: &mut World) -> Result<()> {
        // Connections that the process carries end with it.
        if !world.mode.is_userspace() && Instant::now() > self.next_kill {
            world.kill()?;
            self.kills += 1;
            self.next_kill = Instant::now() + KILL_EVERY;
        }
        if Instant::now() > self.next_flush {
            world.flush()?;
            self.flushes += 1;
            self.next_flush = Instant::now() + FLUSH_EVERY;
        }
        Ok(())
    }
}

fn at_rest(world: &World) -> Result<Resources> {
    world.proxy.await_quiet()?;
    world.proxy.resources()
}

fn leaks((before, after): (Resources, Resources), mode: Mode) -> Vec<String> {
    let mut leaks = Vec::new();
    if after.resident_kb > before.resident_kb + SLACK_KB {
        leaks.push(format!("memory grew from {} to {} kB", before.resident_kb, after.resident_kb));
    }
    // A process that carries UDP flows has descriptors for each until it is forgotten, and traffic is still on.
    if !mode.is_userspace() && after.descriptors.abs_diff(before.descriptors) > IDLE {
        leaks.push(format!("descriptors: {} became {}", before.descriptors, after.descriptors));
    }
    leaks
}

/// What is wrong with what is in the kernel at the end, if anything.
fn reckon(world: &mut World) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    world.proxy.await_tidied()?;
    let there = world.rules_in_canonical_form()?;
    let operations = world.operations_of_a_restart()?;
    if operations != Some(0) {
        wrong.push(format!("a restart found {operations:?} things to do"));
    }
    world.start_afresh()?;
    // Chains without use go some time later.
    let same = || Ok(world.rules_in_canonical_form()? == there);
    if await_that("a fresh start leads to the same", same).is_err() {
        let difference = canonical::difference(&there, &world.rules_in_canonical_form()?);
        wrong.push(format!("a fresh start leads to other rules (+) than there were (-):\n{difference}"));
    }
    Ok(wrong)
}
