//! Numbers of `linux/rtnetlink.h`, `linux/if_link.h` and `linux/if_addr.h`.

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_BRIDGE: u8 = 7;
pub(super) const AF_INET6: u8 = 10;

/// `RTM_*`
pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const GETLINK: u16 = 18;
pub(super) const SETLINK: u16 = 19;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const GETADDR: u16 = 22;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`
pub(super) const GROUPS: [u32; 3] = [1, 5, 9];

/// `struct ifinfomsg`: `ifi_family`, padding, `ifi_type` (16 bits), `ifi_index`, `ifi_flags`, `ifi_change` (32 bits).
pub(super) const IFINFOMSG: usize = 16;
/// `struct ifaddrmsg`: `ifa_family`, `ifa_prefixlen`, `ifa_flags`, `ifa_scope` (8 bits), `ifa_index` (32 bits).
pub(super) const IFADDRMSG: usize = 8;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
/// Of a veth, the index of its other end, in the namespace of that.
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_PROTINFO: u16 = 12;
pub(super) const IFLA_OPERSTATE: u16 = 16;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(super) const IFLA_INFO_SLAVE_DATA: u16 = 5;
pub(super) const VETH_INFO_PEER: u16 = 1;
/// `IFLA_VXLAN_*`, within `IFLA_INFO_DATA`.
pub(super) const VXLAN_ID: u16 = 1;
pub(super) const VXLAN_GROUP: u16 = 2;
pub(super) const VXLAN_LINK: u16 = 3;
pub(super) const VXLAN_LOCAL: u16 = 4;
pub(super) const VXLAN_LEARNING: u16 = 7;
/// In network order.
pub(super) const VXLAN_PORT: u16 = 15;
pub(super) const VXLAN_GROUP6: u16 = 16;
pub(super) const VXLAN_LOCAL6: u16 = 17;
pub(super) const VXLAN_COLLECT_METADATA: u16 = 25;
pub(super) const IFLA_BRPORT_STATE: u16 = 1;
/// Hairpin mode.
pub(super) const IFLA_BRPORT_MODE: u16 = 4;
pub(super) const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`
pub(super) const ADDR_GEN_MODE_NONE: u8 = 1;
/// `IF_OPER_UP`
pub(super) const OPER_UP: u8 = 6;
/// `BR_STATE_FORWARDING`
pub(super) const FORWARDING: u8 = 3;
/// `IFNAMSIZ`, less the terminating NUL.
pub(super) const MAX_NAME: usize = 15;
/// `IFF_UP`
pub(super) const UP: u32 = 1;
/// `IFF_PROMISC`
pub(super) const PROMISC: u32 = 0x100;
/// `IFALIASZ`
pub(super) const MAX_ALIAS: usize = 255;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_BROADCAST: u16 = 4;
pub(super) const IFA_CACHEINFO: u16 = 6;
/// All flags: the header has room for eight only.
pub(super) const IFA_FLAGS: u16 = 8;
/// `struct ifa_cacheinfo` with `ifa_prefered` 0 and `ifa_valid` for ever; the kernel fills in the rest.
pub(super) const DEPRECATED: [u8; 16] = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
/// `IFA_F_NODAD`
pub(super) const NODAD: u8 = 2;
/// `IFA_F_NOPREFIXROUTE`
pub(super) const NOPREFIXROUTE: u32 = 0x200;
/// `RT_SCOPE_LINK`
pub(super) const SCOPE_LINK: u8 = 253;
/// `RT_SCOPE_HOST`
pub(super) const SCOPE_HOST: u8 = 254;
