//! The hops' half: whether packets can be traced, and why not.

use kernel::iptables::Backend;
use kernel::nft::{Table, TraceLimit, Tracer};
use kernel::sysctl;

use super::filter::Filter;
use super::names::Names;

/// Packets of a protocol and way in that are traced in a second, at least: whoever is refused tries again.
const PER_SECOND: u32 = 20;

/// Tracing by nftables.
pub(super) enum Tracing {
    /// It goes on.
    On {
        /// The table that has packets traced.
        own: Table,
        /// What things are called.
        names: Box<Names>,
    },
    /// It does not, and why.
    Off(String),
    /// It is not needed any longer.
    Over,
}

impl Tracing {
    /// Begins, if that is possible without leaving anything behind.
    pub(super) fn start(filter: &Filter, connections: usize) -> Self {
        if let Some(family) = would_be_logged() {
            return Self::Off(format!(
                "no hops are shown: iptables-legacy has tables for {family}, for which the kernel would log every \
                 packet that is traced (nftables tracing works after sysctl -w net.netfilter.nf_log.{}=NONE)",
                if family == "IPv6" { 10 } else { 2 }
            ));
        }
        let burst = u32::try_from(connections).unwrap_or(u32::MAX).clamp(PER_SECOND, 1000);
        match Tracer::start(&filter.of_packets(), TraceLimit { per_second: PER_SECOND, burst }) {
            Ok(tracer) => Self::On { own: tracer.table().clone(), names: Box::new(Names::new(tracer)) },
            Err(error) => Self::Off(format!("no hops are shown: {error}")),
        }
    }

    /// The table that has packets traced.
    pub(super) fn own_table(&self) -> Option<&Table> {
        match self {
            Self::On { own, .. } => Some(own),
            Self::Off(_) | Self::Over => None,
        }
    }

    /// No more packets are traced.
    pub(super) fn stop(&mut self) {
        if matches!(self, Self::On { .. }) {
            *self = Self::Over;
        }
    }
}

/// What users should know before they wonder, in a line each.
pub(super) fn doubts(tracing: &Tracing) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Tracing::Off(why) = tracing {
        doubts.push(why.clone());
    }
    if sysctl::get("net.netfilter.nf_conntrack_events").is_ok_and(|value| value == "0") {
        doubts.push(
            "what becomes of connections is not told: net.netfilter.nf_conntrack_events is 0 (set it to 1 for that)"
                .to_owned(),
        );
    }
    doubts
}

/// The first family in which the kernel writes a line to its log for every traced packet and table of iptables-legacy.
fn would_be_logged() -> Option<&'static str> {
    let logs = |family: u8| {
        let logger = sysctl::get(&format!("net.netfilter.nf_log.{family}"));
        logger.is_ok_and(|logger| logger != "NONE")
    };
    let legacy = |ipv6| Backend::Legacy.has_tables(ipv6).unwrap_or(false);
    [("IPv4", false, 2), ("IPv6", true, 10)]
        .into_iter()
        .find(|(_, ipv6, family)| legacy(*ipv6) && logs(*family))
        .map(|(name, _, _)| name)
}
