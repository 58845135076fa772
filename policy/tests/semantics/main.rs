//! Random clusters: what is compiled says of every connection what the API's definition says, and changes lead where a
//! fresh start would. `PROPTEST_CASES` asks for more cases than usual.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

mod enforced;
mod generate;
mod oracle;
mod world;

use endpoint_cache::object::{Kind, ObjectRef};
use enforced::Enforced;
use generate::{OWN_NODE, Step};
use policy::{Compiler, Connection, Program, Snapshot, Update};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use world::World;

fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(1_000), failure_persistence: None, ..usual }
}

/// Compiles objects from nothing.
fn compiled<'a>(objects: impl Iterator<Item = &'a Update>) -> Compiler {
    let mut compiler = Compiler::new(OWN_NODE);
    objects.for_each(|update| compiler.apply(update.clone()));
    compiler.take_delta();
    compiler
}

fn allowed(program: &Program, probes: &[Connection]) -> Vec<bool> {
    probes.iter().map(|probe| program.verdict(probe).allows()).collect()
}

fn assert_verdicts(world: &World, program: &Program, probes: &[Connection]) {
    for probe in probes {
        let verdict = program.verdict(probe);
        assert_eq!(verdict.allows(), oracle::allows(world, probe), "{probe:?} is {verdict:?}");
    }
}

#[test]
fn verdicts_are_those_of_the_definition() {
    use generate::{namespace, node, pod, policy};
    let cluster = (vec(pod(), 2..10), vec(namespace(), 1..5), vec(policy(), 1..6), vec(node(), 0..2));
    let probes = generate::probes();
    let run = TestRunner::new(config()).run(&cluster, |(pods, namespaces, policies, nodes)| {
        let mut world = World::new(OWN_NODE);
        let all = [pods, policies, namespaces, nodes].concat();
        all.iter().for_each(|update| world.apply(update));
        assert_verdicts(&world, compiled(all.iter()).program(), &probes);
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}

/// How often connections under way were judged anew.
#[derive(Default)]
struct Judged {
    in_need: usize,
    without_need: usize,
    deltas: usize,
}

/// One compiler that sees every change, and what an enforcer makes of its deltas.
struct Life<'a> {
    probes: &'a [Connection],
    world: World,
    compiler: Compiler,
    enforced: Enforced,
    allowed: Vec<bool>,
}

impl<'a> Life<'a> {
    fn new(probes: &'a [Connection]) -> Self {
        let compiler = Compiler::new(OWN_NODE);
        let allowed = allowed(compiler.program(), probes);
        Self { probes, world: World::new(OWN_NODE), compiler, enforced: Enforced::default(), allowed }
    }

    fn update(&mut self, update: Update) {
        self.world.apply(&update);
        self.compiler.apply(update);
    }

    fn step(&mut self, step: Step, judged: &mut Judged) {
        match step {
            Step::Update(update) => self.update(*update),
            Step::ListBegins(kind) => self.update(Update::ListBegins(kind)),
            Step::Relist(kind, kept) => {
                let objects = self.world.of_kind(kind);
                self.update(Update::ListBegins(kind));
                for (at, object) in objects.into_iter().enumerate() {
                    if kept >> (at % 16) & 1 == 1 {
                        self.update(object);
                    }
                }
                self.update(Update::ListEnds(kind));
            }
            Step::Rename(which, name) => {
                let policies = self.world.of_kind(Kind::NetworkPolicy);
                if let Some(Update::NetworkPolicy(policy)) = policies.get(which % policies.len().max(1)) {
                    let old = ObjectRef { kind: Kind::NetworkPolicy, name: policy.object_name() };
                    let mut policy = policy.clone();
                    policy.metadata.name = name.to_owned();
                    self.update(Update::Deleted(old));
                    self.update(Update::NetworkPolicy(policy));
                }
            }
            Step::Look => self.look(judged),
        }
    }

    fn look(&mut self, judged: &mut Judged) {
        let delta = self.compiler.take_delta();
        let program = self.compiler.program();
        self.enforced.apply(&delta, program);
        assert_eq!(self.enforced, Enforced::of(program));
        let before = std::mem::replace(&mut self.allowed, allowed(program, self.probes));
        let lost = before.iter().zip(&self.allowed).position(|(before, now)| *before && !now);
        if let Some(lost) = lost {
            assert!(delta.tightens(), "{:?} was allowed, and {delta:?} tells nothing", self.probes[lost]);
        }
        judged.deltas += usize::from(!delta.is_empty());
        judged.in_need += usize::from(lost.is_some());
        judged.without_need += usize::from(lost.is_none() && delta.tightens());
        assert!(self.compiler.take_delta().is_empty(), "nothing happened since");
    }
}

/// What a snapshot leads to, once it was written and read.
fn restored(compiler: &Compiler) -> Compiler {
    let written = serde_json::to_vec(&compiler.snapshot()).expect("it can be written");
    let read: Snapshot = serde_json::from_slice(&written).expect("it can be read");
    assert_eq!(read, compiler.snapshot());
    read.of_every_node()
}

fn assert_restored_everywhere(world: &World, compiler: &Compiler) {
    let mut everywhere = Compiler::of_every_node();
    world.objects().for_each(|object| everywhere.apply(object.clone()));
    everywhere.take_delta();
    let everywhere = Program { ranges: compiler.program().ranges.clone(), ..everywhere.program().clone() };
    assert_eq!(*restored(compiler).program(), everywhere);
}

#[test]
fn changes_lead_where_a_fresh_start_would() {
    let probes = generate::probes();
    let judged = std::cell::RefCell::new(Judged::default());
    let run = TestRunner::new(config()).run(&vec(generate::step(), 1..60), |steps| {
        let mut life = Life::new(&probes);
        steps.into_iter().for_each(|step| life.step(step, &mut judged.borrow_mut()));
        life.look(&mut judged.borrow_mut());
        let program = life.compiler.program();
        // Neither what happened nor in which order objects came matters.
        assert_eq!(program, compiled(life.world.objects()).program());
        assert_eq!(program, compiled(life.world.objects().rev()).program());
        Enforced::of(program).assert_closed();
        assert_verdicts(&life.world, program, &probes);
        assert_restored_everywhere(&life.world, &life.compiler);
        Ok(())
    });
    let Judged { in_need, without_need, deltas } = judged.into_inner();
    println!(
        "of {deltas} deltas, {in_need} denied what was allowed; {without_need} others may have, for all they tell"
    );
    run.unwrap_or_else(|failure| panic!("{failure}"));
}
