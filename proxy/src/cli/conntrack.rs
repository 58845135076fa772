//! Flags for the kernel's connection tracking, by kube-proxy's names.

use clap::{ArgAction, Args};

use super::boolean;
use crate::config::{Conntrack, GoDuration};

const CONNTRACK: &str = "Connection tracking";

/// What conntrack is told.
#[derive(Args, Clone, Debug)]
pub struct ConntrackFlags {
    /// Connections that may be tracked, for each processor; 0 leaves alone what the kernel has.
    #[arg(long, value_name = "N", default_value_t = 32 * 1024, help_heading = CONNTRACK)]
    #[arg(allow_negative_numbers = true)]
    pub conntrack_max_per_core: i32,

    /// But so many at least, unless --conntrack-max-per-core is 0.
    #[arg(long, value_name = "N", default_value_t = 128 * 1024, help_heading = CONNTRACK)]
    #[arg(allow_negative_numbers = true)]
    pub conntrack_min: i32,

    /// After how long an idle TCP connection is forgotten; 0s leaves alone what the kernel has.
    #[arg(long, value_name = "DURATION", default_value = "24h", help_heading = CONNTRACK)]
    pub conntrack_tcp_timeout_established: GoDuration,

    /// The same for one whose other side has closed.
    #[arg(long, value_name = "DURATION", default_value = "1h", help_heading = CONNTRACK)]
    pub conntrack_tcp_timeout_close_wait: GoDuration,

    /// Let TCP packets outside the window pass (net.netfilter.nf_conntrack_tcp_be_liberal=1).
    #[arg(long, value_name = "BOOL", help_heading = CONNTRACK)]
    #[arg(num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    #[arg(value_parser = boolean, action = ArgAction::Set, hide_default_value = true)]
    pub conntrack_tcp_be_liberal: bool,

    /// After how long UDP that was never answered is forgotten; 0s leaves alone what the kernel has.
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = CONNTRACK)]
    pub conntrack_udp_timeout: GoDuration,

    /// The same for UDP that goes back and forth.
    #[arg(long, value_name = "DURATION", default_value = "0s", help_heading = CONNTRACK)]
    pub conntrack_udp_timeout_stream: GoDuration,
}

impl ConntrackFlags {
    /// The section of a configuration file that says the same.
    #[must_use]
    pub fn configuration(&self) -> Conntrack {
        Conntrack {
            max_per_core: self.conntrack_max_per_core,
            min: self.conntrack_min,
            tcp_be_liberal: self.conntrack_tcp_be_liberal,
            tcp_close_wait_timeout: self.conntrack_tcp_timeout_close_wait,
            tcp_established_timeout: self.conntrack_tcp_timeout_established,
            udp_stream_timeout: self.conntrack_udp_timeout_stream,
            udp_timeout: self.conntrack_udp_timeout,
        }
    }
}
