//! Telling what a full sync would change, in place of changing it, in the words of `ipvsadm` and `ipset`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use endpoint_cache::{Desired, Family};
use kernel::ipset::Entry;
use kernel::ipvs::{Frontend, Operation, Server};

use super::edge::{DEVICE, Node};
use super::installed::{Found, Installed};
use super::program::{Plan, Program};
use super::service;
use super::sets::SetName;
use super::surroundings::Surroundings;
use super::{Ipvs, rules, with_options};
use crate::difference::name;
use crate::{Comparison, Error};

impl Ipvs {
    pub(super) fn compare_all(&mut self, desired: &Desired) -> Result<Comparison, Error> {
        let mut comparison = Comparison::default();
        let (device, node) = self.edge.look_at_node()?;
        if device.is_none() {
            comparison.missing(None, || format!("device {DEVICE}"));
        }
        for at in 0..self.families.len() {
            self.compare_family(at, desired, &node, &mut comparison)?;
        }
        Ok(comparison)
    }

    fn compare_family(
        &mut self,
        at: usize,
        desired: &Desired,
        node: &Node,
        comparison: &mut Comparison,
    ) -> Result<(), Error> {
        let programmed = &self.families[at];
        let family = programmed.family;
        let sets = self.edge.fit_sets(family)?;
        for set in SetName::ALL.into_iter().filter(|set| !sets.contains(set)) {
            comparison.missing(None, || format!("set {}", set.name(family)));
        }
        let excluded = &self.options.exclude_cidrs;
        let mut installed = self.edge.read_family(family, node, excluded, &sets)?;
        let (had, draining) = programmed.program.as_ref().map(Program::parts).unwrap_or_default();
        installed.local.extend(had);
        let surroundings = Surroundings::new(family, &self.settings, desired, &node.others());
        let scheduler = with_options(self.options.scheduler);
        let services = programmed.services(desired);
        let known = surroundings.clone();
        let (_, plan) = Program::resync(known, scheduler, services, &installed, draining, Instant::now());
        if plan.operations() > 0 {
            let owners = Owners::of(&surroundings, programmed.services(desired));
            Telling { family, installed: &installed, owners, comparison }.plan(&plan);
        }
        rules::layout(&surroundings.common).compare(&programmed.programs, comparison)
    }
}

/// Whose things are.
#[derive(Default)]
struct Owners {
    servers: HashMap<Frontend, String>,
    entries: HashMap<(SetName, Entry), String>,
    addresses: HashMap<IpAddr, String>,
}

impl Owners {
    fn of<'a>(
        surroundings: &Surroundings,
        services: impl Iterator<Item = &'a endpoint_cache::ServicePort>,
    ) -> Self {
        let mut owners = Self::default();
        for service in services {
            let (contribution, name) = (service::of(service, surroundings), name(service));
            let named = || name.clone();
            owners.servers.extend(contribution.servers.into_keys().map(|of| (of, named())));
            owners.entries.extend(contribution.entries.into_iter().map(|entry| (entry, named())));
            owners.addresses.extend(contribution.addresses.into_iter().map(|address| (address, named())));
        }
        owners
    }

    fn of_entry(&self, set: SetName, entry: Entry) -> Option<&str> {
        let of_address = match entry {
            Entry::Ip(address) => self.addresses.get(&address),
            _ => None,
        };
        self.entries.get(&(set, entry)).or(of_address).map(String::as_str)
    }
}

/// Puts a plan into words.
struct Telling<'a> {
    family: Family,
    installed: &'a Installed,
    owners: Owners,
    comparison: &'a mut Comparison,
}

impl Telling<'_> {
    fn plan(mut self, plan: &Plan) {
        let Plan { entered, served, bound, unbound, unserved, left } = plan;
        entered.iter().for_each(|(set, entry)| self.entry(*set, *entry, true));
        served.iter().chain(unserved).for_each(|operation| self.operation(operation));
        bound.iter().for_each(|address| self.address(*address, true));
        unbound.iter().for_each(|address| self.address(*address, false));
        left.iter().for_each(|(set, entry)| self.entry(*set, *entry, false));
    }

    fn tell(comparison: &mut Comparison, is_missing: bool, service: Option<&str>, what: String) {
        match is_missing {
            true => comparison.missing(service, || what),
            false => comparison.unwanted(service, || what),
        }
    }

    fn entry(&mut self, set: SetName, entry: Entry, is_missing: bool) {
        let what = format!("entry of set {}: {entry}", set.name(self.family));
        Self::tell(self.comparison, is_missing, self.owners.of_entry(set, entry), what);
    }

    fn address(&mut self, address: IpAddr, is_missing: bool) {
        let service = self.owners.addresses.get(&address).map(String::as_str);
        Self::tell(self.comparison, is_missing, service, format!("address {address} of device {DEVICE}"));
    }

    fn operation(&mut self, operation: &Operation) {
        let found = |of: &Frontend| self.installed.servers.get(of);
        let (of, unwanted, missing) = match operation {
            Operation::AddServer(new) => (new.frontend, None, Some(server(new))),
            Operation::SetServer(new) => {
                let old = found(&new.frontend).map(|found| server(&found.server));
                (new.frontend, old, Some(server(new)))
            }
            Operation::RemoveServer(of) => {
                let old =
                    found(of).map_or_else(|| format!("virtual server {of}"), |found| server(&found.server));
                (*of, Some(old), None)
            }
            Operation::AddDestination(of, target, weight) => {
                (*of, None, Some(format!("destination {target} of virtual server {of}, weight {weight}")))
            }
            Operation::SetDestination(of, target, weight) => {
                let text =
                    |weight: u32| format!("destination {target} of virtual server {of}, weight {weight}");
                let old = found(of).and_then(|found: &Found| found.weights.get(target)).map(|it| text(*it));
                (*of, old, Some(text(*weight)))
            }
            Operation::RemoveDestination(of, target) => {
                (*of, Some(format!("destination {target} of virtual server {of}")), None)
            }
        };
        let service = self.owners.servers.get(&of).map(String::as_str);
        if let Some(what) = unwanted {
            self.comparison.unwanted(service, || what);
        }
        if let Some(what) = missing {
            self.comparison.missing(service, || what);
        }
    }
}

/// `virtual server 10.96.0.1:443/tcp, scheduler rr, persistent 600`
fn server(server: &Server) -> String {
    let persistence = server.persistence.map(|persistence| format!(", persistent {}", persistence.seconds));
    let Server { frontend, scheduler, .. } = server;
    format!("virtual server {frontend}, scheduler {scheduler}{}", persistence.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kernel::ipvs::{Persistence, Target};

    use super::*;

    #[test]
    fn a_plan_reads_as_what_is_missing_and_what_should_not_be_there() {
        let (address, protocol, port) = (IpAddr::from([10, 96, 0, 1]), 6, 443);
        let frontend = Frontend::Address { address, protocol, port };
        let target = Target { address: [10, 180, 0, 1].into(), port: 8080 };
        let server = Server { frontend, scheduler: "rr".parse().unwrap(), persistence: None };
        let sticky = Server { persistence: Some(Persistence { seconds: 600, prefix: 32 }), ..server };
        let found = Found { server, weights: BTreeMap::from([(target, 0)]), busy: false };
        let installed = Installed { servers: [(frontend, found)].into(), ..Installed::default() };
        let plan = Plan {
            entered: vec![(SetName::ClusterIp, Entry::IpPort { address, protocol, port })],
            served: vec![Operation::SetServer(sticky), Operation::SetDestination(frontend, target, 1)],
            unbound: vec![address],
            ..Plan::default()
        };
        let owners = Owners { servers: [(frontend, "test/web:http".to_owned())].into(), ..Owners::default() };
        let mut comparison = Comparison::default();
        let family = Family::V4;
        Telling { family, installed: &installed, owners, comparison: &mut comparison }.plan(&plan);
        let of = |service: &Option<String>| service.clone().unwrap_or_default();
        let told = comparison.differences().iter();
        let told: Vec<_> = told.map(|it| format!("{} {} {}", it.sign, of(&it.service), it.what)).collect();
        assert_eq!(
            told,
            [
                "+  entry of set KUBE-CLUSTER-IP: 10.96.0.1,tcp:443",
                "- test/web:http virtual server 10.96.0.1:443/tcp, scheduler rr",
                "+ test/web:http virtual server 10.96.0.1:443/tcp, scheduler rr, persistent 600",
                "- test/web:http destination 10.180.0.1:8080 of virtual server 10.96.0.1:443/tcp, weight 0",
                "+ test/web:http destination 10.180.0.1:8080 of virtual server 10.96.0.1:443/tcp, weight 1",
                "-  address 10.96.0.1 of device kube-ipvs0",
            ]
        );
    }
}
