//! Flags of ipvs mode, by kube-proxy's names.

use clap::{ArgAction, Args};

use super::boolean;
use crate::config::{GoDuration, Ipvs};

const IPVS: &str = "In ipvs mode";

/// What only ipvs mode asks.
#[derive(Args, Clone, Debug)]
pub struct IpvsFlags {
    /// How an endpoint is chosen, by the name that IPVS has for it: rr, wrr, lc, wlc, lblc, lblcr, sh, dh, sed, nq, mh
    /// and others, as the kernel has them [default: rr].
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, help_heading = IPVS)]
    pub ipvs_scheduler: String,

    /// How often everything is read back from the kernel and compared: it does not tell of all that others change. Counts
    /// as --iptables-sync-period does too.
    #[arg(long, value_name = "DURATION", default_value = "30s", help_heading = IPVS)]
    pub ipvs_sync_period: GoDuration,

    /// As --iptables-min-sync-period.
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = IPVS)]
    pub ipvs_min_sync_period: GoDuration,

    /// Comma-separated CIDRs within which no virtual server is ever removed.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', help_heading = IPVS)]
    pub ipvs_exclude_cidrs: Vec<String>,

    /// Answer ARP for an address only on the link that has it (arp_ignore=1, arp_announce=2).
    #[arg(long, value_name = "BOOL", help_heading = IPVS)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub ipvs_strict_arp: bool,

    /// After how long an idle TCP connection is forgotten; 0s leaves what the kernel has.
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = IPVS)]
    pub ipvs_tcp_timeout: GoDuration,

    /// The same for a TCP connection after a FIN.
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = IPVS)]
    pub ipvs_tcpfin_timeout: GoDuration,

    /// The same for UDP.
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = IPVS)]
    pub ipvs_udp_timeout: GoDuration,
}

impl IpvsFlags {
    /// The section of a configuration file that says the same.
    #[must_use]
    pub fn configuration(&self) -> Ipvs {
        Ipvs {
            exclude_cidrs: super::configured::said(&self.ipvs_exclude_cidrs),
            min_sync_period: self.ipvs_min_sync_period,
            scheduler: self.ipvs_scheduler.clone(),
            strict_arp: self.ipvs_strict_arp,
            sync_period: self.ipvs_sync_period,
            tcp_fin_timeout: self.ipvs_tcpfin_timeout,
            tcp_timeout: self.ipvs_tcp_timeout,
            udp_timeout: self.ipvs_udp_timeout,
        }
    }
}
