//! Which connections, and which pairs of pods, other policies would treat otherwise. Pure.

use std::collections::{BTreeSet, HashSet};

use endpoint_cache::Protocol;
use endpoint_cache::object::ObjectName;
use policy::{Connection, Direction, PodFacts, Snapshot};
use serde::{Deserialize, Serialize};

use super::judge::{Cluster, EndReport};

/// Verdicts that are worked out for pairs of pods, before and after; with more, the rest is not looked at.
const MOST_JUDGED: usize = 1_000_000;

/// A connection, or connections between two pods, that other policies would treat otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Effect {
    /// Whether it would be allowed then; it is not now. Or the other way round.
    pub(super) allowed: bool,
    /// Who connects.
    pub(super) from: EndReport,
    /// Who is connected to.
    pub(super) to: EndReport,
    /// At which ports: `5432/tcp`, `8080/tcp (http)`, `any other`.
    pub(super) ports: Vec<String>,
    /// The changed policies that it is because of.
    pub(super) policies: Vec<String>,
    /// Why.
    pub(super) says: String,
}

/// The policies before and after.
pub(super) struct Change<'a> {
    pub(super) before: &'a Cluster,
    pub(super) after: &'a Cluster,
    /// The policies that are other than they were.
    pub(super) changed: &'a BTreeSet<ObjectName>,
}

impl Change<'_> {
    /// What becomes of a connection, if it is something else.
    pub(super) fn effect(&self, connection: &Connection, port: String) -> Option<Effect> {
        if self.before.allows(connection) == self.after.allows(connection) {
            return None;
        }
        let (before, after) = (self.before.judge(connection), self.after.judge(connection));
        let decisive = if after.allowed { &before } else { &after };
        let at = decisive.sides.iter().position(|side| !side.allowed)?;
        let (direction, says) = (after.sides[at].direction, &after.sides[at].says);
        let own = match direction {
            Direction::Egress => connection.source,
            Direction::Ingress => connection.destination,
        };
        let isolating = [self.before, self.after].map(|cluster| cluster.isolating(direction, own));
        let isolating: BTreeSet<&ObjectName> = isolating.into_iter().flatten().collect();
        let changed = isolating.into_iter().filter(|name| self.changed.contains(name));
        Some(Effect {
            allowed: after.allowed,
            policies: changed.map(ToString::to_string).collect(),
            says: format!("{}: {says}", direction.as_str()),
            from: after.from,
            to: after.to,
            ports: vec![port],
        })
    }

    /// What becomes of connections between pods; the second is whether all of them were looked at.
    pub(super) fn pairs(&self, snapshot: &Snapshot) -> (Vec<Effect>, bool) {
        let pods: Vec<PodFacts<'_>> = snapshot.pods().collect();
        let sources = self.concerned(&pods, Direction::Egress);
        let destinations = self.concerned(&pods, Direction::Ingress);
        let (mut effects, mut judged) = (Vec::new(), 0);
        for (at, from) in pods.iter().enumerate() {
            for (to_at, to) in pods.iter().enumerate() {
                if at == to_at || !(sources.contains(&at) || destinations.contains(&to_at)) {
                    continue;
                }
                if judged > MOST_JUDGED {
                    return (effects, false);
                }
                judged += self.pair(from, to, &mut effects);
            }
        }
        (effects, true)
    }

    /// Those of the pods that a changed policy isolates in a direction, before or after.
    fn concerned(&self, pods: &[PodFacts<'_>], direction: Direction) -> HashSet<usize> {
        let isolates = |cluster: &Cluster, pod: &PodFacts<'_>| {
            let isolating = |address| cluster.isolating(direction, address);
            pod.addresses
                .iter()
                .flat_map(|address| isolating(*address))
                .any(|name| self.changed.contains(name))
        };
        let all = pods.iter().enumerate();
        all.filter(|(_, pod)| isolates(self.before, pod) || isolates(self.after, pod))
            .map(|(at, _)| at)
            .collect()
    }

    /// Adds what becomes of connections from one pod to another; returns how many were judged.
    fn pair(&self, from: &PodFacts<'_>, to: &PodFacts<'_>, effects: &mut Vec<Effect>) -> usize {
        let (first, mut judged) = (effects.len(), 0);
        for (protocol, port, name) in ports(to) {
            for source in from.addresses {
                for destination in to.addresses.iter().filter(|other| other.is_ipv4() == source.is_ipv4()) {
                    judged += 1;
                    let (source, destination) = (*source, *destination);
                    let connection = Connection { source, destination, protocol, port };
                    let Some(effect) = self.effect(&connection, name.clone()) else { continue };
                    let alike = effects[first..].iter_mut().find(|other| {
                        (other.allowed, &other.policies, &other.says)
                            == (effect.allowed, &effect.policies, &effect.says)
                    });
                    match alike {
                        Some(other) if other.ports.contains(&name) => {}
                        Some(other) => other.ports.push(name.clone()),
                        None => effects.push(effect),
                    }
                }
            }
        }
        judged
    }
}

/// The ports that a pod names, and one that it does not.
fn ports(pod: &PodFacts<'_>) -> Vec<(Protocol, u16, String)> {
    let named =
        pod.ports().map(|(name, protocol, port)| (protocol, port, format!("{port}/{protocol} ({name})")));
    let mut ports: Vec<_> = named.collect();
    let is_free = |port: &u16| ports.iter().all(|(_, named, _)| named != port);
    let other = (1..=u16::MAX).rev().find(is_free).unwrap_or(1);
    ports.push((Protocol::Tcp, other, format!("others, such as {other}/tcp")));
    ports
}
