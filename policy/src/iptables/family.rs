//! The rules and sets of one address family, and how they are brought to the kernel.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoint_cache::Family;
use kernel::conntrack::Conntrack;
use kernel::ipset::{Edit, Entry, Ipsets};
use kernel::iptables::{Iptables as Programs, SavedLine, Table};

use super::installed::{self, Installed};
use super::marks;
use super::names::{DENY, FORWARD, UNKNOWN, Way, policy_chain, profile_chain};
use super::plan::Plan;
use super::rules::Style;
use super::script::Script;
use super::sets::FilledSet;
use super::whole::Whole;
use crate::enforcer::{Counts, Error, Report};
use crate::generations::Generations;
use crate::program::{Delta, PolicyKey, Profile, Program};
use crate::settings::{Established, Settings};

/// When sets that rules still held on to are tried again.
const LETTING_GO: Duration = Duration::from_secs(1);

/// One family, programmed.
pub(super) struct Programmed {
    pub(super) family: Family,
    pub(super) programs: Programs,
    /// `None` until the first sync, and after one that failed.
    state: Option<State>,
}

/// What is in force.
struct State {
    generations: Generations,
    /// Whose chains are whose, to tell what they counted.
    policies: HashMap<String, PolicyKey>,
    profiles: HashMap<String, Arc<Profile>>,
    /// Sets that rules did not let go of yet, and when to try again.
    leaving: Vec<String>,
    again: Option<Instant>,
}

/// What it takes to begin a generation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// None was begun: connections go on.
    Not,
    /// A number that no connection bears.
    New,
    /// Numbers begin anew: connections that bear them since long ago must lose them first.
    Anew,
}

/// On to the next generation, since something is allowed no longer.
fn advance(generations: &mut Generations, settings: &Settings, now: Instant) -> Begun {
    if settings.established == Established::Keep {
        return Begun::Not;
    }
    match generations.advance(settings.established, now).begins_anew {
        true => Begun::Anew,
        false => Begun::New,
    }
}

/// The way to the kernel for a family.
pub(super) struct Means<'a> {
    pub(super) settings: &'a Settings,
    /// When what is being done began.
    pub(super) now: Instant,
    pub(super) ipsets: &'a mut Ipsets,
    pub(super) report: &'a mut Report,
}

impl Programmed {
    pub(super) fn new(family: Family, programs: Programs) -> Self {
        Self { family, programs, state: None }
    }

    pub(super) fn resync(&mut self, program: &Program, means: &mut Means<'_>) -> Result<(), Error> {
        self.state = None;
        let (settings, now) = (means.settings, means.now);
        let style = Style { family: self.family, settings };
        let whole = Whole::new(program, &style)?;
        let installed = Installed::read(&self.programs)?;
        let mut plan = Plan::default();
        installed.chains_to(&whole, &mut plan);
        installed::sets_to(&whole, self.family, means.ipsets, &mut plan)?;
        let found = installed.rules(FORWARD).and_then(|rules| marks::read(rules, settings, now));
        let (generations, begun) = match found {
            Some(found) if !plan.changes_judgement() => (found, Begun::Not),
            Some(mut found) => {
                let begun = advance(&mut found, settings, now);
                (found, begun)
            }
            // Whoever was here before may have left marks.
            None => (Generations::only(settings.mark_mask, 1), Begun::Anew),
        };
        let mut entrance = Script::default();
        let forward = style.forward(&generations);
        if installed.rules(FORWARD) != Some(&forward) {
            entrance.write(FORWARD, &forward);
        }
        if !installed.is_hooked() {
            installed.hooks().iter().for_each(|(chain, rule)| entrance.delete(chain, rule));
            entrance.hook();
        }
        if installed.rules(FORWARD).is_none() {
            // Chains that lead there cannot come before it.
            plan.script.extend(std::mem::take(&mut entrance));
        }
        let mut state = State::new(generations, program);
        state.carry_out(plan, entrance, begun, &self.programs, means)?;
        self.state = Some(state);
        Ok(())
    }

    pub(super) fn apply(
        &mut self,
        program: &Program,
        delta: &Delta,
        means: &mut Means<'_>,
    ) -> Result<(), Error> {
        let mut state = self.state.take().ok_or(Error::NotSynced)?;
        let style = Style { family: self.family, settings: means.settings };
        let plan = Plan::of(delta, program, &style)?;
        let (mut entrance, mut begun) = (Script::default(), Begun::Not);
        if delta.tightens() {
            begun = advance(&mut state.generations, means.settings, means.now);
        }
        if begun != Begun::Not {
            entrance.write(FORWARD, &style.forward(&state.generations));
        }
        state.carry_out(plan, entrance, begun, &self.programs, means)?;
        state.note(delta);
        self.state = Some(state);
        Ok(())
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let state = self.state.as_ref()?;
        state.generations.due().into_iter().chain(state.again).min()
    }

    pub(super) fn tidy(&mut self, means: &mut Means<'_>) -> Result<(), Error> {
        let mut state = self.state.take().ok_or(Error::NotSynced)?;
        if !state.generations.end(means.now).is_empty() {
            let style = Style { family: self.family, settings: means.settings };
            let mut script = Script::default();
            script.write(FORWARD, &style.forward(&state.generations));
            run(&self.programs, &script, means.report)?;
            means.report.judged_anew = true;
        }
        state.let_go(means);
        self.state = Some(state);
        Ok(())
    }

    /// Adds what this family has counted.
    pub(super) fn count(&self, counts: &mut Tally) -> Result<(), Error> {
        let Some(state) = &self.state else { return Ok(()) };
        self.programs.count(Table::Filter, |line, packets| {
            let SavedLine::Rule { chain, rule } = line else { return };
            if let Some(policy) = state.policies.get(chain) {
                *counts.allowed.entry(policy.clone()).or_default() += packets;
            } else if let Some(profile) = state.profiles.get(chain).filter(|_| rule.ends_with(DENY)) {
                *counts.denied.entry(profile.clone()).or_default() += packets;
            } else if chain == UNKNOWN && !rule.contains("NFLOG") {
                counts.unknown += packets;
            }
        })?;
        Ok(())
    }
}

/// What all families have counted.
#[derive(Default)]
pub(super) struct Tally {
    allowed: HashMap<PolicyKey, u64>,
    denied: HashMap<Arc<Profile>, u64>,
    unknown: u64,
}

impl Tally {
    pub(super) fn finish(self) -> Counts {
        let allowed = self.allowed.into_iter().map(|((direction, name), packets)| (direction, name, packets));
        let mut counts = Counts {
            allowed: allowed.collect(),
            denied: self.denied.into_iter().collect(),
            unknown: self.unknown,
        };
        counts.allowed.sort_unstable();
        counts.denied.sort_unstable();
        counts
    }
}

impl State {
    fn new(generations: Generations, program: &Program) -> Self {
        let mut state = Self {
            generations,
            policies: HashMap::new(),
            profiles: HashMap::new(),
            leaving: Vec::new(),
            again: None,
        };
        program.policies.keys().for_each(|policy| state.note_policy(policy, true));
        program.profiles.keys().for_each(|profile| state.note_profile(profile, true));
        state
    }

    fn note(&mut self, delta: &Delta) {
        for (policy, change) in &delta.policies {
            self.note_policy(policy, change.after.is_some());
        }
        delta.profiles.iter().for_each(|(profile, comes)| self.note_profile(profile, *comes));
    }

    /// Replies are judged only where a connection is judged anew: they are not counted as first packets.
    fn note_policy(&mut self, policy: &PolicyKey, is_there: bool) {
        let chain = policy_chain(policy, Way::Original);
        match is_there {
            true => drop(self.policies.insert(chain, policy.clone())),
            false => drop(self.policies.remove(&chain)),
        }
    }

    fn note_profile(&mut self, profile: &Arc<Profile>, is_there: bool) {
        for chain in Way::BOTH.map(|way| profile_chain(profile, way)) {
            match is_there {
                true => drop(self.profiles.insert(chain, profile.clone())),
                false => drop(self.profiles.remove(&chain)),
            }
        }
    }

    /// Does what is planned. Connections are judged anew only when everything is as it is to be.
    fn carry_out(
        &mut self,
        plan: Plan,
        mut entrance: Script,
        begun: Begun,
        programs: &Programs,
        means: &mut Means<'_>,
    ) -> Result<(), Error> {
        let Plan { new_sets, narrowing, mut script, widening, old_sets } = plan;
        new_sets.iter().try_for_each(|set| fill(set, means))?;
        edit(&narrowing, means)?;
        if widening.is_empty() {
            script.extend(std::mem::take(&mut entrance));
        }
        if begun == Begun::Anew {
            let cleared = Conntrack::open()?.clear_marks(means.settings.mark_mask)?;
            tracing::debug!(cleared, "connections are judged from the first generation on");
        }
        run(programs, &script, means.report)?;
        edit(&widening, means)?;
        run(programs, &entrance, means.report)?;
        means.report.judged_anew |= begun != Begun::Not && means.settings.established == Established::Cut;
        self.leaving.retain(|name| !new_sets.iter().any(|set| set.set.name == *name));
        self.leaving.extend(old_sets);
        self.let_go(means);
        Ok(())
    }

    /// Removes sets without use. Rules of iptables-nft hold on to theirs for some time after they are gone.
    fn let_go(&mut self, means: &mut Means<'_>) {
        self.leaving.retain(|name| match means.ipsets.destroy(name) {
            Ok(()) => {
                means.report.operations += 1;
                false
            }
            Err(error) if error.is_busy() => true,
            Err(error) => {
                tracing::warn!(set = name, "a set without use is left: {error}");
                false
            }
        });
        self.again = (!self.leaving.is_empty()).then(|| means.now + LETTING_GO);
    }
}

/// Makes a set and fills it. One that is there is without use, and may hold anything.
fn fill(wanted: &FilledSet, means: &mut Means<'_>) -> Result<(), Error> {
    means.ipsets.create(&wanted.set)?;
    means.ipsets.flush(&wanted.set.name)?;
    means.report.operations += 1;
    let set: Arc<str> = wanted.set.name.as_str().into();
    let add = |entry: &Entry| Edit { set: set.clone(), add: true, entry: *entry };
    let edits: Vec<Edit> = wanted.entries.iter().map(add).collect();
    edit(&edits, means)
}

fn edit(edits: &[Edit], means: &mut Means<'_>) -> Result<(), Error> {
    means.ipsets.run(edits)?;
    means.report.operations += edits.len();
    Ok(())
}

fn run(programs: &Programs, script: &Script, report: &mut Report) -> Result<(), Error> {
    if !script.is_empty() {
        programs.restore(&script.text())?;
        report.operations += script.operations();
    }
    Ok(())
}
