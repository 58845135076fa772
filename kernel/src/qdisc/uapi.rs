//! Numbers of `linux/rtnetlink.h`, `linux/pkt_sched.h`, `linux/pkt_cls.h` and `linux/tc_act/tc_mirred.h`.

/// `RTM_*`
pub(super) const NEWQDISC: u16 = 36;
pub(super) const DELQDISC: u16 = 37;
pub(super) const GETQDISC: u16 = 38;
pub(super) const NEWTFILTER: u16 = 44;
pub(super) const GETTFILTER: u16 = 46;

/// `struct tcmsg`: family and padding (32 bits), `tcm_ifindex`, `tcm_handle`, `tcm_parent`, `tcm_info` (32 bits each).
pub(super) const TCMSG: usize = 20;
/// `TC_H_ROOT`
pub(super) const ROOT: u32 = 0xffff_ffff;
/// `TC_H_INGRESS`
pub(super) const INGRESS: u32 = 0xffff_fff1;
/// The only handle that an ingress discipline can have, `ffff:`.
pub(super) const INGRESS_HANDLE: u32 = 0xffff_0000;

pub(super) const TCA_KIND: u16 = 1;
pub(super) const TCA_OPTIONS: u16 = 2;

pub(super) const TCA_TBF_PARMS: u16 = 1;
pub(super) const TCA_TBF_RATE64: u16 = 4;
pub(super) const TCA_TBF_BURST: u16 = 6;
/// `struct tc_tbf_qopt`: two of `struct tc_ratespec`, then `limit`, `buffer`, `mtu` (32 bits each).
pub(super) const TBF_QOPT: usize = 36;
/// `struct tc_ratespec`: `cell_log`, `linklayer` (8 bits), `overhead`, `cell_align`, `mpu` (16 bits), `rate` (32 bits).
pub(super) const RATESPEC: usize = 12;
/// `TC_LINKLAYER_ETHERNET`: no table of rates is to be given.
pub(super) const ETHERNET: u8 = 1;
/// Nanoseconds of the kernel's unit of time here (`PSCHED_SHIFT`).
pub(super) const TICK: u64 = 64;

pub(super) const TCA_U32_SEL: u16 = 5;
pub(super) const TCA_U32_ACT: u16 = 7;
/// `TC_U32_TERMINAL`
pub(super) const TERMINAL: u8 = 1;
/// `struct tc_u32_sel`, with one `struct tc_u32_key` of zeros: nothing has to match.
pub(super) const U32_SEL_WITH_KEY: usize = 32;
/// Where `struct tc_u32_sel` has `nkeys`.
pub(super) const U32_NKEYS: usize = 2;

pub(super) const TCA_ACT_KIND: u16 = 1;
pub(super) const TCA_ACT_OPTIONS: u16 = 2;
pub(super) const TCA_MIRRED_PARMS: u16 = 2;
/// `struct tc_mirred`: `index`, `capab`, `action`, `refcnt`, `bindcnt`, `eaction`, `ifindex` (32 bits each).
pub(super) const MIRRED: usize = 28;
/// `TC_ACT_STOLEN`
pub(super) const STOLEN: u32 = 4;
/// `TCA_EGRESS_REDIR`
pub(super) const EGRESS_REDIR: u32 = 1;

/// `ETH_P_ALL`
pub(super) const ALL_PROTOCOLS: u16 = 3;
/// Order among filters; there is no other.
pub(super) const FILTER_PRIORITY: u32 = 1;
