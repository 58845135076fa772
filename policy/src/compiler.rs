//! Objects in, the program of a node and what changed of it out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::object::{DEFAULT_NAMESPACE, Kind, Node, ObjectName, ObjectRef};
use endpoint_cache::{Problem, Relists, parse_range};
use ipnet::IpNet;

use crate::claims::Claims;
use crate::clauses::{clauses, sets};
use crate::members::{Placed, Sets};
use crate::object::{Namespace, NetworkPolicy, Pod as WrittenPod};
use crate::pod::Pod;
use crate::policy::{Direction, Policy};
use crate::program::{Change, Clauses, Delta, PolicyKey, Profile, Program, RangesChange, SetKey};
use crate::selector::{Labels, Namespaces};
use crate::snapshot::Snapshot;
use crate::update::Update;

/// The objects of a cluster, and what they ask of one node.
///
/// [`Compiler::apply`] takes objects in and notes what they touch; [`Compiler::take_delta`] works out only that. What the
/// two have left is the same whatever order the objects came in.
#[derive(Debug, Default)]
pub struct Compiler {
    /// In lower case; `None` if the pods of every node are taken for this one's.
    node_name: Option<String>,
    namespaces: HashMap<Arc<str>, Labels>,
    pods: HashMap<Arc<str>, HashMap<Arc<str>, Pod>>,
    policies: HashMap<Arc<str>, BTreeMap<Arc<str>, Policy>>,
    claims: Claims,
    /// This node's pods, by address. Two may share one for a moment.
    holders: HashMap<IpAddr, BTreeSet<ObjectName>>,
    sets: Sets,
    program: Program,
    /// What was in the last delta of what changed since.
    before: Before,
    /// Addresses to be judged anew.
    touched_addresses: HashSet<IpAddr>,
    /// Policies to be compiled anew.
    touched_policies: HashSet<ObjectName>,
    /// How many subjects each policy has in a direction.
    uses: HashMap<PolicyKey, usize>,
    relists: Relists,
    problems: BTreeMap<ObjectName, Vec<Problem>>,
    news: Vec<Problem>,
}

/// What the last delta left of things that changed since.
#[derive(Debug, Default)]
struct Before {
    policies: BTreeMap<PolicyKey, Option<Clauses>>,
    profiles: BTreeMap<Arc<Profile>, bool>,
    subjects: BTreeMap<(Direction, IpAddr), Option<Arc<Profile>>>,
    pods: BTreeMap<IpAddr, Option<ObjectName>>,
    ranges: Option<Vec<IpNet>>,
}

impl Compiler {
    /// Knows nothing yet. The node's name is compared in lower case, without surrounding spaces.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self { node_name: Some(node_name.trim().to_lowercase()), ..Self::default() }
    }

    /// Takes the pods of every node for its own: for questions about a whole cluster.
    #[must_use]
    pub fn of_every_node() -> Self {
        Self::default()
    }

    /// Takes one update in. What came of it is in the next delta.
    pub fn apply(&mut self, update: Update) {
        match update {
            Update::Pod(pod) => self.apply_pod(&pod),
            Update::Namespace(namespace) => self.apply_namespace(&namespace),
            Update::NetworkPolicy(policy) => self.apply_policy(&policy),
            Update::Node(node) => self.apply_node(&node),
            Update::Deleted(object) => self.delete(object),
            Update::ListBegins(kind) => {
                let known = self.known(kind);
                self.relists.begin(kind, known);
            }
            Update::ListEnds(kind) => {
                for name in self.relists.end(kind) {
                    self.delete(ObjectRef { kind, name });
                }
            }
        }
    }

    /// A pod of this node has been given these addresses, which the API server need not know yet. False, and nothing comes
    /// of it, while it is not known to be one; another of the same name does not count, if its UID is said.
    #[must_use]
    pub fn claim(&mut self, name: &ObjectName, uid: Option<&str>, addresses: &[IpAddr]) -> bool {
        let known = self.pods.get(&name.namespace).and_then(|pods| pods.get(&name.name));
        let Some(settled) = self.claims.claim(name, uid, addresses, known) else { return false };
        for (name, pod) in settled {
            self.set_pod(&name, pod);
        }
        true
    }

    /// Works out what changed since the last call.
    pub fn take_delta(&mut self) -> Delta {
        for address in std::mem::take(&mut self.touched_addresses) {
            self.settle_address(address);
        }
        for name in std::mem::take(&mut self.touched_policies) {
            for direction in Direction::BOTH {
                self.settle_policy((direction, name.clone()));
            }
        }
        let before = std::mem::take(&mut self.before);
        let sets = self.sets.take_news(&mut self.program.sets);
        let program = &self.program;
        Delta {
            sets,
            policies: changes(before.policies, |key| program.policies.get(key)),
            profiles: before
                .profiles
                .into_iter()
                .map(|(profile, was)| (program.profiles.contains_key(&profile), was, profile))
                .filter(|(is, was, _)| is != was)
                .map(|(is, _, profile)| (profile, is))
                .collect(),
            subjects: changes(before.subjects, |key| program.subjects.get(key)),
            pods: changes(before.pods, |address| program.pods.get(address)),
            ranges: before
                .ranges
                .filter(|before| *before != program.ranges)
                .map(|before| RangesChange { before, after: program.ranges.clone() }),
            problems: std::mem::take(&mut self.news),
        }
    }

    /// Everything that is to be in force. To be asked after [`Compiler::take_delta`]: what was taken in since is there in
    /// part only.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What is wrong with policies that are there now.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    /// How many policies there are.
    #[must_use]
    pub fn policies(&self) -> usize {
        self.policies.values().map(BTreeMap::len).sum()
    }

    /// How many pods there are that policies know.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.pods.values().map(HashMap::len).sum()
    }

    /// The addresses of a pod, in ascending order; none if it is not known, or has the node's.
    #[must_use]
    pub fn addresses_of(&self, name: &ObjectName) -> &[IpAddr] {
        self.pod(name).map_or(&[], |pod| &pod.addresses)
    }

    /// Whose address it is, on whichever node: the first by name, if several.
    #[must_use]
    pub fn pod_at(&self, address: IpAddr) -> Option<ObjectName> {
        let all = self.pods.iter().flat_map(|(namespace, pods)| pods.iter().map(move |pod| (namespace, pod)));
        let there = all.filter(|(_, (_, pod))| pod.addresses.contains(&address));
        there.map(|(namespace, (name, _))| ObjectName::new(namespace, name)).min()
    }

    /// All that it knows, to be asked about elsewhere.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let pods = self.pods.iter().flat_map(|(namespace, pods)| {
            pods.iter().map(move |(name, pod)| (ObjectName::new(namespace, name), pod.clone()))
        });
        let policies = self.policies.values().flat_map(BTreeMap::values);
        let mut snapshot = Snapshot {
            namespaces: self.namespaces.iter().map(|(name, labels)| (name.clone(), labels.clone())).collect(),
            pods: pods.collect(),
            policies: policies.cloned().collect(),
            ranges: self.program.ranges.clone(),
        };
        snapshot.pods.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        snapshot.policies.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        snapshot
    }

    /// One that knows what a snapshot holds, with every node's pods for its own.
    pub(crate) fn of_snapshot(snapshot: &Snapshot) -> Self {
        let mut compiler = Self::of_every_node();
        for (name, labels) in &snapshot.namespaces {
            compiler.set_namespace(name, Some(labels.clone()));
        }
        for (name, pod) in &snapshot.pods {
            compiler.set_pod(name, Some(Pod { is_local: true, ..pod.clone() }));
        }
        for policy in &snapshot.policies {
            compiler.set_policy(&policy.name, Some(policy.clone()));
        }
        compiler.set_ranges(snapshot.ranges.clone());
        drop(compiler.take_delta());
        compiler
    }

    fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(&name.namespace)?.get(&name.name)
    }

    fn apply_pod(&mut self, written: &WrittenPod) {
        let name = written.object_name();
        self.relists.saw(Kind::Pod, &name);
        let pod = self.claims.settle(&name, Pod::read(written, self.node_name.as_deref()));
        self.set_pod(&name, pod);
    }

    fn set_pod(&mut self, name: &ObjectName, pod: Option<Pod>) {
        if self.pod(name) == pod.as_ref() {
            return;
        }
        let pods = self.pods.entry(name.namespace.clone()).or_default();
        let before = pods.remove(&name.name);
        let placed = |pod| Placed {
            pod,
            namespace: &name.namespace,
            namespace_labels: self.namespaces.get(&name.namespace),
        };
        let (old, new) = (before.as_ref().map(placed), pod.as_ref().map(placed));
        self.sets.pod_changed(old, new, &mut self.program.sets);
        self.move_holder(name, before.as_ref(), pod.as_ref());
        let pods = self.pods.entry(name.namespace.clone()).or_default();
        pods.extend(pod.map(|pod| (name.name.clone(), pod)));
        if pods.is_empty() {
            self.pods.remove(&name.namespace);
        }
    }

    /// Takes the addresses of a local pod from it, and gives it others.
    fn move_holder(&mut self, name: &ObjectName, before: Option<&Pod>, after: Option<&Pod>) {
        let addresses = |pod: Option<&Pod>| {
            pod.filter(|pod| pod.is_local).map(|pod| pod.addresses.clone()).unwrap_or_default()
        };
        for address in addresses(before) {
            self.touched_addresses.insert(address);
            if let Some(holders) = self.holders.get_mut(&address) {
                holders.remove(name);
                if holders.is_empty() {
                    self.holders.remove(&address);
                }
            }
        }
        for address in addresses(after) {
            self.touched_addresses.insert(address);
            self.holders.entry(address).or_default().insert(name.clone());
        }
    }

    fn apply_namespace(&mut self, namespace: &Namespace) {
        let name = namespace.object_name();
        self.relists.saw(Kind::Namespace, &name);
        let mut labels = namespace.metadata.labels.clone();
        // As the API server does; files need not say it.
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.name.to_string());
        self.set_namespace(&name.name, Some(labels));
    }

    fn set_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>) {
        let before = self.namespaces.remove(name);
        if before != labels
            && let Some(pods) = self.pods.get(name)
        {
            for set in self.sets.by_namespace_labels() {
                let (SetKey::Pods(selector) | SetKey::Ports(selector, ..)) = &set else { continue };
                let includes = |labels: &Option<Labels>| selector.namespaces.include(name, labels.as_ref());
                if includes(&before) == includes(&labels) {
                    continue;
                }
                for pod in pods.values() {
                    let placed = |labels| Placed { pod, namespace: name, namespace_labels: labels };
                    let (old, new) = (placed(before.as_ref()), placed(labels.as_ref()));
                    self.sets.namespace_changed(&set, old, new, &mut self.program.sets);
                }
            }
        }
        self.namespaces.extend(labels.map(|labels| (name.clone(), labels)));
    }

    fn apply_policy(&mut self, written: &NetworkPolicy) {
        let name = written.object_name();
        self.relists.saw(Kind::NetworkPolicy, &name);
        let (policy, mistakes) = Policy::read(written);
        let object = ObjectRef { kind: Kind::NetworkPolicy, name: name.clone() };
        let problem = |mistake: crate::policy::Mistake| Problem {
            object: object.clone(),
            field: mistake.field,
            reason: format!("{}: the policy allows nothing until this is mended", mistake.reason),
        };
        let problems: Vec<Problem> = mistakes.into_iter().map(problem).collect();
        if self.problems.get(&name) != Some(&problems) {
            self.news.extend(problems.iter().cloned());
        }
        if problems.is_empty() {
            self.problems.remove(&name);
        } else {
            self.problems.insert(name.clone(), problems);
        }
        self.set_policy(&name, Some(policy));
    }

    fn set_policy(&mut self, name: &ObjectName, policy: Option<Policy>) {
        let policies = self.policies.entry(name.namespace.clone()).or_default();
        let before = policies.remove(&name.name);
        if before != policy {
            self.touched_policies.insert(name.clone());
            // Whom it isolates now and did not before, or the other way round, has another profile.
            let isolates = |policy: &Option<Policy>, pod: &Pod| {
                Direction::BOTH.map(|direction| {
                    policy.as_ref().is_some_and(|policy| policy.isolates(direction, &pod.labels))
                })
            };
            let all = self.pods.get(&name.namespace).into_iter().flat_map(HashMap::values);
            let moved = all.filter(|pod| pod.is_local && isolates(&before, pod) != isolates(&policy, pod));
            self.touched_addresses.extend(moved.flat_map(|pod| &pod.addresses));
        }
        policies.extend(policy.map(|policy| (name.name.clone(), policy)));
        if policies.is_empty() {
            self.policies.remove(&name.namespace);
        }
    }

    fn apply_node(&mut self, node: &Node) {
        let name = node.object_name();
        if let Some(own) = self.node_name.as_ref().filter(|_| self.is_own_node(&name)) {
            self.relists.saw(Kind::Node, &ObjectName::new("", own));
            let listed = node.spec.pod_cidrs.iter().chain([&node.spec.pod_cidr]);
            let mut ranges: Vec<IpNet> = listed.filter_map(|range| parse_range(range)).collect();
            ranges.sort_unstable();
            ranges.dedup();
            self.set_ranges(ranges);
        }
    }

    fn set_ranges(&mut self, ranges: Vec<IpNet>) {
        if self.program.ranges != ranges {
            let before = std::mem::replace(&mut self.program.ranges, ranges);
            self.before.ranges.get_or_insert(before);
        }
    }

    fn is_own_node(&self, name: &ObjectName) -> bool {
        self.node_name.as_ref().is_some_and(|own| *own == name.name.to_lowercase())
    }

    fn delete(&mut self, object: ObjectRef) {
        let mut name = object.name;
        if matches!(object.kind, Kind::Pod | Kind::NetworkPolicy) && name.namespace.is_empty() {
            name.namespace = DEFAULT_NAMESPACE.into();
        }
        match object.kind {
            Kind::Pod => {
                let pod = self.claims.settle(&name, None);
                self.set_pod(&name, pod);
            }
            Kind::Namespace => self.set_namespace(&name.name, None),
            Kind::NetworkPolicy => {
                self.problems.remove(&name);
                self.set_policy(&name, None);
            }
            Kind::Node if self.is_own_node(&name) => self.set_ranges(Vec::new()),
            Kind::Node | Kind::Service | Kind::EndpointSlice | Kind::ServiceCidr => {}
        }
    }

    fn known(&self, kind: Kind) -> HashSet<ObjectName> {
        fn of<T>(
            (namespace, names): (&Arc<str>, impl Iterator<Item = T>),
            name: fn(T) -> Arc<str>,
        ) -> Vec<ObjectName> {
            names.map(|item| ObjectName { namespace: namespace.clone(), name: name(item) }).collect()
        }
        match kind {
            Kind::Pod => {
                let addressed = self.pods.iter().flat_map(|(ns, pods)| of((ns, pods.keys()), Clone::clone));
                addressed.chain(self.claims.unaddressed().cloned()).collect()
            }
            Kind::NetworkPolicy => self
                .policies
                .iter()
                .flat_map(|(ns, policies)| of((ns, policies.keys()), Clone::clone))
                .collect(),
            Kind::Namespace => self.namespaces.keys().map(|name| ObjectName::new("", name)).collect(),
            Kind::Node => self.node_name.iter().map(|name| ObjectName::new("", name)).collect(),
            Kind::Service | Kind::EndpointSlice | Kind::ServiceCidr => HashSet::new(),
        }
    }

    /// Works out whose an address is and who isolates it.
    fn settle_address(&mut self, address: IpAddr) {
        let holder = self.holder(address);
        for direction in Direction::BOTH {
            let profile = holder.as_ref().and_then(|holder| self.profile(holder, direction));
            self.set_subject((direction, address), profile);
        }
        let before = match &holder {
            Some(holder) => self.program.pods.insert(address, holder.clone()),
            None => self.program.pods.remove(&address),
        };
        if before != holder {
            self.before.pods.entry(address).or_insert(before);
        }
    }

    /// Whose an address is: of several, the one that was created last, since the others are on their way out.
    fn holder(&self, address: IpAddr) -> Option<ObjectName> {
        let holders = self.holders.get(&address)?;
        let created = |name: &&ObjectName| self.pod(name).map(|pod| pod.created.clone());
        holders.iter().max_by_key(created).cloned()
    }

    /// The policies that isolate a pod in a direction, if any do.
    fn profile(&self, name: &ObjectName, direction: Direction) -> Option<Profile> {
        let pod = self.pod(name)?;
        let policies = self.policies.get(&name.namespace)?.values();
        let policies = policies.filter(|policy| policy.isolates(direction, &pod.labels));
        let policies: Vec<ObjectName> = policies.map(|policy| policy.name.clone()).collect();
        (!policies.is_empty()).then_some(Profile { direction, policies })
    }

    fn set_subject(&mut self, subject: (Direction, IpAddr), profile: Option<Profile>) {
        let before = self.program.subjects.get(&subject).cloned();
        if before.as_deref() == profile.as_ref() {
            return;
        }
        if let Some(before) = &before {
            self.program.subjects.remove(&subject);
            self.release_profile(before);
        }
        if let Some(profile) = profile {
            let known = self.program.profiles.get_key_value(&profile).map(|(known, _)| known.clone());
            let profile = known.unwrap_or_else(|| Arc::new(profile));
            self.use_profile(&profile);
            self.program.subjects.insert(subject, profile);
        }
        self.before.subjects.entry(subject).or_insert(before);
    }

    fn use_profile(&mut self, profile: &Arc<Profile>) {
        let uses = self.program.profiles.entry(profile.clone()).or_default();
        *uses += 1;
        if *uses > 1 {
            return;
        }
        self.before.profiles.entry(profile.clone()).or_insert(false);
        for policy in &profile.policies {
            *self.uses.entry((profile.direction, policy.clone())).or_default() += 1;
            self.touched_policies.insert(policy.clone());
        }
    }

    fn release_profile(&mut self, profile: &Arc<Profile>) {
        let Some(uses) = self.program.profiles.get_mut(profile) else { return };
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        self.program.profiles.remove(profile);
        self.before.profiles.entry(profile.clone()).or_insert(true);
        for policy in &profile.policies {
            let key = (profile.direction, policy.clone());
            if let Some(uses) = self.uses.get_mut(&key) {
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(&key);
                }
            }
            self.touched_policies.insert(policy.clone());
        }
    }

    /// Compiles a policy, if it isolates anybody here.
    fn settle_policy(&mut self, key: PolicyKey) {
        let (direction, name) = &key;
        let policy = self.policies.get(&name.namespace).and_then(|policies| policies.get(&name.name));
        let used = policy.filter(|_| self.uses.contains_key(&key));
        let after = used.map(|policy| clauses(policy, *direction));
        let before = self.program.policies.remove(&key);
        if before != after {
            for set in after.iter().flat_map(|clauses| clauses.iter()).flat_map(sets) {
                self.refer(set);
            }
            for set in before.iter().flat_map(|clauses| clauses.iter()).flat_map(sets) {
                self.sets.release(set);
            }
            self.before.policies.entry(key.clone()).or_insert(before);
        }
        self.program.policies.extend(after.map(|after| (key, after)));
    }

    fn refer(&mut self, set: &SetKey) {
        if !self.sets.refer(set, &mut self.program.sets) {
            return;
        }
        let (SetKey::Pods(selector) | SetKey::Ports(selector, ..)) = set else { return };
        let Some(members) = self.program.sets.get_mut(set) else { return };
        let all: Vec<&Arc<str>> = match &selector.namespaces {
            Namespaces::Named(name) => vec![name],
            Namespaces::All | Namespaces::Matching(_) => self.pods.keys().collect(),
        };
        for namespace in all {
            let labels = self.namespaces.get(namespace);
            if !selector.namespaces.include(namespace, labels) {
                continue;
            }
            let pods = self.pods.get(namespace).into_iter().flat_map(HashMap::values);
            let placed = pods.map(|pod| Placed { pod, namespace, namespace_labels: labels });
            Sets::fill(set, placed, members);
        }
    }
}

/// What is other than it was.
fn changes<'a, K: Ord, T: Clone + PartialEq + 'a>(
    before: BTreeMap<K, Option<T>>,
    now: impl Fn(&K) -> Option<&'a T>,
) -> BTreeMap<K, Change<T>> {
    let change = |(key, before): (K, Option<T>)| {
        let after = now(&key).cloned();
        (before != after).then_some((key, Change { before, after }))
    };
    before.into_iter().filter_map(change).collect()
}
