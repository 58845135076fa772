//! Verdicts with their reasons, over a whole cluster. Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use endpoint_cache::object::ObjectName;
use policy::{Compiler, Connection, Direction, Side, Snapshot};
use serde::{Deserialize, Serialize};

use crate::policy::PolicyView;

/// Why a side is judged so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Because {
    /// A policy's rule allows it.
    Rule,
    /// Policies isolate the pod, and none of their rules allows it.
    NoRule,
    /// No policy isolates the pod in this direction.
    NotIsolated,
    /// It is no pod that policies know.
    NoPod,
    /// The address is one for this node's pods, and no known pod has it.
    UnknownPod,
    /// A node and its own pods always reach each other.
    OwnNode,
    /// A pod always reaches itself.
    Itself,
}

/// The judgement of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SideReport {
    /// Which side: the source's egress or the destination's ingress.
    pub(crate) direction: Direction,
    /// Whether it lets the connection pass.
    pub(crate) allowed: bool,
    /// Why.
    pub(crate) because: Because,
    /// The policy whose rule allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// Which of its rules: `spec.ingress[1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// The policies that isolate the pod in this direction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) isolated_by: Vec<String>,
    /// Whether the node whose process was asked enforces it.
    pub(crate) enforced_here: bool,
    /// The same in a sentence.
    pub(crate) says: String,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndReport {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The pod that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<String>,
}

/// What policies say of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Judgement {
    /// Who connects.
    pub(crate) from: EndReport,
    /// Who is connected to.
    pub(crate) to: EndReport,
    /// At which port.
    pub(crate) port: u16,
    /// `tcp`, `udp` or `sctp`
    pub(crate) protocol: String,
    /// Whether both sides let it pass.
    pub(crate) allowed: bool,
    /// The source's side, then the destination's.
    pub(crate) sides: [SideReport; 2],
    /// What there is to know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

impl Judgement {
    /// The first side that denies it.
    pub(crate) fn denied_by(&self) -> Option<&SideReport> {
        self.sides.iter().find(|side| !side.allowed)
    }

    /// Whether the node whose process was asked is to deny it.
    pub(crate) fn is_denied_here(&self) -> bool {
        self.sides.iter().any(|side| !side.allowed && side.enforced_here)
    }
}

/// A cluster's pods and what policies say of them.
pub(crate) struct Cluster {
    compiler: Compiler,
    /// The pods of the node whose process told it.
    local: HashSet<ObjectName>,
    node: Option<String>,
    audit: bool,
    denies_unknown: bool,
    /// The addresses of this node's own.
    is_node: Box<dyn Fn(IpAddr) -> bool>,
}

impl Cluster {
    /// As it is told, on a node with these addresses.
    pub(crate) fn new(view: &PolicyView, is_node: impl Fn(IpAddr) -> bool + 'static) -> Self {
        let local = view.snapshot.pods().filter(|pod| pod.is_local).map(|pod| pod.name.clone());
        Self {
            compiler: view.snapshot.of_every_node(),
            local: local.filter(|_| view.node.is_some()).collect(),
            node: view.node.clone(),
            audit: view.audit,
            denies_unknown: view.denies_unknown,
            is_node: Box::new(is_node),
        }
    }

    /// The same with another state of policies.
    pub(super) fn with(self, snapshot: &Snapshot) -> Self {
        Self { compiler: snapshot.of_every_node(), ..self }
    }

    /// Whether nothing is denied.
    pub(crate) fn is_audited(&self) -> bool {
        self.audit
    }

    /// What policies say of a connection between those whom it really connects.
    pub(crate) fn judge(&self, connection: &Connection) -> Judgement {
        let sides = [self.side(Direction::Egress, connection), self.side(Direction::Ingress, connection)];
        let end = |address| EndReport { address, pod: self.pod(address).map(ToString::to_string) };
        Judgement {
            from: end(connection.source),
            to: end(connection.destination),
            port: connection.port,
            protocol: connection.protocol.to_string(),
            allowed: sides.iter().all(|side| side.allowed),
            notes: self.notes(connection, &sides),
            sides,
        }
    }

    /// Whether a connection is allowed, without the reasons.
    pub(super) fn allows(&self, connection: &Connection) -> bool {
        Direction::BOTH.into_iter().all(|direction| {
            self.always(direction, connection).is_some() || self.passes(&self.verdict(direction, connection))
        })
    }

    /// The policies that isolate an address in a direction.
    pub(super) fn isolating(&self, direction: Direction, address: IpAddr) -> &[ObjectName] {
        let profile = self.compiler.program().subjects.get(&(direction, address));
        profile.map_or(&[], |profile| &profile.policies)
    }

    fn pod(&self, address: IpAddr) -> Option<&ObjectName> {
        self.compiler.program().pods.get(&address)
    }

    fn verdict(&self, direction: Direction, connection: &Connection) -> Side {
        self.compiler.program().side(direction, connection)
    }

    fn passes(&self, side: &Side) -> bool {
        side.allows() || (*side == Side::Unknown && !self.denies_unknown)
    }

    /// Why no policy is asked.
    fn always(&self, direction: Direction, connection: &Connection) -> Option<(Because, String)> {
        let (own, other) = ends(direction, connection);
        if own == other {
            return Some((Because::Itself, "a pod always reaches itself".to_owned()));
        }
        let is_of_this_node = self.pod(own).is_some_and(|pod| self.local.contains(pod));
        (is_of_this_node && (self.is_node)(other)).then(|| {
            (Because::OwnNode, format!("{other} is the pod's own node: these always reach each other"))
        })
    }

    fn side(&self, direction: Direction, connection: &Connection) -> SideReport {
        let (own, _) = ends(direction, connection);
        let isolated_by: Vec<String> =
            self.isolating(direction, own).iter().map(ToString::to_string).collect();
        let enforced_here = self.pod(own).is_some_and(|pod| self.local.contains(pod));
        let report = |allowed, because, says| SideReport {
            direction,
            allowed,
            because,
            policy: None,
            rule: None,
            isolated_by: isolated_by.clone(),
            enforced_here,
            says,
        };
        if let Some((because, says)) = self.always(direction, connection) {
            return report(true, because, says);
        }
        let verdict = self.verdict(direction, connection);
        let allowed = self.passes(&verdict);
        let direction = direction.as_str();
        match (verdict, self.pod(own)) {
            (Side::Allowed { policy, rule }, _) => {
                let rule = format!("spec.{direction}[{rule}]");
                let says = format!("{rule} of {policy} allows it");
                SideReport {
                    policy: Some(policy.to_string()),
                    rule: Some(rule),
                    ..report(true, Because::Rule, says)
                }
            }
            (Side::Denied(_), _) => report(false, Because::NoRule, none_allows(&isolated_by)),
            (Side::Unknown, _) => {
                let says = format!("{own} is an address for this node's pods, and no known pod has it");
                report(allowed, Because::UnknownPod, says)
            }
            (Side::Free, Some(pod)) => {
                let says = format!("no policy isolates {pod} for {direction}");
                report(true, Because::NotIsolated, says)
            }
            (Side::Free, None) => {
                report(true, Because::NoPod, format!("{own} is no pod's address that policies know"))
            }
        }
    }

    fn notes(&self, connection: &Connection, sides: &[SideReport]) -> Vec<String> {
        let mut notes = Vec::new();
        for side in sides {
            let (own, _) = ends(side.direction, connection);
            if let (Some(node), Some(pod)) = (&self.node, self.pod(own))
                && !self.local.contains(pod)
            {
                let direction = side.direction.as_str();
                notes.push(format!("{direction} of {pod} is for its own node to enforce, not for {node}"));
            }
        }
        if self.audit && sides.iter().any(|side| !side.allowed) {
            notes.push("policies are audited here: it would be denied, and passes".to_owned());
        }
        notes
    }
}

fn none_allows(policies: &[String]) -> String {
    match policies {
        [only] => format!("{only} isolates it, and none of its rules allows it"),
        several => format!("none of the policies that isolate it allows it: {}", several.join(", ")),
    }
}

/// Whose side it is, and who is at the other end.
fn ends(direction: Direction, connection: &Connection) -> (IpAddr, IpAddr) {
    match direction {
        Direction::Ingress => (connection.destination, connection.source),
        Direction::Egress => (connection.source, connection.destination),
    }
}
