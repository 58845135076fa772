//! The objects of a cluster by name, as updates leave them: what a source would know.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use endpoint_cache::object::{Kind, Node, ObjectName, ObjectRef};
use policy::Update;
use policy::object::{Namespace, NetworkPolicy, Pod};

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) own_node: String,
    objects: BTreeMap<(Kind, ObjectName), Update>,
    lists: HashMap<Kind, BTreeSet<ObjectName>>,
}

impl World {
    pub(crate) fn new(own_node: &str) -> Self {
        Self { own_node: own_node.to_owned(), ..Self::default() }
    }

    pub(crate) fn apply(&mut self, update: &Update) {
        match update {
            Update::Deleted(ObjectRef { kind, name }) => drop(self.objects.remove(&(*kind, name.clone()))),
            Update::ListBegins(kind) => {
                let known = self.objects.keys().filter(|(of, _)| of == kind).map(|(_, name)| name.clone());
                self.lists.insert(*kind, known.collect());
            }
            Update::ListEnds(kind) => {
                for name in self.lists.remove(kind).unwrap_or_default() {
                    self.objects.remove(&(*kind, name));
                }
            }
            written => {
                let (kind, name) = name_of(written);
                if let Some(missing) = self.lists.get_mut(&kind) {
                    missing.remove(&name);
                }
                self.objects.insert((kind, name), written.clone());
            }
        }
    }

    /// Each object as an update.
    pub(crate) fn objects(&self) -> impl DoubleEndedIterator<Item = &Update> {
        self.objects.values()
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> Vec<Update> {
        self.objects.iter().filter(|((of, _), _)| *of == kind).map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.objects().filter_map(|object| if let Update::Pod(pod) = object { Some(pod) } else { None })
    }

    pub(crate) fn policies(&self) -> impl Iterator<Item = &NetworkPolicy> {
        self.objects().filter_map(|object| match object {
            Update::NetworkPolicy(policy) => Some(policy),
            _ => None,
        })
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&Namespace> {
        match self.objects.get(&(Kind::Namespace, ObjectName::new("", name))) {
            Some(Update::Namespace(namespace)) => Some(namespace),
            _ => None,
        }
    }

    /// The ranges of the own node's pods, as written.
    pub(crate) fn own_ranges(&self) -> impl Iterator<Item = &str> {
        let own = self.objects.get(&(Kind::Node, ObjectName::new("", &self.own_node)));
        let ranges = own.into_iter().flat_map(|object| match object {
            Update::Node(node) => node.spec.pod_cidrs.as_slice(),
            _ => &[],
        });
        ranges.map(String::as_str)
    }
}

fn name_of(written: &Update) -> (Kind, ObjectName) {
    match written {
        Update::Pod(pod) => (Kind::Pod, pod.object_name()),
        Update::Namespace(namespace) => (Kind::Namespace, namespace.object_name()),
        Update::NetworkPolicy(policy) => (Kind::NetworkPolicy, policy.object_name()),
        Update::Node(node) => (Kind::Node, Node::object_name(node)),
        Update::Deleted(_) | Update::ListBegins(_) | Update::ListEnds(_) => unreachable!("no object"),
    }
}
