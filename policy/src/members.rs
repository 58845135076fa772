//! The sets that clauses refer to: who refers to them, who is in them, and what changed of that.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::pod::Pod;
use crate::program::{Member, Members, SetChange, SetKey};
use crate::selector::{Labels, Namespaces, PodSelector};

/// Every set that is referred to, without its members, which are the program's.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    references: HashMap<SetKey, usize>,
    index: Index,
    /// What changed since the last delta.
    news: BTreeMap<SetKey, News>,
}

/// What changed of a set.
#[derive(Debug, Default)]
struct News {
    was_there: bool,
    added: BTreeSet<Member>,
    removed: BTreeSet<Member>,
}

/// Which sets a pod may be in, by what is easily told of it.
#[derive(Debug, Default)]
struct Index(HashMap<Place, HashSet<SetKey>>);

/// Where a set stands in the index: a pod that is in the set finds it in one of its places.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Place {
    /// Sets of pods of one namespace.
    Namespace(Arc<str>),
    /// Sets of pods of several namespaces that must have this label with this value, or one of others.
    Label(String, String),
    /// All others.
    Others,
}

/// A pod, and where it is.
#[derive(Clone, Copy)]
pub(crate) struct Placed<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) namespace: &'a str,
    /// `None` if the namespace is not known.
    pub(crate) namespace_labels: Option<&'a Labels>,
}

impl Placed<'_> {
    /// What it gives to a set.
    fn members(&self, set: &SetKey) -> Vec<Member> {
        let Some(selector) = selector(set) else { return Vec::new() };
        if !selector.matches(&self.pod.labels, self.namespace, self.namespace_labels) {
            return Vec::new();
        }
        let addresses = self.pod.addresses.iter().copied();
        match set {
            SetKey::Ports(_, protocol, name) => {
                let called =
                    self.pod.ports.iter().filter(|port| port.protocol == *protocol && port.name == *name);
                let numbers: Vec<u16> = called.map(|port| port.number).collect();
                let at =
                    |address| numbers.iter().map(move |number| Member::Port(address, *protocol, *number));
                addresses.flat_map(at).collect()
            }
            SetKey::Pods(_) | SetKey::Block(_) => addresses.map(Member::Address).collect(),
        }
    }
}

fn selector(set: &SetKey) -> Option<&PodSelector> {
    match set {
        SetKey::Pods(selector) | SetKey::Ports(selector, ..) => Some(selector),
        SetKey::Block(_) => None,
    }
}

impl Sets {
    /// One more refers to a set. True if it is the first, so that the members are to be [filled](Sets::fill) in.
    pub(crate) fn refer(&mut self, set: &SetKey, members: &mut BTreeMap<SetKey, Members>) -> bool {
        if let Some(references) = self.references.get_mut(set) {
            *references += 1;
            return false;
        }
        self.references.insert(set.clone(), 1);
        self.news.entry(set.clone()).or_default();
        self.index.insert(set);
        let block = match set {
            SetKey::Block(ranges) => ranges.iter().map(|range| (Member::Range(*range), 1)).collect(),
            _ => Members::new(),
        };
        members.insert(set.clone(), block);
        true
    }

    /// One less refers to a set. With the last, it goes when the news are taken, unless it is referred to again by then.
    pub(crate) fn release(&mut self, set: &SetKey) {
        let Some(references) = self.references.get_mut(set) else { return };
        *references -= 1;
        if *references == 0 {
            self.news.entry(set.clone()).or_insert_with(News::of_known);
        }
    }

    /// Puts all pods into a new set.
    pub(crate) fn fill<'a>(set: &SetKey, pods: impl Iterator<Item = Placed<'a>>, into: &mut Members) {
        for member in pods.flat_map(|pod| pod.members(set)) {
            *into.entry(member).or_default() += 1;
        }
    }

    /// A pod was `before` and is `after`.
    pub(crate) fn pod_changed(
        &mut self,
        before: Option<Placed<'_>>,
        after: Option<Placed<'_>>,
        members: &mut BTreeMap<SetKey, Members>,
    ) {
        let sides = [before, after];
        let concerned: HashSet<SetKey> =
            sides.iter().flatten().flat_map(|pod| self.index.candidates(pod)).cloned().collect();
        for set in concerned {
            let of = |pod: Option<Placed<'_>>| pod.map(|pod| pod.members(&set)).unwrap_or_default();
            self.members_changed(&set, &of(before), &of(after), members);
        }
    }

    /// The sets whose members depend on the labels of namespaces.
    pub(crate) fn by_namespace_labels(&self) -> Vec<SetKey> {
        let depends = |set: &&SetKey| {
            selector(set).is_some_and(|selector| matches!(selector.namespaces, Namespaces::Matching(_)))
        };
        self.references.keys().filter(depends).cloned().collect()
    }

    /// What a pod gives to one set was told from `before` and is told from `after`.
    pub(crate) fn namespace_changed(
        &mut self,
        set: &SetKey,
        before: Placed<'_>,
        after: Placed<'_>,
        members: &mut BTreeMap<SetKey, Members>,
    ) {
        self.members_changed(set, &before.members(set), &after.members(set), members);
    }

    fn members_changed(
        &mut self,
        set: &SetKey,
        before: &[Member],
        after: &[Member],
        members: &mut BTreeMap<SetKey, Members>,
    ) {
        if before == after {
            return;
        }
        let Some(members) = members.get_mut(set) else { return };
        let news = self.news.entry(set.clone()).or_insert_with(News::of_known);
        for member in after {
            let count = members.entry(*member).or_default();
            *count += 1;
            if *count == 1 && !news.removed.remove(member) {
                news.added.insert(*member);
            }
        }
        for member in before {
            let Some(count) = members.get_mut(member) else { continue };
            *count -= 1;
            if *count == 0 {
                members.remove(member);
                if !news.added.remove(member) {
                    news.removed.insert(*member);
                }
            }
        }
    }

    /// What changed since the last call. Sets that nobody refers to go.
    pub(crate) fn take_news(
        &mut self,
        members: &mut BTreeMap<SetKey, Members>,
    ) -> BTreeMap<SetKey, SetChange> {
        let news = std::mem::take(&mut self.news).into_iter();
        let told = |(set, news): (SetKey, News)| {
            if self.references.get(&set) == Some(&0) {
                self.references.remove(&set);
                self.index.remove(&set);
                members.remove(&set);
                return news.was_there.then_some((set, SetChange::Gone));
            }
            if !news.was_there {
                return Some((set, SetChange::New));
            }
            let list = |members: BTreeSet<Member>| members.into_iter().collect::<Vec<_>>();
            let (added, removed) = (list(news.added), list(news.removed));
            let changed = !added.is_empty() || !removed.is_empty();
            changed.then_some((set, SetChange::Members { added, removed }))
        };
        news.filter_map(told).collect()
    }
}

impl News {
    /// Of a set that the last delta left.
    fn of_known() -> Self {
        Self { was_there: true, ..Self::default() }
    }
}

impl Index {
    fn insert(&mut self, set: &SetKey) {
        for place in places(set) {
            self.0.entry(place).or_default().insert(set.clone());
        }
    }

    fn remove(&mut self, set: &SetKey) {
        for place in places(set) {
            let Some(sets) = self.0.get_mut(&place) else { continue };
            sets.remove(set);
            if sets.is_empty() {
                self.0.remove(&place);
            }
        }
    }

    fn candidates(&self, pod: &Placed<'_>) -> impl Iterator<Item = &SetKey> {
        let labels = pod.pod.labels.iter().map(|(key, value)| Place::Label(key.clone(), value.clone()));
        let places = labels.chain([Place::Namespace(pod.namespace.into()), Place::Others]);
        places.filter_map(|place| self.0.get(&place)).flatten()
    }
}

fn places(set: &SetKey) -> Vec<Place> {
    let Some(selector) = selector(set) else { return Vec::new() };
    if let Namespaces::Named(name) = &selector.namespaces {
        return vec![Place::Namespace(name.clone())];
    }
    match selector.pods.telling() {
        Some((label, values)) => {
            values.map(|value| Place::Label(label.to_owned(), value.to_owned())).collect()
        }
        None => vec![Place::Others],
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// The sets, and their members as a program has them.
    #[derive(Default)]
    struct Kept {
        sets: Sets,
        members: BTreeMap<SetKey, Members>,
    }

    impl Kept {
        /// Set `all` was there before.
        fn with_everything() -> Self {
            let mut kept = Self::default();
            assert!(kept.sets.refer(&everything(), &mut kept.members));
            assert_eq!(kept.news(), BTreeMap::from([(everything(), SetChange::New)]));
            kept
        }

        fn refer(&mut self) -> bool {
            self.sets.refer(&everything(), &mut self.members)
        }

        fn becomes(&mut self, before: Option<&Pod>, after: Option<&Pod>) {
            let placed = |pod| Placed { pod, namespace: "red", namespace_labels: None };
            self.sets.pod_changed(before.map(placed), after.map(placed), &mut self.members);
        }

        fn news(&mut self) -> BTreeMap<SetKey, SetChange> {
            self.sets.take_news(&mut self.members)
        }
    }

    fn everything() -> SetKey {
        SetKey::Pods(PodSelector::everything())
    }

    fn pod(address: &str) -> Pod {
        Pod {
            labels: Labels::new(),
            addresses: vec![address.parse().unwrap()],
            ports: BTreeSet::new(),
            is_local: true,
            created: String::new(),
            uids: Vec::new(),
        }
    }

    fn member(address: &str) -> Member {
        Member::Address(address.parse::<IpAddr>().unwrap())
    }

    fn changed(added: &[&str], removed: &[&str]) -> BTreeMap<SetKey, SetChange> {
        let all = |of: &[&str]| of.iter().map(|address| member(address)).collect();
        BTreeMap::from([(everything(), SetChange::Members { added: all(added), removed: all(removed) })])
    }

    #[test]
    fn what_comes_and_goes_between_deltas_is_no_news() {
        let mut kept = Kept::with_everything();
        let a = pod("10.0.0.1");
        kept.becomes(None, Some(&a));
        kept.becomes(Some(&a), None);
        assert_eq!(kept.news(), BTreeMap::new());
        kept.becomes(None, Some(&a));
        assert_eq!(kept.news(), changed(&["10.0.0.1"], &[]));
        kept.becomes(Some(&a), None);
        kept.becomes(None, Some(&a));
        assert_eq!(kept.news(), BTreeMap::new());
        kept.becomes(Some(&a), Some(&pod("10.0.0.2")));
        assert_eq!(kept.news(), changed(&["10.0.0.2"], &["10.0.0.1"]));
    }

    #[test]
    fn a_member_stays_while_some_pod_gives_it() {
        let mut kept = Kept::with_everything();
        let (one, other) = (pod("10.0.0.1"), pod("10.0.0.1"));
        kept.becomes(None, Some(&one));
        kept.becomes(None, Some(&other));
        assert_eq!(kept.news(), changed(&["10.0.0.1"], &[]));
        assert_eq!(kept.members[&everything()][&member("10.0.0.1")], 2);
        kept.becomes(Some(&one), None);
        assert_eq!(kept.news(), BTreeMap::new());
        kept.becomes(Some(&other), None);
        assert_eq!(kept.news(), changed(&[], &["10.0.0.1"]));
    }

    #[test]
    fn a_set_that_comes_and_goes_between_deltas_is_no_news() {
        let mut kept = Kept::default();
        assert!(kept.refer());
        kept.sets.release(&everything());
        assert_eq!(kept.news(), BTreeMap::new());
        assert!(kept.members.is_empty());
        assert!(kept.sets.index.0.is_empty());
    }

    #[test]
    fn a_set_that_is_let_go_and_asked_for_again_keeps_its_news() {
        let mut kept = Kept::with_everything();
        kept.becomes(None, Some(&pod("10.0.0.1")));
        kept.sets.release(&everything());
        assert!(!kept.refer(), "it is still filled");
        kept.becomes(None, Some(&pod("10.0.0.2")));
        assert_eq!(kept.news(), changed(&["10.0.0.1", "10.0.0.2"], &[]));
        kept.sets.release(&everything());
        assert_eq!(kept.news(), BTreeMap::from([(everything(), SetChange::Gone)]));
        assert!(kept.members.is_empty() && kept.sets.index.0.is_empty());
        assert!(kept.refer(), "it begins anew");
    }

    #[test]
    fn a_set_goes_with_the_last_that_refers_to_it() {
        let mut kept = Kept::with_everything();
        assert!(!kept.refer());
        kept.sets.release(&everything());
        assert_eq!(kept.news(), BTreeMap::new());
        kept.sets.release(&everything());
        assert_eq!(kept.news(), BTreeMap::from([(everything(), SetChange::Gone)]));
    }

    #[test]
    fn blocks_are_members_of_themselves() {
        let mut kept = Kept::default();
        let net: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
        let block = SetKey::Block([net].into());
        assert!(kept.sets.refer(&block, &mut kept.members));
        assert_eq!(kept.members[&block], Members::from([(Member::Range(net), 1)]));
    }
}
