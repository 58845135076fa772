//! The proxy as manifests have it run: root of a container that may do little, with `/proc/sys` read-only.

use anyhow::{Context, Result, ensure};

use super::Subject;
use crate::await_that;
use crate::bed::{Family, POD_PORT};
use crate::cluster::{Service, Slice};
use crate::ordinary::{User, read_only_sysctls};
use crate::place::{Outcome, Protocol};

impl Subject {
    /// Does everything that a proxy has to do, with a mode's capabilities and no others. Kernel parameters are what a
    /// privileged container has made them before.
    ///
    /// # Errors
    /// When something is not done, or it complains.
    pub fn check_contained(&mut self) -> Result<()> {
        for family in Family::BOTH {
            for parameter in self.mode().kernel_parameters(family) {
                self.bed.node.sysctl(parameter, "1")?;
            }
        }
        read_only_sysctls()?;
        self.run_as(User::Container(self.mode().capabilities()));
        self.serve_all_kinds()?;
        self.check_all_kinds()?;
        self.check_flows_are_removed()?;
        self.serve_all_kinds()?;
        self.await_repair(|s| s.rules().damage())?;
        self.proxy()?.kill()?;
        self.restart()?;
        self.check_all_kinds()?;
        let log = self.proxy()?.log();
        // How many connections are tracked is the machine's affair: in no namespace can that be set.
        let to_be_expected =
            |line: &str| ["repairing", "nf_conntrack"].iter().any(|word| line.contains(word));
        let complains =
            |line: &&str| (line.contains("ERROR") || line.contains("WARN")) && !to_be_expected(line);
        let complaint = log.lines().find(complains);
        ensure!(complaint.is_none(), "it complains: {complaint:?}");
        Ok(())
    }

    /// With one of the mode's capabilities missing, it programs nothing and says why.
    ///
    /// # Errors
    /// When it works all the same.
    pub fn check_no_capability_is_in_vain(&mut self) -> Result<()> {
        let all = self.mode().capabilities();
        ensure!((1..=2).contains(&all.len()), "leave out each of {all:?}");
        for rest in [&all[1..], &all[..all.len() - 1]] {
            self.run_as(User::Container(rest));
            self.forget_proxy();
            self.launch()?;
            let missing = all.iter().find(|name| !rest.contains(name)).context("none is missing")?;
            let proxy = self.proxy()?;
            await_that(&format!("it says that CAP_{missing} is missing"), || {
                let says = |line: &str| line.contains("it takes CAP_") && line.contains(missing);
                // How many connections are tracked is the machine's affair.
                Ok(proxy.log().lines().any(|line| says(line) && !line.contains("nf_conntrack")))
            })?;
            let log = self.proxy()?.log();
            ensure!(!log.contains(" synced "), "{rest:?} is enough: {log}");
        }
        Ok(())
    }

    /// A UDP flow moves when its endpoint goes, which takes a look into conntrack.
    fn check_flows_are_removed(&mut self) -> Result<()> {
        let address = self.family().cluster_ip(53);
        self.cluster.put(Service::new("dns", address).udp("dns", 53));
        self.lead_dns_to("pod-1")?;
        let flow = self.pod(3).place.flow((address, 53).into())?;
        for pod in ["pod-1", "remote-1"] {
            self.lead_dns_to(pod)?;
            let outcome = flow.ask()?;
            let by_pod = matches!(&outcome, Outcome::Answered { by, .. } if by == pod);
            ensure!(by_pod, "a flow that is to go to {pod}: {outcome}");
        }
        Ok(())
    }

    fn lead_dns_to(&mut self, pod: &str) -> Result<()> {
        let slice = Slice::new("dns", self.family(), [self.endpoint(pod)]);
        self.cluster.put_slice(slice.port("dns", Protocol::Udp, POD_PORT));
        self.sync()
    }
}
