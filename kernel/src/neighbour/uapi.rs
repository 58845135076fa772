//! Numbers of `linux/neighbour.h` and `linux/rtnetlink.h`.

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
/// The family of forwarding entries.
pub(super) const AF_BRIDGE: u8 = 7;
pub(super) const AF_INET6: u8 = 10;

/// `RTM_*`
pub(super) const NEWNEIGH: u16 = 28;
pub(super) const DELNEIGH: u16 = 29;
pub(super) const GETNEIGH: u16 = 30;

/// `struct ndmsg`: `ndm_family` (8 bits), padding (24 bits), `ndm_ifindex` (32 bits), `ndm_state` (16 bits), `ndm_flags`,
/// `ndm_type` (8 bits each).
pub(super) const NDMSG: usize = 12;
/// `struct ifinfomsg`, which the request for forwarding entries has in its place (`valid_fdb_dump_legacy`).
pub(super) const IFINFOMSG: usize = 16;

pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NDA_IFINDEX: u16 = 8;

/// `NUD_*`
pub(super) const PERMANENT: u16 = 0x80;
/// `NTF_SELF`: of the device itself, not of the bridge that it is in.
pub(super) const SELF: u8 = 2;
