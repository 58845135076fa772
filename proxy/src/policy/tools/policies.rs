//! The policies that a cluster would have. Pure.

use std::collections::BTreeMap;

use anyhow::ensure;
use endpoint_cache::object::{DEFAULT_NAMESPACE, Kind, ObjectName, ObjectRef};
use policy::{Snapshot, Update};
use serde::{Deserialize, Serialize};

/// What would happen to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Fate {
    Added,
    Changed,
    Deleted,
    /// It asks for what it does already.
    Same,
}

/// Other policies.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) snapshot: Snapshot,
    /// What happens to those that were named.
    pub(super) fates: BTreeMap<ObjectName, Fate>,
    /// What of them makes no sense: the policy, the field and the reason.
    pub(super) problems: Vec<String>,
    /// Objects of other kinds, which were left out.
    pub(super) left_out: usize,
}

/// Puts policies on top of a cluster's, and deletes some.
///
/// # Errors
/// When one is to be deleted that is not there.
pub(super) fn others(before: &Snapshot, updates: Vec<Update>, deleted: &[String]) -> anyhow::Result<Others> {
    let mut compiler = before.of_every_node();
    let (mut named, mut left_out) = (Vec::new(), 0);
    for name in deleted {
        let (namespace, name) = name.split_once('/').unwrap_or((DEFAULT_NAMESPACE, name));
        let name = ObjectName::new(namespace, name);
        ensure!(before.policy(&name).is_some(), "--delete {name}: there is no such policy");
        compiler.apply(Update::Deleted(ObjectRef { kind: Kind::NetworkPolicy, name: name.clone() }));
        named.push(name);
    }
    for update in updates {
        let Update::NetworkPolicy(policy) = &update else {
            left_out += 1;
            continue;
        };
        named.push(policy.object_name());
        compiler.apply(update);
    }
    let problems = compiler.take_delta().problems;
    let snapshot = compiler.snapshot();
    let fate = |name: &ObjectName| match (before.policy(name), snapshot.policy(name)) {
        (None, _) => Fate::Added,
        (_, None) => Fate::Deleted,
        (was, is) if was == is => Fate::Same,
        _ => Fate::Changed,
    };
    Ok(Others {
        fates: named.into_iter().map(|name| (name.clone(), fate(&name))).collect(),
        problems: problems
            .iter()
            .map(|problem| format!("{} {}: {}", problem.object, problem.field, problem.reason))
            .collect(),
        left_out,
        snapshot,
    })
}
