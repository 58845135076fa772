//! Flags of ipvs mode, by kube-proxy's names.

use std::time::Duration;

use clap::{ArgAction, Args};
use ipnet::IpNet;
use jiff::SignedDuration;
use modes::ipvs::{Options, Scheduler, Timeouts};

use super::{boolean, cidr, duration};

const IPVS: &str = "In ipvs mode";

/// What only ipvs mode asks.
#[derive(Args, Clone, Debug)]
pub struct IpvsFlags {
    /// How an endpoint is chosen, by the name that IPVS has for it: rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, mh
    /// and others, as the kernel has them [default: rr].
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    #[arg(value_parser = scheduler, help_heading = IPVS)]
    pub ipvs_scheduler: Scheduler,

    /// How often everything is read back from the kernel and compared: it does not tell of all that others change.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, help_heading = IPVS)]
    pub ipvs_sync_period: Duration,

    /// Comma-separated CIDRs within which no virtual server is ever removed.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', value_parser = cidr, help_heading = IPVS)]
    pub ipvs_exclude_cidrs: Vec<IpNet>,

    /// Answer ARP for an address only on the link that has it (arp_ignore=1, arp_announce=2).
    #[arg(long, value_name = "BOOL", help_heading = IPVS)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub ipvs_strict_arp: bool,

    /// After how long an idle TCP connection is forgotten; 0s leaves what the kernel has.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = seconds, help_heading = IPVS)]
    pub ipvs_tcp_timeout: u32,

    /// The same for a TCP connection after a FIN.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = seconds, help_heading = IPVS)]
    pub ipvs_tcpfin_timeout: u32,

    /// The same for UDP.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = seconds, help_heading = IPVS)]
    pub ipvs_udp_timeout: u32,
}

impl IpvsFlags {
    /// What the mode is told.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            scheduler: self.ipvs_scheduler,
            sync_period: self.ipvs_sync_period,
            exclude_cidrs: self.ipvs_exclude_cidrs.clone(),
            strict_arp: self.ipvs_strict_arp,
            timeouts: Timeouts {
                tcp: self.ipvs_tcp_timeout,
                tcp_fin: self.ipvs_tcpfin_timeout,
                udp: self.ipvs_udp_timeout,
            },
        }
    }
}

/// An empty name asks for the default, as in kube-proxy.
fn scheduler(text: &str) -> Result<Scheduler, String> {
    match text.trim() {
        "" => Ok(Scheduler::default()),
        name => name.parse().map_err(|error: modes::ipvs::InvalidScheduler| error.to_string()),
    }
}

/// A length of time as Go writes it, in whole seconds, which is what IPVS counts in.
fn seconds(text: &str) -> Result<u32, String> {
    // Nothing needs no unit.
    let text = if text.trim() == "0" { "0s" } else { text.trim() };
    let parsed: Option<SignedDuration> = text.parse().ok();
    let whole = |duration: SignedDuration| u32::try_from(duration.as_secs()).ok();
    let nothing_left = |duration: &SignedDuration| duration.subsec_nanos() == 0;
    parsed
        .filter(nothing_left)
        .and_then(whole)
        .ok_or_else(|| format!("{text:?} is no length of time in whole seconds such as 0s or 15m"))
}
