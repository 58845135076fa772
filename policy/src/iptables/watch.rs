//! Hearing of what others do to our chains. iptables-legacy tells nobody.

use endpoint_cache::Family;
use kernel::iptables::{Backend, OwnProcesses, Table};
use kernel::nft::{Family as NftFamily, Monitor, Table as NftTable};

use crate::enforcer::{Error, Watch};

/// Starts to listen, where there is something to hear. Chains of Kubernetes' other programs count too: theirs must not
/// come before ours.
pub(super) fn listen(backend: Backend, own: &OwnProcesses) -> Result<Option<Monitor>, Error> {
    if backend == Backend::Legacy {
        return Ok(None);
    }
    let table = |family| {
        let family = if family == Family::V6 { NftFamily::Ip6 } else { NftFamily::Ip };
        NftTable { family, name: Table::Filter.as_str().to_owned() }
    };
    let tables = Family::BOTH.map(table).to_vec();
    Ok(Some(Monitor::open_for_mentions(tables, "KUBE-", own.clone())?))
}

/// What was heard.
pub(super) struct News(pub(super) Monitor);

impl Watch for News {
    fn next_damage(&mut self) -> Result<String, Error> {
        Ok(self.0.next_disturbance()?.to_string())
    }
}
