//! Policies enforced by nftables: few rules a packet meets, and sets that change without them.
//!
//! # Theory of operation
//!
//! Policies are about connections, so connections are judged, not packets: by the two directions that conntrack knows of
//! each. Whoever the original direction comes from is its client, as it was before its source was translated; whoever the
//! reply comes from is its real server, as it is after the destination was. Both are the same for every packet of a
//! connection, whichever way it goes and whichever proxy led it there.
//!
//! What is forwarded, or sent by this node under somebody else's address, comes to the chain `connections`:
//!
//! - Connections that were allowed bear a mark: the *generation* of the rules that allowed them. If that is in the set
//!   `generations`, the packet passes. What is forwarded and bears the last one passes before it comes there, by the first
//!   rule of `forward`, which is all that most packets meet. When something is allowed no longer, the same
//!   transaction that says so begins another generation and ends the one before (or lets it drain): every connection is
//!   judged once more by its next packet, without anybody looking through conntrack.
//! - Others are judged. `egress-subjects` leads from the client's address to the chain of its *profile*, the policies that
//!   isolate it from whom it sends to; pods of a kind share a profile. The profile asks each policy's chain, which leads on
//!   to `into-pods` if one of its clauses matches. There `ingress-subjects` does the same for the server, and
//!   leads on to `allowed`, which marks the connection. What comes to the end of a profile is `denied`. So both must allow.
//! - Addresses of this node's pods (`pod-ranges`) that no known pod has are dropped both ways: a new pod is closed from the
//!   moment that its interface appears until it is known, and with it what isolates it.
//! - What belongs to no connection cannot be judged, and is dropped if it is an isolated pod's.
//!
//! No packet falls between two states: the kernel looks sets up as they are, but runs chains as they were when the packet
//! came in. One that is led by a new element to a chain that is newer than itself finds it empty, comes back, and is
//! dropped (`forward`); it is sent again. So is one of whose isolated end no profile is found because it is being replaced
//! (`egress-isolated`, `ingress-isolated`). And the tables are mended, never made anew.
//!
//! # Where things are
//!
//! `layout` names every set and chain, `rules` holds the rules, `elements` the elements, `content` writes them all, or a
//! change. All these are pure. `installed` reads the kernel, and this file brings all together.

mod content;
mod elements;
mod installed;
mod layout;
mod rules;

use std::collections::HashMap;
use std::time::Instant;

use endpoint_cache::Family;
use kernel::conntrack::Conntrack;
use kernel::nft::{Batch, Installed, Mending, Monitor, Nftables as Connection};

pub use self::layout::table;
use self::layout::{chain, policy_chain, profile_chain};
use self::rules::Style;
use crate::enforcer::{Counts, Enforcer, Error, Report, Watch};
use crate::generations::Generations;
use crate::program::{Delta, PolicyKey, Profile, Program};
use crate::settings::{Established, Settings};

/// Enforces by nftables.
pub struct Nftables {
    settings: Settings,
    connection: Connection,
    /// `None` until the first sync, and after one that failed.
    generations: Option<Generations>,
    /// What the chains are for that count.
    counting: HashMap<String, Counting>,
}

/// What a chain is for.
#[derive(Clone, Debug)]
enum Counting {
    Policy(PolicyKey),
    Profile(std::sync::Arc<Profile>),
}

impl Nftables {
    /// Opens the way to the kernel; changes nothing yet.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or this process may not use it.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Ok(Self { settings, connection: Connection::open()?, generations: None, counting: HashMap::new() })
    }

    fn style(&self, family: Family, mark: u32) -> Style<'_> {
        Style { family, settings: &self.settings, mark }
    }

    /// The generation in force, as the kernel has it.
    fn installed_generations(&mut self) -> Result<Option<Generations>, Error> {
        for family in self.settings.families.clone() {
            if let Some(mark) = installed::mark(&mut self.connection, &table(family))? {
                let mask = self.settings.mark_mask;
                return Ok(Some(Generations::only(mask, Generations::number(mask, mark))));
            }
        }
        Ok(None)
    }

    /// What every table holds.
    fn read(&mut self) -> Result<Vec<(Family, Option<Installed>)>, Error> {
        let families = self.settings.families.clone();
        let read = |family| Ok((family, self.connection.installed(&table(family))?));
        families.into_iter().map(read).collect()
    }

    /// What makes a table what it should be.
    fn mending(
        &self,
        (family, installed): &(Family, Option<Installed>),
        program: &Program,
        generations: &Generations,
    ) -> Mending {
        let style = self.style(*family, generations.mark());
        content::whole(program, &style, &generations.alive()).mending(&table(*family), installed.as_ref())
    }

    /// No connection may bear a mark from the last time that its number was used.
    fn forget_marks(&self) -> Result<(), Error> {
        let cleared = Conntrack::open()?.clear_marks(self.settings.mark_mask)?;
        tracing::debug!(cleared, "connections lost the marks of earlier rules");
        Ok(())
    }

    fn note_counting(&mut self, program: &Program) {
        let policies = program.policies.keys().map(|key| (policy_chain(key), Counting::Policy(key.clone())));
        let profiles = program
            .profiles
            .keys()
            .map(|profile| (profile_chain(profile), Counting::Profile(profile.clone())));
        self.counting = policies.chain(profiles).collect();
    }

    fn note_counting_changes(&mut self, delta: &Delta) {
        for (key, change) in &delta.policies {
            match &change.after {
                Some(_) => self.counting.insert(policy_chain(key), Counting::Policy(key.clone())),
                None => self.counting.remove(&policy_chain(key)),
            };
        }
        for (profile, comes) in &delta.profiles {
            let name = profile_chain(profile);
            match comes {
                true => self.counting.insert(name, Counting::Profile(profile.clone())),
                false => self.counting.remove(&name),
            };
        }
    }
}

impl Enforcer for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn is_in_force(&mut self) -> Result<bool, Error> {
        Ok(self.installed_generations()?.is_some())
    }

    fn resync(&mut self, program: &Program) -> Result<Report, Error> {
        let known = self.generations.take();
        let installed = self.installed_generations()?;
        self.note_counting(program);
        // The kernel may have been given less than we remember, if somebody else was there.
        let in_force = match (known, installed) {
            (Some(known), Some(installed)) if known.mark() == installed.mark() => Some(known),
            (_, installed) => installed,
        };
        let tables = self.read()?;
        if let Some(generations) = &in_force {
            let different = |table| self.mending(table, program, generations).difference;
            let Some(difference) = tables.iter().find_map(different) else {
                self.generations = in_force;
                return Ok(Report::default());
            };
            tracing::info!("{difference}: the tables of policies are mended");
        }
        let generations = match in_force {
            Some(mut generations) => {
                if generations.advance(self.settings.established, Instant::now()).begins_anew {
                    self.forget_marks()?;
                }
                generations
            }
            None => {
                self.forget_marks()?;
                Generations::only(self.settings.mark_mask, 1)
            }
        };
        let mut report = Report { operations: 0, judged_anew: true };
        for table in &tables {
            let Mending { batch, .. } = self.mending(table, program, &generations);
            report.operations += batch.operations();
            self.connection.commit(batch)?;
        }
        self.generations = Some(generations);
        Ok(report)
    }

    fn apply(&mut self, program: &Program, delta: &Delta) -> Result<Report, Error> {
        let mut generations = self.generations.take().ok_or(Error::NotSynced)?;
        let keeps = self.settings.established == Established::Keep;
        let step = (delta.tightens() && !keeps)
            .then(|| generations.advance(self.settings.established, Instant::now()));
        if step.as_ref().is_some_and(|step| step.begins_anew) {
            self.forget_marks()?;
        }
        let mut report = Report { operations: 0, judged_anew: step.is_some() };
        for family in self.settings.families.clone() {
            let mut batch = Batch::new(table(family));
            let style = self.style(family, generations.mark());
            content::change(&mut batch, program, delta, &style);
            if let Some(step) = &step {
                content::advance(&mut batch, &style, &step.dead);
            }
            report.operations += batch.operations();
            self.connection.commit(batch)?;
        }
        self.note_counting_changes(delta);
        self.generations = Some(generations);
        Ok(report)
    }

    fn due(&self) -> Option<Instant> {
        self.generations.as_ref()?.due()
    }

    fn tidy(&mut self, now: Instant) -> Result<Report, Error> {
        let mut generations = self.generations.take().ok_or(Error::NotSynced)?;
        let dead = generations.end(now);
        let mut report = Report { operations: 0, judged_anew: !dead.is_empty() };
        for family in self.settings.families.clone() {
            let mut batch = Batch::new(table(family));
            content::bury(&mut batch, &dead);
            report.operations += batch.operations();
            self.connection.commit(batch)?;
        }
        self.generations = Some(generations);
        Ok(report)
    }

    fn watch(&mut self) -> Result<Option<Box<dyn Watch>>, Error> {
        let tables = self.settings.families.iter().map(|family| table(*family)).collect();
        Ok(Some(Box::new(Listener(Monitor::open(tables, self.connection.port())?))))
    }

    fn counts(&mut self) -> Result<Counts, Error> {
        let mut counts = Counts::default();
        let mut allowed: HashMap<PolicyKey, u64> = HashMap::new();
        let mut denied: HashMap<std::sync::Arc<Profile>, u64> = HashMap::new();
        for family in self.settings.families.clone() {
            for rule in self.connection.counted_rules(&table(family))? {
                match self.counting.get(&rule.chain) {
                    Some(Counting::Policy(key)) => *allowed.entry(key.clone()).or_default() += rule.packets,
                    Some(Counting::Profile(profile)) => {
                        *denied.entry(profile.clone()).or_default() += rule.packets;
                    }
                    None if rule.chain == chain::UNKNOWN => counts.unknown += rule.packets,
                    None => {}
                }
            }
        }
        counts.allowed =
            allowed.into_iter().map(|((direction, name), packets)| (direction, name, packets)).collect();
        counts.allowed.sort_unstable();
        counts.denied = denied.into_iter().collect();
        counts.denied.sort_unstable();
        Ok(counts)
    }
}

/// Hears of changes to our tables.
struct Listener(Monitor);

impl Watch for Listener {
    fn next_damage(&mut self) -> Result<String, Error> {
        Ok(self.0.next_disturbance()?.to_string())
    }
}

/// Removes all that this made, in both families. True if there was something.
///
/// # Errors
/// When the kernel refuses, or cannot be read.
pub fn cleanup() -> Result<bool, Error> {
    let mut connection = Connection::open()?;
    let ours: Vec<_> = Family::BOTH.into_iter().map(table).collect();
    let found: Vec<_> = connection.tables()?.into_iter().filter(|table| ours.contains(table)).collect();
    for table in &found {
        let mut batch = Batch::new(table.clone());
        batch.delete_table();
        connection.commit(batch)?;
    }
    Ok(!found.is_empty())
}
