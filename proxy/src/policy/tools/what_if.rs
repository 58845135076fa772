//! `pointsman policy what-if`: what would other policies cut, and what newly allow?

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::known::{self, Known};
use super::pairs::{Change, Effect};
use super::policies::{self, Fate};
use super::{Answer, connections};
use crate::cli::WhatIfFlags;

/// Effects that are told of each sort.
const MOST: usize = 1000;

/// What other policies would do. Fields may be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WhatIf {
    /// What would happen to the policies that were named.
    pub(super) policies: BTreeMap<String, Fate>,
    /// What of them makes no sense.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    /// Connections that this node tracks now.
    pub(super) connections: Effects,
    /// Pairs of pods, at the ports that they name and one other.
    pub(super) pairs: Effects,
    /// How much of both is because of each changed policy.
    pub(super) summary: BTreeMap<String, Summary>,
    /// What was not looked at, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// What would be treated otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Effects {
    /// What would be denied first.
    pub(super) list: Vec<Effect>,
    /// How many more there are.
    pub(super) omitted: usize,
}

/// How much is because of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    /// Connections under way that would be denied.
    pub(super) connections_denied: usize,
    /// Connections that were denied and would be allowed.
    pub(super) connections_allowed: usize,
    /// Pairs of pods that could not connect any more, at some port.
    pub(super) pairs_denied: usize,
    /// Pairs of pods that could connect then, at some port.
    pub(super) pairs_allowed: usize,
}

impl Answer for WhatIf {
    fn is_yes(&self) -> bool {
        !(self.connections.list.is_empty() && self.pairs.list.is_empty())
    }
}

/// Answers the question.
///
/// # Errors
/// When files cannot be read, or there is nobody to ask.
pub(super) fn what_if(flags: &WhatIfFlags, socket: Option<&str>) -> anyhow::Result<WhatIf> {
    let mut updates = Vec::new();
    for path in &flags.files {
        updates.extend(known::read(path)?);
    }
    let known = Known::of(flags.manifests.as_deref(), socket)?;
    let others = policies::others(&known.view.snapshot, updates, &flags.delete)?;
    let mut answer = WhatIf::default();
    let seen = match flags.manifests {
        Some(_) => Err("connections under way are not looked at with --manifests".to_owned()),
        None => {
            connections::seen().map_err(|error| format!("connections under way are not known: {error:#}"))
        }
    };
    let seen = seen.unwrap_or_else(|why| {
        answer.notes.push(why);
        Vec::new()
    });
    if others.left_out > 0 {
        answer.notes.push(format!("{} objects that are no NetworkPolicies were left out", others.left_out));
    }
    let changed = others.fates.iter().filter(|(_, fate)| **fate != Fate::Same);
    let changed: BTreeSet<_> = changed.map(|(name, _)| name.clone()).collect();
    let (before, after) = (known.cluster(), known.cluster().with(&others.snapshot));
    let change = Change { before: &before, after: &after, changed: &changed };
    let of_seen = seen.iter().filter_map(|of| change.effect(of, format!("{}/{}", of.port, of.protocol)));
    let of_seen: Vec<Effect> = of_seen.collect();
    let (of_pairs, complete) = change.pairs(&others.snapshot);
    if !complete {
        answer.notes.push("there are too many pairs of pods to look at them all".to_owned());
    }
    for (effects, is_pair) in [(&of_seen, false), (&of_pairs, true)] {
        effects.iter().for_each(|effect| count(effect, is_pair, &mut answer.summary));
    }
    Ok(WhatIf {
        policies: others.fates.into_iter().map(|(name, fate)| (name.to_string(), fate)).collect(),
        problems: others.problems,
        connections: Effects::of(of_seen),
        pairs: Effects::of(of_pairs),
        ..answer
    })
}

fn count(effect: &Effect, is_pair: bool, summary: &mut BTreeMap<String, Summary>) {
    for policy in &effect.policies {
        let counts = summary.entry(policy.clone()).or_default();
        *match (is_pair, effect.allowed) {
            (false, false) => &mut counts.connections_denied,
            (false, true) => &mut counts.connections_allowed,
            (true, false) => &mut counts.pairs_denied,
            (true, true) => &mut counts.pairs_allowed,
        } += 1;
    }
}

impl Effects {
    fn of(mut list: Vec<Effect>) -> Self {
        list.sort_by(|a, b| {
            (a.allowed, &a.policies, &a.from.pod, &a.to.pod).cmp(&(
                b.allowed,
                &b.policies,
                &b.from.pod,
                &b.to.pod,
            ))
        });
        let omitted = list.len().saturating_sub(MOST);
        list.truncate(MOST);
        Self { list, omitted }
    }
}
