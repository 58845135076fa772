//! Compiling, loading and changing, from objects that are decoded already, in namespaces of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::figures::{Figures, median, p99};
use policy::{Compiler, Enforcer, Update};
use testbed::Namespace;

use crate::contender::Contender;
use crate::report as row;
use crate::{changes, floor, world};

/// Of each.
const LOADS: usize = 5;

pub(crate) fn measure(of: Contender, samples: u32) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut compiler = compile(of, &mut figures)?;
    let (namespace, mut enforcer) = load(of, &compiler, &mut figures)?;
    namespace.run(|| -> Result<()> {
        restart(of, &compiler, &mut figures)?;
        change(of, &mut compiler, enforcer.as_mut(), samples, &mut figures)
    })??;
    Ok(figures)
}

fn compile(of: Contender, figures: &mut Figures) -> Result<Compiler> {
    let (mut times, mut last) = (Vec::new(), None);
    for _ in 0..LOADS {
        let updates = world::updates()?;
        let mut compiler = Compiler::new(world::NODE);
        let started = Instant::now();
        updates.into_iter().for_each(|update| compiler.apply(update));
        let delta = compiler.take_delta();
        times.push(started.elapsed());
        ensure!(delta.problems.is_empty(), "{:?}", delta.problems);
        last = Some(compiler);
    }
    let compiler = last.context("nothing was compiled")?;
    let program = compiler.program();
    ensure!(program.pods.len() == world::LOCAL_PODS as usize, "{} pods are here", program.pods.len());
    let who = of.name();
    figures.add(who, row::COMPILE, median(&mut times));
    figures.add_count(who, row::POLICIES_HERE, program.policies.len());
    figures.add_count(who, row::SETS_HERE, program.sets.len());
    figures.add_count(who, row::ELEMENTS_HERE, floor::elements(program));
    Ok(compiler)
}

/// In turns with the floor, each in a namespace where nothing is yet.
fn load(of: Contender, compiler: &Compiler, figures: &mut Figures) -> Result<(Namespace, Box<dyn Enforcer>)> {
    let elements = floor::elements(compiler.program());
    let (mut times, mut floors, mut operations, mut last) = (Vec::new(), Vec::new(), 0, None);
    for round in 0..LOADS {
        floors.push(Namespace::new(&format!("floor-{round}"))?.run(|| floor::load(elements))??);
        let namespace = Namespace::new(&format!("node-{round}"))?;
        let enforcer = namespace.run(|| -> Result<_> {
            let mut enforcer = of.open()?;
            let started = Instant::now();
            operations = enforcer.resync(compiler.program())?.operations;
            times.push(started.elapsed());
            Ok(enforcer)
        })??;
        last = Some((namespace, enforcer));
    }
    let (who, time, floor) = (of.name(), median(&mut times), median(&mut floors));
    figures.add(who, row::LOAD, time);
    figures.add_count(who, row::LOAD_OPERATIONS, operations);
    figures.add(who, row::LOAD_FLOOR, floor);
    figures.add_ratio(who, row::LOAD_RATIO, time, floor);
    last.context("nothing was loaded")
}

/// A process that finds what an earlier one left.
fn restart(of: Contender, compiler: &Compiler, figures: &mut Figures) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..LOADS {
        let mut enforcer = of.open()?;
        let started = Instant::now();
        let operations = enforcer.resync(compiler.program())?.operations;
        times.push(started.elapsed());
        ensure!(operations == 0, "a second sync found {operations} things to do");
    }
    figures.add(of.name(), row::RESTART, median(&mut times));
    Ok(())
}

/// What changes of a sort took.
#[derive(Default)]
struct Taken {
    compiling: Vec<Duration>,
    committed: Vec<Duration>,
    operations: Vec<usize>,
}

fn change(
    of: Contender,
    compiler: &mut Compiler,
    enforcer: &mut dyn Enforcer,
    samples: u32,
    figures: &mut Figures,
) -> Result<()> {
    enforcer.resync(compiler.program())?;
    let mut taken: BTreeMap<&str, Taken> = BTreeMap::new();
    for sample in 0..samples {
        for (sort, update) in changes::of(sample)? {
            commit(compiler, enforcer, update, taken.entry(sort).or_default())?;
        }
    }
    ensure!(enforcer.resync(compiler.program())?.operations == 0, "the changes did not all arrive");
    for sort in row::CHANGES {
        let Taken { mut compiling, mut committed, mut operations } =
            taken.remove(sort).with_context(|| format!("no sample: {sort}"))?;
        operations.sort_unstable();
        let (who, told) = (of.name(), |what: &str| format!("{sort}: {what}"));
        figures.add(who, &told(row::COMPILED), median(&mut compiling));
        figures.add(who, &told(row::MEDIAN), median(&mut committed));
        figures.add(who, &told(row::P99), p99(&mut committed));
        let middle = operations.get(operations.len() / 2).with_context(|| format!("{sort} does nothing"))?;
        figures.add_count(who, &told(row::OPERATIONS), *middle);
    }
    Ok(())
}

/// What is nothing to this node is not counted.
fn commit(
    compiler: &mut Compiler,
    enforcer: &mut dyn Enforcer,
    update: Update,
    taken: &mut Taken,
) -> Result<()> {
    let started = Instant::now();
    compiler.apply(update);
    let delta = compiler.take_delta();
    let compiled = started.elapsed();
    let operations = enforcer.apply(compiler.program(), &delta)?.operations;
    let committed = started.elapsed();
    if !delta.is_empty() {
        taken.compiling.push(compiled);
        taken.committed.push(committed);
        taken.operations.push(operations);
    }
    if enforcer.due().is_some_and(|due| due <= Instant::now()) {
        enforcer.tidy(Instant::now())?;
    }
    Ok(())
}
