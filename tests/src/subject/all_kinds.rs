//! A cluster that uses about everything.

use anyhow::{Result, ensure};

use super::Seen::{AsItself, Masqueraded};
use super::Subject;
use crate::cluster::Service;
use crate::place::Protocol;

impl Subject {
    /// Serves services of all kinds: every frontend, policy Local, source ranges, affinity, and no endpoint.
    ///
    /// # Errors
    /// As [`Subject::sync`].
    pub fn serve_all_kinds(&mut self) -> Result<()> {
        let family = self.family();
        let web = self.web().node_port(30080).external_ip(family.external_ip(5));
        let local = Service::new("local", family.cluster_ip(11)).tcp("http", 80).node_port(30090);
        let local = local.load_balancer_ip(family.load_balancer_ip(6)).source_range(family.client_range());
        let sticky = Service::new("sticky", family.cluster_ip(12)).tcp("http", 80).affinity(600);
        let empty = Service::new("empty", family.cluster_ip(13)).tcp("http", 80);
        let slices = ["web", "local", "sticky"].map(|name| self.slice(name, &["pod-1", "pod-2", "remote-1"]));
        self.cluster.put(web).put(local.external_local()).put(sticky).put(empty);
        for slice in slices {
            self.cluster.put_slice(slice);
        }
        self.sync()
    }

    /// All of them do what they should.
    ///
    /// # Errors
    /// When one does not; says which.
    pub fn check_all_kinds(&self) -> Result<()> {
        let family = self.family();
        let all = ["pod-1", "pod-2", "remote-1"];
        self.reaches(self.pod(3), self.web_address(), &all, AsItself)?;
        self.reaches(self.client(), (family.node(), 30080), &all, Masqueraded)?;
        self.reaches(self.client(), (family.load_balancer_ip(6), 80), &["pod-1", "pod-2"], AsItself)?;
        self.dropped(self.foreign_client(), (family.load_balancer_ip(6), 80))?;
        self.refused(self.pod(3), (family.cluster_ip(13), 80))?;
        let sticky =
            self.pod(3).place.connect_times(Protocol::Tcp, (family.cluster_ip(12), 80).into(), 10)?;
        ensure!(sticky.len() == 1, "the client does not stay: {sticky:?}");
        Ok(())
    }
}
