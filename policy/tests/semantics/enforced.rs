//! What an enforcer remembers of a program, brought from one to the next by deltas alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use endpoint_cache::object::ObjectName;
use ipnet::IpNet;
use policy::{
    Change, Clauses, Delta, Direction, Member, PolicyKey, PortMatch, Profile, Program, SetChange, SetKey,
};

/// A program without the counts, which are the compiler's own.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Enforced {
    sets: BTreeMap<SetKey, BTreeSet<Member>>,
    policies: BTreeMap<PolicyKey, Clauses>,
    profiles: BTreeSet<Profile>,
    subjects: BTreeMap<(Direction, IpAddr), Profile>,
    pods: BTreeMap<IpAddr, ObjectName>,
    ranges: Vec<IpNet>,
}

impl Enforced {
    pub(crate) fn of(program: &Program) -> Self {
        let members =
            |(key, members): (&SetKey, &policy::Members)| (key.clone(), members.keys().copied().collect());
        Self {
            sets: program.sets.iter().map(members).collect(),
            policies: program.policies.clone(),
            profiles: program.profiles.keys().map(|profile| (**profile).clone()).collect(),
            subjects: program.subjects.iter().map(|(key, profile)| (*key, (**profile).clone())).collect(),
            pods: program.pods.clone(),
            ranges: program.ranges.clone(),
        }
    }

    /// Every change must be one, and begin where the last delta ended. Only the members of new sets are taken from the
    /// program: that is where the delta says they are.
    pub(crate) fn apply(&mut self, delta: &Delta, program: &Program) {
        for (key, change) in &delta.sets {
            self.apply_set(key, change, program);
        }
        apply_changes(&mut self.policies, &delta.policies, Clone::clone);
        apply_changes(&mut self.subjects, &delta.subjects, |profile| (**profile).clone());
        apply_changes(&mut self.pods, &delta.pods, Clone::clone);
        for (profile, is_new) in &delta.profiles {
            if *is_new {
                assert!(self.profiles.insert((**profile).clone()), "{profile} was there");
            } else {
                assert!(self.profiles.remove(&**profile), "{profile} was not there");
            }
        }
        if let Some(ranges) = &delta.ranges {
            assert_eq!(self.ranges, ranges.before);
            assert_ne!(ranges.before, ranges.after);
            self.ranges.clone_from(&ranges.after);
        }
    }

    fn apply_set(&mut self, key: &SetKey, change: &SetChange, program: &Program) {
        match change {
            SetChange::New => {
                let members = program.sets[key].keys().copied().collect();
                assert!(self.sets.insert(key.clone(), members).is_none(), "{key} was there");
            }
            SetChange::Gone => assert!(self.sets.remove(key).is_some(), "{key} was not there"),
            SetChange::Members { added, removed } => {
                assert!(!added.is_empty() || !removed.is_empty(), "{key} did not change");
                let members = self.sets.get_mut(key).expect("a set that changes is there");
                for member in removed {
                    assert!(members.remove(member), "{member:?} was not in {key}");
                }
                for member in added {
                    assert!(members.insert(*member), "{member:?} was in {key}");
                }
            }
        }
    }

    /// What is referred to is there, and nothing else is.
    pub(crate) fn assert_closed(&self) {
        let clauses = || self.policies.values().flat_map(|clauses| clauses.iter());
        let named = clauses().filter_map(|clause| match &clause.port {
            PortMatch::Named(set) => Some(set),
            _ => None,
        });
        let sets: BTreeSet<&SetKey> =
            clauses().filter_map(|clause| clause.peer.as_ref()).chain(named).collect();
        assert_eq!(sets, self.sets.keys().collect());
        let policies =
            self.profiles.iter().flat_map(|of| of.policies.iter().map(|name| (of.direction, name.clone())));
        assert_eq!(policies.collect::<BTreeSet<_>>(), self.policies.keys().cloned().collect());
        assert_eq!(self.subjects.values().collect::<BTreeSet<_>>(), self.profiles.iter().collect());
        assert!(self.subjects.keys().all(|(_, address)| self.pods.contains_key(address)));
    }
}

fn apply_changes<K, T, U>(to: &mut BTreeMap<K, U>, changes: &BTreeMap<K, Change<T>>, plain: fn(&T) -> U)
where
    K: Ord + Clone + std::fmt::Debug,
    T: PartialEq + std::fmt::Debug,
    U: PartialEq + std::fmt::Debug,
{
    for (key, change) in changes {
        assert_ne!(change.before, change.after, "{key:?} did not change");
        let before = match &change.after {
            Some(after) => to.insert(key.clone(), plain(after)),
            None => to.remove(key),
        };
        assert_eq!(before, change.before.as_ref().map(plain), "{key:?} was something else");
    }
}
