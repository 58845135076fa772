//! Who holds a frontend that several service ports claim.
//!
//! The oldest claimant that is *present* holds a frontend, and a service port is present where it holds its ClusterIP.
//! Age alone orders claimants, so the outcome does not depend on the order of arrival; and since a claimant can only
//! be affected by older ones, settling them from the oldest to the youngest visits each at most once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::object::ObjectName;
use crate::{Family, Protocol, ServicePortName};

/// What traffic is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Frontend {
    /// An address: ClusterIP, external IP or load-balancer IP.
    Address { address: IpAddr, protocol: Protocol, port: u16 },
    /// A port of every node.
    NodePort { family: Family, protocol: Protocol, port: u16 },
}

impl Frontend {
    fn family(&self) -> Family {
        match *self {
            Self::Address { address, .. } => Family::of(address),
            Self::NodePort { family, .. } => family,
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, protocol, port } => write!(f, "{address} port {port}/{protocol}"),
            Self::NodePort { family, protocol, port } => write!(f, "{family} node port {port}/{protocol}"),
        }
    }
}

/// A service port that claims frontends. Orders by age, then by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Claimant {
    /// When its Service was created; 0 if that is not known.
    pub(crate) created: u64,
    pub(crate) name: Arc<ServicePortName>,
}

impl Claimant {
    /// The Service whose port it is.
    pub(crate) fn service(&self) -> ObjectName {
        ObjectName { namespace: Arc::clone(&self.name.namespace), name: Arc::clone(&self.name.name) }
    }
}

/// All claims.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Frontends with one claimant: nearly all.
    sole: HashMap<Frontend, Claimant>,
    /// Frontends with several.
    contended: HashMap<Frontend, BTreeSet<Claimant>>,
    /// Those who did not get their ClusterIP.
    absent: HashSet<(Family, Claimant)>,
    /// Frontends that are or were contended, and whose claimants changed since they were last settled.
    touched: HashSet<Frontend>,
}

impl Claims {
    /// Claims a frontend.
    pub(crate) fn add(&mut self, frontend: Frontend, claimant: Claimant) {
        if let Some(claimants) = self.contended.get_mut(&frontend) {
            claimants.insert(claimant);
        } else {
            match self.sole.entry(frontend) {
                Entry::Vacant(free) => {
                    free.insert(claimant);
                    return;
                }
                Entry::Occupied(taken) if *taken.get() == claimant => return,
                Entry::Occupied(taken) => {
                    self.contended.insert(frontend, [taken.remove(), claimant].into());
                }
            }
        }
        self.touched.insert(frontend);
    }

    /// Takes back everything that a claimant claims in a family.
    pub(crate) fn retract(&mut self, family: Family, frontends: Vec<Frontend>, claimant: Claimant) {
        for frontend in frontends {
            self.remove(frontend, &claimant);
        }
        self.absent.remove(&(family, claimant));
    }

    fn remove(&mut self, frontend: Frontend, claimant: &Claimant) {
        let Some(claimants) = self.contended.get_mut(&frontend) else {
            if self.sole.get(&frontend) == Some(claimant) {
                self.sole.remove(&frontend);
            }
            return;
        };
        if claimants.remove(claimant) {
            self.touched.insert(frontend);
        }
        if claimants.len() == 1 {
            let last = self.contended.remove(&frontend).and_then(|mut claimants| claimants.pop_first());
            self.sole.extend(last.map(|last| (frontend, last)));
        }
    }

    /// Who holds a frontend.
    pub(crate) fn holder(&self, frontend: &Frontend) -> Option<&Claimant> {
        let present = |claimant: &&Claimant| !self.absent.contains(&(frontend.family(), (*claimant).clone()));
        match self.contended.get(frontend) {
            Some(claimants) => claimants.iter().find(present),
            None => self.sole.get(frontend),
        }
    }

    /// Decides who is present, after claims changed. `frontends` lists what a claimant claims in a family, its
    /// ClusterIP first. Returns whose frontends may have changed hands.
    pub(crate) fn settle(
        &mut self,
        frontends: impl Fn(Family, &Claimant) -> Vec<Frontend>,
    ) -> BTreeSet<(Family, Claimant)> {
        let mut waiting = BTreeSet::new();
        for frontend in std::mem::take(&mut self.touched) {
            self.queue(&frontend, None, &mut waiting);
        }
        let mut settled = BTreeSet::new();
        while let Some((family, claimant)) = waiting.pop_first() {
            let claimed = frontends(family, &claimant);
            let key = (family, claimant);
            let was_absent = self.absent.remove(&key);
            let absent = claimed.first().and_then(|cluster| self.holder(cluster)) != Some(&key.1);
            if absent {
                self.absent.insert(key.clone());
            }
            if absent != was_absent {
                for frontend in &claimed {
                    self.queue(frontend, Some(&key.1), &mut waiting);
                }
            }
            settled.insert(key);
        }
        settled
    }

    /// Queues the claimants of a frontend, or those younger than one of them.
    fn queue(
        &self,
        frontend: &Frontend,
        than: Option<&Claimant>,
        waiting: &mut BTreeSet<(Family, Claimant)>,
    ) {
        let contended = self.contended.get(frontend).into_iter().flatten();
        let claimants = self.sole.get(frontend).into_iter().chain(contended);
        let younger = claimants.filter(|claimant| than.is_none_or(|than| *claimant > than));
        waiting.extend(younger.map(|claimant| (frontend.family(), claimant.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 80;

    fn claimant(created: u64) -> Claimant {
        let name = ServicePortName {
            namespace: "ns".into(),
            name: created.to_string().into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        Claimant { created, name: Arc::new(name) }
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let frontend = Frontend::Address { address, protocol: Protocol::Tcp, port: PORT };
        let all = [1, 2, 3].map(claimant);
        let mut claims = Claims::default();
        all.iter().for_each(|one| claims.add(frontend, one.clone()));
        assert_eq!(claims.settle(|_, _| vec![frontend]).len(), 3);
        assert_eq!(claims.absent.len(), 2);
        for one in all {
            claims.retract(Family::V4, vec![frontend], one);
        }
        claims.settle(|_, _| vec![frontend]);
        assert!(claims.sole.is_empty() && claims.contended.is_empty());
        assert!(claims.absent.is_empty() && claims.touched.is_empty());
    }
}
