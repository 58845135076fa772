//! Addresses of this node's pods that the node knows before the API server does: a pod has its address, and wants to use it,
//! before anybody has been told. Whoever gave it claims it for the pod.
//!
//! A claim holds until the API server says something new about the pod's addresses, or another pod claims them. It outlasts
//! the pod, for one of the same name may follow, and bears on nothing without one.

use std::collections::HashMap;
use std::net::IpAddr;

use endpoint_cache::object::ObjectName;

use crate::pod::Pod;

/// Claims that are kept; a node has some hundred pods.
const MOST: usize = 8192;

/// What is claimed, and the pods of this node that have no address but a claimed one.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Pods of which the API server says no address.
    unaddressed: HashMap<ObjectName, Pod>,
    claims: HashMap<ObjectName, Claim>,
}

#[derive(Debug, PartialEq, Eq)]
struct Claim {
    /// In ascending order.
    addresses: Vec<IpAddr>,
    /// What the API server said when it was made.
    instead_of: Vec<IpAddr>,
}

impl Claims {
    /// The pod as it is: with what was claimed for it, if the API server knows nothing newer.
    pub(crate) fn settle(&mut self, name: &ObjectName, written: Option<Pod>) -> Option<Pod> {
        self.unaddressed.remove(name);
        let pod = written?;
        if !pod.is_local {
            return addressed(pod);
        }
        let said = &pod.addresses;
        let claim = self.claims.get(name).filter(|claim| claim.instead_of == *said);
        let claimed = claim.map(|claim| claim.addresses.clone());
        if claimed.is_none() && !said.is_empty() {
            self.claims.remove(name);
        }
        if said.is_empty() {
            self.unaddressed.insert(name.clone(), pod.clone());
        }
        match claimed.or_else(|| self.claims.get(name).map(|claim| claim.addresses.clone())) {
            Some(addresses) => Some(Pod { addresses, ..pod }),
            None => addressed(pod),
        }
    }

    /// The pods of this node that the API server says no address of.
    pub(crate) fn unaddressed(&self) -> impl Iterator<Item = &ObjectName> {
        self.unaddressed.keys()
    }

    /// These addresses are this pod's, which is known to have others or none. Returns how it is now, and how the pods are
    /// that had claimed some of them; `None` if it is no pod of this node, or another of the name, or too much has been
    /// claimed.
    pub(crate) fn claim(
        &mut self,
        name: &ObjectName,
        uid: Option<&str>,
        addresses: &[IpAddr],
        known: Option<&Pod>,
    ) -> Option<Vec<(ObjectName, Option<Pod>)>> {
        let pod = self.unaddressed.get(name).or(known.filter(|pod| pod.is_local))?;
        let pod = Some(pod).filter(|pod| pod.may_be(uid))?.clone();
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        let mut settled = self.take_from_others(name, &addresses);
        let instead_of = match (self.unaddressed.contains_key(name), self.claims.remove(name)) {
            (true, _) => Vec::new(),
            (false, Some(before)) => before.instead_of,
            (false, None) => pod.addresses.clone(),
        };
        if instead_of != addresses {
            if self.claims.len() >= MOST {
                return None;
            }
            self.claims.insert(name.clone(), Claim { addresses: addresses.clone(), instead_of });
        }
        settled.push((name.clone(), Some(Pod { addresses, ..pod })));
        Some(settled)
    }

    /// An address that was given away is nobody else's. Only claims are taken back: what the API server says of others is
    /// for it to change.
    fn take_from_others(&mut self, name: &ObjectName, taken: &[IpAddr]) -> Vec<(ObjectName, Option<Pod>)> {
        let mut settled = Vec::new();
        self.claims.retain(|other, claim| {
            let before = claim.addresses.len();
            if other != name {
                claim.addresses.retain(|address| !taken.contains(address));
            }
            if claim.addresses.len() < before
                && let Some(pod) = self.unaddressed.get(other)
            {
                let pod = Pod { addresses: claim.addresses.clone(), ..pod.clone() };
                settled.push((other.clone(), addressed(pod)));
            }
            !claim.addresses.is_empty()
        });
        settled
    }
}

fn addressed(pod: Pod) -> Option<Pod> {
    Some(pod).filter(|pod| !pod.addresses.is_empty())
}

#[cfg(test)]
mod tests {
    use endpoint_cache::object::{Kind, ObjectRef};

    use crate::{Compiler, Update};

    use super::*;

    fn pod(name: &str, node: &str, addresses: &[&str]) -> Update {
        let ips: Vec<_> = addresses.iter().map(|ip| serde_json::json!({"ip": ip})).collect();
        let text = serde_json::json!({
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"nodeName": node},
            "status": {"phase": "Pending", "podIPs": ips},
        });
        Update::Pod(serde_json::from_value(text).unwrap())
    }

    fn name(name: &str) -> ObjectName {
        ObjectName::new("shop", name)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Which address is whose.
    fn holders(compiler: &mut Compiler) -> Vec<(String, String)> {
        compiler.take_delta();
        let pods = compiler.program().pods.iter();
        pods.map(|(address, pod)| (address.to_string(), pod.name.to_string())).collect()
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn an_address_is_a_pods_before_the_api_server_says_it() {
        let mut compiler = Compiler::new("node");
        assert!(!compiler.claim(&name("a"), None, &[address("10.0.0.1")]), "nobody knows the pod");
        compiler.apply(pod("a", "node", &[]));
        assert_eq!((holders(&mut compiler), compiler.pods()), (vec![], 0));
        assert!(compiler.claim(&name("a"), None, &[address("10.0.0.1"), address("fd00::1")]));
        let claimed = [pair("10.0.0.1", "a"), pair("fd00::1", "a")];
        assert_eq!(holders(&mut compiler), claimed);
        // Something else of the pod changes.
        compiler.apply(pod("a", "node", &[]));
        assert_eq!(holders(&mut compiler), claimed);
        compiler.apply(pod("a", "node", &["10.0.0.1", "fd00::1"]));
        assert_eq!(holders(&mut compiler), claimed);
        // From there on it is the API server's word.
        compiler.apply(pod("a", "node", &["10.0.0.2"]));
        assert_eq!(holders(&mut compiler), [pair("10.0.0.2", "a")]);
        compiler.apply(pod("a", "node", &[]));
        assert_eq!(holders(&mut compiler), []);
    }

    #[test]
    fn a_pod_that_gets_another_address_has_it_until_the_api_server_says_something_new() {
        let mut compiler = Compiler::new("node");
        compiler.apply(pod("a", "node", &["10.0.0.1"]));
        assert!(compiler.claim(&name("a"), None, &[address("10.0.0.2")]));
        assert_eq!(holders(&mut compiler), [pair("10.0.0.2", "a")]);
        compiler.apply(pod("a", "node", &["10.0.0.1"]));
        assert_eq!(holders(&mut compiler), [pair("10.0.0.2", "a")], "that was known before");
        assert!(compiler.claim(&name("a"), None, &[address("10.0.0.3")]));
        compiler.apply(pod("a", "node", &["10.0.0.3"]));
        compiler.apply(pod("a", "node", &["10.0.0.1"]));
        assert_eq!(holders(&mut compiler), [pair("10.0.0.1", "a")], "the claim is over");
    }

    #[test]
    fn an_address_that_is_given_away_is_nobody_elses() {
        let mut compiler = Compiler::new("node");
        compiler.apply(pod("a", "node", &[]));
        compiler.apply(pod("b", "node", &[]));
        assert!(compiler.claim(&name("a"), None, &[address("10.0.0.1"), address("fd00::1")]));
        assert!(compiler.claim(&name("b"), None, &[address("10.0.0.1")]));
        assert_eq!(holders(&mut compiler), [pair("10.0.0.1", "b"), pair("fd00::1", "a")]);
        assert!(compiler.claim(&name("b"), None, &[address("fd00::1")]));
        assert_eq!(holders(&mut compiler), [pair("fd00::1", "b")]);
        assert!(compiler.claim(&name("a"), None, &[address("10.0.0.1")]));
        assert_eq!(holders(&mut compiler), [pair("10.0.0.1", "a"), pair("fd00::1", "b")]);
    }

    #[test]
    fn only_this_nodes_pods_that_are_there_have_claims() {
        let mut compiler = Compiler::new("node");
        compiler.apply(pod("far", "other", &[]));
        compiler.apply(pod("far-addressed", "other", &["10.0.1.1"]));
        assert!(!compiler.claim(&name("far"), None, &[address("10.0.0.1")]));
        assert!(!compiler.claim(&name("far-addressed"), None, &[address("10.0.0.1")]));
        compiler.apply(pod("a", "node", &[]));
        assert!(compiler.claim(&name("a"), None, &[address("10.0.0.1")]));
        compiler.apply(Update::Deleted(ObjectRef { kind: Kind::Pod, name: name("a") }));
        assert_eq!(holders(&mut compiler), []);
        assert!(!compiler.claim(&name("a"), None, &[address("10.0.0.1")]));
        // The next one of its name was given its address before the other was seen to go.
        compiler.apply(pod("a", "node", &[]));
        assert_eq!(holders(&mut compiler), [pair("10.0.0.1", "a")]);
    }

    #[test]
    fn another_pod_of_the_name_has_no_claim() {
        let with_uid = |uid: &str| {
            let Update::Pod(mut pod) = pod("a", "node", &[]) else { unreachable!() };
            pod.metadata.uid = Some(uid.to_owned());
            pod
        };
        let mut compiler = Compiler::new("node");
        compiler.apply(Update::Pod(with_uid("first")));
        assert!(!compiler.claim(&name("a"), Some("second"), &[address("10.0.0.1")]));
        compiler.apply(Update::Pod(with_uid("second")));
        assert!(compiler.claim(&name("a"), Some("second"), &[address("10.0.0.1")]));
        // What the kubelet has from a file it calls otherwise than the API server does.
        let mut shown = with_uid("shown");
        shown.metadata.annotations.insert("kubernetes.io/config.hash".to_owned(), "of-file".to_owned());
        compiler.apply(Update::Pod(shown));
        assert!(compiler.claim(&name("a"), Some("of-file"), &[address("10.0.0.2")]));
        assert!(!compiler.claim(&name("a"), Some("second"), &[address("10.0.0.3")]));
    }

    #[test]
    fn a_list_without_a_pod_that_has_no_address_ends_it() {
        let mut compiler = Compiler::new("node");
        compiler.apply(pod("a", "node", &[]));
        compiler.apply(Update::ListBegins(Kind::Pod));
        compiler.apply(Update::ListEnds(Kind::Pod));
        assert!(!compiler.claim(&name("a"), None, &[address("10.0.0.1")]));
    }
}
