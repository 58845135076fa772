//! One mode in another's place.

use anyhow::{Context, Result, ensure};

use super::Seen::AsItself;
use super::{Subject, UnderWay};
use crate::{Mode, Proxy, await_that, under_traffic};

impl Subject {
    /// Runs one mode, then another in its place, with connections and flows under way that go on, and new ones that come
    /// all the time; then nothing is left of the first.
    ///
    /// # Errors
    /// When a connection breaks or fails, or something is left.
    pub fn switch(
        &mut self,
        from: Mode,
        to: Mode,
        is_left: impl Fn(&Self) -> Result<bool>,
    ) -> Result<UnderWay> {
        self.ask_for_mode(from.args);
        self.put_for_under_way();
        self.sync()?;
        ensure!(is_left(self)?, "the test does not see the rules of {from:?}");
        let mut under_way = self.begin()?;
        let mut old = self.take_proxy()?;
        let mut new = None;
        let switched = under_way.go_on_while(|| {
            self.while_all_connect(|| {
                old.kill()?;
                new = Some(Proxy::start(&self.bed.node, &self.cluster, &self.all_args_in(to))?);
                await_that(&format!("nothing is left of {}", from.name), || Ok(!is_left(self)?))
            })
        });
        if let Some(new) = new {
            self.give_proxy(new);
        }
        switched.with_context(|| format!("from {} to {}", from.name, to.name))?;
        self.reaches(self.pod(3), self.web_address(), &["pod-1", "pod-2", "remote-1"], AsItself)?;
        self.proxy()?.await_quiet()?;
        // It is the new one that works.
        let slice = self.slice("web", &["remote-1"]);
        self.cluster.put_slice(slice);
        self.sync()?;
        self.await_reaches(self.web_address(), &["remote-1"])?;
        under_way.go_on()?;
        Ok(under_way)
    }

    /// A pod, the node itself and an outsider connect without pause while something else is done.
    fn while_all_connect(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let (web, node_port) = (self.web_address(), (self.family().node(), 30080).into());
        under_traffic(self.pod(3).place, web, || {
            under_traffic(self.node().place, web, || under_traffic(self.client().place, node_port, meanwhile))
        })
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
