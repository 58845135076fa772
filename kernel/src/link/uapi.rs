//! Numbers of `linux/rtnetlink.h`, `linux/if_link.h` and `linux/if_addr.h`.

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// `RTM_*`
pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const GETLINK: u16 = 18;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const GETADDR: u16 = 22;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`
pub(super) const GROUPS: [u32; 3] = [1, 5, 9];

/// `struct ifinfomsg`: `ifi_family`, padding, `ifi_type` (16 bits), `ifi_index`, `ifi_flags`, `ifi_change` (32 bits).
pub(super) const IFINFOMSG: usize = 16;
/// `struct ifaddrmsg`: `ifa_family`, `ifa_prefixlen`, `ifa_flags`, `ifa_scope` (8 bits), `ifa_index` (32 bits).
pub(super) const IFADDRMSG: usize = 8;

pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_INFO_KIND: u16 = 1;
/// `IFNAMSIZ`, less the terminating NUL.
pub(super) const MAX_NAME: usize = 15;
/// `IFF_UP`
pub(super) const UP: u32 = 1;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_CACHEINFO: u16 = 6;
/// `struct ifa_cacheinfo` with `ifa_prefered` 0 and `ifa_valid` for ever; the kernel fills in the rest.
pub(super) const DEPRECATED: [u8; 16] = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
/// `IFA_F_NODAD`
pub(super) const NODAD: u8 = 2;
/// `RT_SCOPE_LINK`
pub(super) const SCOPE_LINK: u8 = 253;
/// `RT_SCOPE_HOST`
pub(super) const SCOPE_HOST: u8 = 254;
