//! Netlink messages and the socket that carries them (`linux/netlink.h`).

mod notifications;
mod read;
mod socket;
mod write;

pub(crate) use notifications::{Notifications, Received};
pub(crate) use read::{Attributes, Message, messages};
pub(crate) use socket::{Protocol, Refusal, Socket};
pub(crate) use write::Writer;

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Bytes of `struct nfgenmsg`, which follows the header in every netfilter message.
pub(crate) const NFGENMSG: usize = 4;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_CAPPED: u16 = 0x100;
pub(crate) const NLM_F_ACK_TLVS: u16 = 0x200;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLMSGERR_ATTR_MSG: u16 = 1;

/// Attributes, like messages, start at multiples of four bytes.
pub(crate) const fn align(length: usize) -> usize {
    (length + 3) & !3
}
