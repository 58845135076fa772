//! The Nodes of the cluster, and what follows from them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::object::{Kind, Node, ObjectName, ObjectRef};
use endpoint_cache::{Family, Problem, Relists};
use ipnet::IpNet;

use super::claims::{AddressCounts, Claimant, MacClaims, RangeClaims};
use super::desired::{Change, Delta, Desired, Way};
use super::node::{self, Facts};
use super::own;
use super::settings::{Backend, Settings};
use super::uplink::Uplink;

/// What the model is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A Node as it is now.
    Node(Box<Node>),
    /// This object is gone.
    Deleted(ObjectRef),
    /// All objects of a kind follow, those that are known among them.
    ListBegins(Kind),
    /// They have: whatever was known and did not follow is gone. Without a beginning, nothing is.
    ListEnds(Kind),
    /// The devices that lead to the other nodes, all of them.
    Uplinks(BTreeMap<Family, Uplink>),
    /// What BIRD has learned, all of it.
    Learned {
        /// Routes, each by a gateway ([`Way::Gateway`]).
        routes: BTreeMap<IpNet, Way>,
        /// Whether BIRD has been up for long enough to have learned all there is: until then nodes are reached as
        /// without it, and the own Node does not announce yet that it has gone over (see [`Announcement::backend`](super::Announcement::backend)).
        settled: bool,
    },
}

/// The Nodes of the cluster, and what follows from them for one.
pub struct Nodes {
    pub(super) name: Arc<str>,
    pub(super) settings: Settings,
    pub(super) known: BTreeMap<Arc<str>, Known>,
    relists: Relists,
    pub(super) ranges: RangeClaims,
    pub(super) macs: MacClaims,
    pub(super) addresses: AddressCounts,
    pub(super) uplinks: BTreeMap<Family, Uplink>,
    pub(super) learned: BTreeMap<IpNet, Way>,
    pub(super) settled: bool,
    /// How many nodes each VXLAN device is needed for.
    tunnels_needed: BTreeMap<Family, usize>,
    pub(super) desired: Desired,
    pub(super) told: Told,
}

/// A Node, and what follows from it.
#[derive(Default)]
pub(super) struct Known {
    /// As it came, but for what nobody reads.
    node: Box<Node>,
    pub(super) facts: Facts,
    misread: Vec<Problem>,
    /// What is wrong beyond what it says: others claim the same, or there is no way to it.
    unusable: Vec<Problem>,
    /// Families whose VXLAN devices are needed for it.
    needs_tunnel: BTreeSet<Family>,
}

impl Known {
    fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.misread.iter().chain(&self.unusable)
    }
}

/// What the last delta led to, of what changed since, and of what is small.
#[derive(Default)]
pub(super) struct Told {
    pub(super) ways: BTreeMap<IpNet, Option<Way>>,
    nodes: BTreeMap<IpAddr, bool>,
    small: own::Small,
    bgp: bool,
}

impl Nodes {
    /// No Nodes yet; this node's is the one of this name.
    #[must_use]
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        Self {
            name: name.into().into(),
            settings,
            known: BTreeMap::new(),
            relists: Relists::default(),
            ranges: RangeClaims::default(),
            macs: MacClaims::default(),
            addresses: AddressCounts::default(),
            uplinks: BTreeMap::new(),
            learned: BTreeMap::new(),
            settled: false,
            tunnels_needed: BTreeMap::new(),
            desired: Desired::default(),
            told: Told::default(),
        }
    }

    /// Takes in what is new; returns the problems that were not there before, those of other objects among them.
    pub fn apply(&mut self, update: Update) -> Vec<Problem> {
        let mut news = Vec::new();
        match update {
            Update::Node(node) => self.take_in(node, &mut news),
            Update::Deleted(object) if object.kind == Kind::Node => self.forget(&object.name.name, &mut news),
            Update::ListBegins(Kind::Node) => {
                let known = self.known.keys().map(|name| ObjectName::new("", name)).collect();
                self.relists.begin(Kind::Node, known);
            }
            Update::ListEnds(Kind::Node) => {
                for gone in self.relists.end(Kind::Node) {
                    self.forget(&gone.name, &mut news);
                }
            }
            Update::Deleted(_) | Update::ListBegins(_) | Update::ListEnds(_) => {}
            Update::Uplinks(uplinks) => {
                if self.uplinks != uplinks {
                    self.uplinks = uplinks;
                    self.refresh_all(&mut news);
                }
            }
            Update::Learned { routes, settled } => self.learn(routes, settled, &mut news),
        }
        self.refresh_own();
        news
    }

    /// All problems that stand, by object.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.known.values().flat_map(Known::problems).cloned().collect()
    }

    /// What is to be now.
    #[must_use]
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What changed since the last call.
    pub fn take_delta(&mut self) -> Delta {
        let small = own::Small::of(&self.desired);
        let told = std::mem::replace(&mut self.told, Told { small, ..Told::default() });
        let (before, now) = (&told.small, &self.told.small);
        let ways = told.ways.into_iter().filter_map(|(destination, before)| {
            let after = self.desired.ways.get(&destination).copied();
            (before != after).then_some(Change { destination, before, after })
        });
        let masquerade = self.desired.masquerade.as_ref();
        let nodes = told.nodes.into_iter().filter_map(|(address, before)| {
            let after = masquerade.is_some_and(|found| found.nodes.contains(&address));
            (before != after).then_some((address, after))
        });
        Delta {
            ways: ways.collect(),
            nodes: nodes.collect(),
            devices: (&before.uplinks, &before.tunnels) != (&now.uplinks, &now.tunnels),
            own: before.own != now.own,
            masquerade: before.masquerade != now.masquerade,
            bgp: told.bgp,
            announcement: before.announcement != now.announcement,
        }
    }

    /// The `InternalIP`s of the own Node, for [`Applier::uplinks`](super::Applier::uplinks).
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        self.own().map(|facts| facts.internal.clone()).unwrap_or_default()
    }

    /// Other settings, from now on: the delta tells what is to change.
    pub fn set(&mut self, settings: Settings) -> Vec<Problem> {
        let mut news = Vec::new();
        if self.settings != settings {
            self.settings = settings;
            // What a Node says is read with the settings.
            let nodes: Vec<_> = self.known.values().map(|known| known.node.clone()).collect();
            for node in nodes {
                self.take_in(node, &mut news);
            }
            self.refresh_all(&mut news);
            self.refresh_own();
        }
        news
    }

    pub(super) fn own(&self) -> Option<&Facts> {
        self.known.get(&self.name).map(|known| &known.facts)
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the own Node has a range, and nobody older claims it.
    pub(super) fn has_own(&self, range: &IpNet) -> bool {
        self.ranges.owner(range) == Some(&self.name)
    }

    pub(super) fn needs_tunnel(&self, family: Family) -> bool {
        self.settings.backend == Backend::Vxlan || self.tunnels_needed.contains_key(&family)
    }

    pub(super) fn bgp_changed(&mut self) {
        self.told.bgp = true;
    }

    fn take_in(&mut self, mut node: Box<Node>, news: &mut Vec<Problem>) {
        let name: Arc<str> = node.metadata.name.as_str().into();
        self.relists.saw(Kind::Node, &ObjectName::new("", &name));
        let (facts, misread) = node::read(&node, &self.settings);
        trim(&mut node);
        let known = self.known.entry(name.clone()).or_default();
        known.node = node;
        if known.misread != misread {
            news.extend(misread.iter().filter(|problem| !known.misread.contains(problem)).cloned());
            known.misread = misread;
        }
        let before = std::mem::replace(&mut known.facts, facts);
        let facts = known.facts.clone();
        if before != facts {
            self.change(&name, Some(&before), Some(&facts), news);
        }
    }

    fn forget(&mut self, name: &str, news: &mut Vec<Problem>) {
        if let Some((name, known)) = self.known.remove_entry(name) {
            self.change(&name, Some(&known.facts), None, news);
            for family in known.needs_tunnel {
                self.count_tunnel(family, false);
            }
        }
    }

    /// Brings everything from what a Node said to what it says.
    fn change(
        &mut self,
        name: &Arc<str>,
        before: Option<&Facts>,
        after: Option<&Facts>,
        news: &mut Vec<Problem>,
    ) {
        let mut affected = BTreeSet::from([name.clone()]);
        let mut ranges: BTreeSet<IpNet> = BTreeSet::new();
        for (facts, claimed) in [(before, false), (after, true)] {
            let Some(facts) = facts else { continue };
            let claimant = Claimant::new(name.clone(), facts.created.as_deref());
            for range in facts.ranges.values() {
                affected.extend(self.ranges.set(*range, &claimant, claimed));
                ranges.insert(*range);
            }
            for (family, mac) in &facts.macs {
                affected.extend(self.macs.set((*family, *mac), &claimant, claimed));
            }
            for address in &facts.all_addresses {
                self.count_address(*address, claimed);
            }
        }
        self.refresh_mesh(name, after);
        for name in affected {
            self.refresh(&name, news);
        }
        if *name == self.name {
            // Nothing is learned of what is this node's.
            ranges.extend(self.learned.keys());
        }
        for range in ranges {
            self.refresh_way(range);
        }
    }

    fn count_address(&mut self, address: IpAddr, more: bool) {
        let changed = if more { self.addresses.add(address) } else { self.addresses.remove(address) };
        if let (true, Some(masquerade)) = (changed, &mut self.desired.masquerade) {
            self.told.nodes.entry(address).or_insert(!more);
            if more {
                masquerade.nodes.insert(address);
            } else {
                masquerade.nodes.remove(&address);
            }
        }
    }

    /// When all nodes' addresses are to be told of.
    pub(super) fn tell_addresses(&mut self, before: &BTreeSet<IpAddr>, after: &BTreeSet<IpAddr>) {
        for address in before.symmetric_difference(after) {
            self.told.nodes.entry(*address).or_insert_with(|| before.contains(address));
        }
    }

    fn count_tunnel(&mut self, family: Family, more: bool) {
        let count = self.tunnels_needed.entry(family).or_default();
        if more {
            *count += 1;
        } else {
            *count -= 1;
        }
        if *count == 0 {
            self.tunnels_needed.remove(&family);
        }
    }

    fn refresh_all(&mut self, news: &mut Vec<Problem>) {
        let names: Vec<_> = self.known.keys().cloned().collect();
        for name in names {
            self.refresh(&name, news);
            let facts = self.known.get(&name).map(|known| known.facts.clone());
            self.refresh_mesh(&name, facts.as_ref());
        }
        for range in self.learned.keys().copied().collect::<Vec<_>>() {
            self.refresh_way(range);
        }
    }

    fn learn(&mut self, routes: BTreeMap<IpNet, Way>, settled: bool, news: &mut Vec<Problem>) {
        let before = std::mem::replace(&mut self.learned, routes);
        let settling = std::mem::replace(&mut self.settled, settled) != settled;
        let changed: HashSet<IpNet> = before
            .keys()
            .chain(self.learned.keys())
            .filter(|range| before.get(range) != self.learned.get(range))
            .copied()
            .collect();
        for range in &changed {
            if let Some(name) = self.ranges.owner(range).cloned() {
                self.refresh(&name, news);
            }
            self.refresh_way(*range);
        }
        if settling {
            self.refresh_all(news);
        }
    }

    /// What follows from a Node, now that something changed that it depends on.
    fn refresh(&mut self, name: &Arc<str>, news: &mut Vec<Problem>) {
        let Some(known) = self.known.get(name) else { return };
        let (facts, mut unusable, mut needs) = (known.facts.clone(), Vec::new(), BTreeSet::new());
        let object = ObjectRef { kind: Kind::Node, name: ObjectName::new("", name) };
        let mut problem = |field: &str, reason: String| {
            unusable.push(Problem { object: object.clone(), field: field.to_owned(), reason });
        };
        let claimant = Claimant::new(name.clone(), facts.created.as_deref());
        for (family, range) in &facts.ranges {
            if let Some((other, owner)) = self.ranges.obstacle(*range, &claimant) {
                let reason = format!("{range} overlaps {other} of Node {owner}, which is older: left out.");
                problem("spec.podCIDRs", reason);
            } else if *name != self.name {
                let (way, needed) = self.way(*family, range, name, &facts);
                needs.extend(needed.then_some(*family));
                if let Err(why) = way {
                    problem("status.addresses", format!("{range} is not reached: {why}."));
                }
            } else if !self.uplinks.is_empty() && !self.uplinks.contains_key(family) {
                problem(
                    "status.addresses",
                    format!("{range} is of no use: nothing leads to other nodes by {family}."),
                );
            }
        }
        for (family, mac) in &facts.macs {
            if let Some(owner) = self.macs.owner(*family, *mac).filter(|owner| *owner != name) {
                let reason = format!(
                    "{mac} is that of Node {owner} as well, which is older: there is no tunnel to it."
                );
                problem("metadata.annotations", reason);
            }
        }
        for range in facts.ranges.values() {
            self.refresh_way(*range);
        }
        let Some(known) = self.known.get_mut(name) else { return };
        news.extend(unusable.iter().filter(|problem| !known.unusable.contains(problem)).cloned());
        known.unusable = unusable;
        let before = std::mem::replace(&mut known.needs_tunnel, needs.clone());
        for family in before.symmetric_difference(&needs) {
            self.count_tunnel(*family, needs.contains(family));
        }
    }

    /// What BIRD is told of a node.
    fn refresh_mesh(&mut self, name: &Arc<str>, facts: Option<&Facts>) {
        if *name == self.name {
            return;
        }
        let peers: BTreeMap<_, _> = facts
            .into_iter()
            .flat_map(|facts| &facts.addresses)
            .filter(|(family, address)| {
                let uplink = self.uplinks.get(family);
                uplink.is_some_and(|uplink| uplink.reaches(**address) && uplink.address != **address)
            })
            .map(|(family, address)| (*family, *address))
            .collect();
        let Some(bgp) = self.desired.bgp.as_mut().filter(|bgp| bgp.settings.mesh) else { return };
        let before = bgp.mesh.get(name).cloned().unwrap_or_default();
        if before == peers {
            return;
        }
        if peers.is_empty() {
            bgp.mesh.remove(name);
        } else {
            bgp.mesh.insert(name.clone(), peers);
        }
        self.told.bgp = true;
    }

    /// When BIRD is to be told of all nodes.
    pub(super) fn refresh_whole_mesh(&mut self) {
        let all: Vec<_> =
            self.known.iter().map(|(name, known)| (name.clone(), known.facts.clone())).collect();
        for (name, facts) in all {
            self.refresh_mesh(&name, Some(&facts));
        }
    }
}

/// Leaves out what nobody reads.
fn trim(node: &mut Node) {
    node.metadata.labels.clear();
    node.metadata.annotations.retain(|name, _| name.starts_with(super::announcement::PREFIX));
    node.spec.taints.clear();
}
