//! One mode in another's place.

use anyhow::{Result, ensure};

use super::Seen::AsItself;
use super::Subject;
use crate::{Mode, Proxy, await_that, under_traffic};

const PODS: [&str; 2] = ["pod-1", "pod-2"];

impl Subject {
    /// Runs one mode, then another in its place, with connections under way; then nothing is left of the first.
    ///
    /// # Errors
    /// When a connection fails, or something is left.
    pub fn switch(&mut self, from: Mode, to: Mode, is_left: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        self.ask_for_mode(from.args);
        let (web, slice) = (self.web(), self.slice("web", &PODS));
        self.cluster.put(web).put_slice(slice);
        self.sync()?;
        self.reaches(self.pod(3), self.web_address(), &PODS, AsItself)?;
        ensure!(is_left(self)?, "the test does not see the rules of {from:?}");
        let mut old = self.take_proxy()?;
        let mut new = None;
        let switched = under_traffic(self.pod(3).place, self.web_address(), || {
            old.kill()?;
            new = Some(Proxy::start(&self.bed.node, &self.cluster, &self.all_args_in(to))?);
            await_that(&format!("nothing is left of {}", from.name), || Ok(!is_left(self)?))
        });
        if let Some(new) = new {
            self.give_proxy(new);
        }
        switched?;
        self.reaches(self.pod(3), self.web_address(), &PODS, AsItself)?;
        self.proxy()?.await_quiet()?;
        // It is the new one that works.
        let slice = self.slice("web", &["remote-1"]);
        self.cluster.put_slice(slice);
        self.sync()?;
        self.await_reaches(self.web_address(), &["remote-1"])
    }
}

/// Whether there is something of nftables mode.
///
/// # Errors
/// When tables cannot be listed.
pub fn has_nftables(s: &Subject) -> Result<bool> {
    Ok(s.bed.node.output("nft", &["list", "tables"])?.contains(" pointsman"))
}

/// Whether there is something of iptables mode on a back end.
///
/// # Errors
/// When rules cannot be listed.
pub fn has_chains(s: &Subject, mode: Mode) -> Result<bool> {
    let rules = s.rules_of(mode).listing()?;
    Ok(["KUBE-SVC-", "KUBE-SEP-", "KUBE-SERVICES"].iter().any(|chain| rules.contains(chain)))
}
