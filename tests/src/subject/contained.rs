//! The proxy in a container that has a mode's capabilities and no others.

use anyhow::{Result, ensure};

use super::Subject;
use crate::bed::POD_PORT;
use crate::cluster::{Service, Slice};
use crate::ordinary::{User, read_only_sysctls};
use crate::place::{Outcome, Protocol};

impl Subject {
    /// Does everything that a proxy has to do, with the capabilities that manifests give it in this mode.
    ///
    /// # Errors
    /// When something is not done.
    pub fn check_contained(&mut self) -> Result<()> {
        let capabilities = self.mode().capabilities();
        self.run_as(User::Container(capabilities));
        read_only_sysctls()?;
        self.serve_all_kinds()?;
        self.check_all_kinds()?;
        self.check_flows_are_removed()?;
        self.serve_all_kinds()?;
        self.await_repair(|s| s.rules().damage())?;
        self.check_all_kinds()?;
        self.proxy()?.kill()?;
        self.restart()?;
        self.check_all_kinds()?;
        let warnings = self.proxy()?.log();
        let warnings: Vec<&str> =
            warnings.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
        eprintln!("{warnings:#?}");
        let (_, effective) = self.proxy()?.identity()?;
        ensure!(effective == "", "{effective}");
        Ok(())
    }

    /// A UDP flow moves when its endpoint goes, which takes a look into conntrack.
    fn check_flows_are_removed(&mut self) -> Result<()> {
        let address = self.family().cluster_ip(53);
        self.cluster.put(Service::new("dns", address).udp("dns", 53));
        let slice = |s: &Self, pod| {
            let slice = Slice::new("dns", s.family(), [s.endpoint(pod)]);
            slice.port("dns", Protocol::Udp, POD_PORT)
        };
        self.cluster.put_slice(slice(self, "pod-1"));
        self.sync()?;
        let flow = self.pod(3).place.flow((address, 53).into())?;
        for pod in ["pod-1", "remote-1"] {
            self.cluster.put_slice(slice(self, pod));
            self.sync()?;
            let outcome = flow.ask()?;
            let by_pod = matches!(&outcome, Outcome::Answered { by, .. } if by == pod);
            ensure!(by_pod, "a flow that is to go to {pod}: {outcome}");
        }
        Ok(())
    }
}
