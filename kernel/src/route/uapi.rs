//! Numbers of `linux/rtnetlink.h` and `linux/fib_rules.h`.

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// `RTM_*`
pub(super) const NEWROUTE: u16 = 24;
pub(super) const DELROUTE: u16 = 25;
pub(super) const GETROUTE: u16 = 26;
pub(super) const NEWRULE: u16 = 32;
pub(super) const DELRULE: u16 = 33;

/// `struct rtmsg`: family, lengths of the destination's and the source's prefix, `rtm_tos`, `rtm_table`, `rtm_protocol`,
/// `rtm_scope`, `rtm_type` (8 bits each), `rtm_flags` (32 bits).
pub(super) const RTMSG: usize = 12;
/// `struct fib_rule_hdr`: family, lengths of the destination's and the source's prefix, `tos`, `table`, two that are
/// reserved, `action` (8 bits each), `flags` (32 bits).
pub(super) const FIB_RULE_HDR: usize = 12;

pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_METRICS: u16 = 8;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RTA_MARK: u16 = 16;
pub(super) const RTA_VIA: u16 = 18;

/// `RTAX_MTU`, within `RTA_METRICS`.
pub(super) const RTAX_MTU: u16 = 2;
/// `RTNH_F_ONLINK`, in `rtm_flags`.
pub(super) const ONLINK: u32 = 4;
/// `RTM_F_CLONED`, in `rtm_flags`: what was learned of a single destination.
pub(super) const CLONED: u32 = 0x200;
/// `IP6_RT_PRIO_USER`: the metric of IPv6 routes that are made without one.
pub(super) const V6_METRIC: u32 = 1024;

/// `RT_TABLE_LOCAL`: the table that is asked first, where the kernel notes the host's own addresses.
pub(super) const TABLE_LOCAL: u32 = 255;
/// `RTN_UNICAST`
pub(super) const UNICAST: u8 = 1;
/// `RTN_LOCAL`
pub(super) const LOCAL: u8 = 2;
/// `RTN_BLACKHOLE`
pub(super) const BLACKHOLE: u8 = 6;
/// `RTN_PROHIBIT`
pub(super) const PROHIBIT: u8 = 8;
/// `RTN_UNREACHABLE`
pub(super) const UNREACHABLE: u8 = 7;
/// `RTPROT_STATIC`: made by an administrator, not by the kernel or a routing daemon.
pub(super) const STATIC: u8 = 4;
/// `RT_SCOPE_LINK`
pub(super) const SCOPE_LINK: u8 = 253;
/// `RT_SCOPE_HOST`
pub(super) const SCOPE_HOST: u8 = 254;

pub(super) const FRA_PRIORITY: u16 = 6;
pub(super) const FRA_FWMARK: u16 = 10;
pub(super) const FRA_TABLE: u16 = 15;
pub(super) const FRA_FWMASK: u16 = 16;
pub(super) const FRA_PROTOCOL: u16 = 21;
/// `FR_ACT_TO_TBL`
pub(super) const TO_TABLE: u8 = 1;
