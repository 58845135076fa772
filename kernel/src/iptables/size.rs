//! How large a table of the legacy back end is (`linux/netfilter_ipv4/ip_tables.h`).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::Table;
use crate::Error;

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`
const GET_INFO: libc::c_int = 64;
/// `XT_TABLE_MAXNAMELEN`
const NAME: usize = 32;
/// `NF_INET_NUMHOOKS`
const HOOKS: usize = 5;

/// `struct ipt_getinfo`, which is `struct ip6t_getinfo` too.
#[repr(C)]
#[derive(Default)]
struct Info {
    name: [u8; NAME],
    valid_hooks: u32,
    hook_entry: [u32; HOOKS],
    underflow: [u32; HOOKS],
    num_entries: u32,
    size: u32,
}

/// How large a table is and where in it the packets enter. A change that leaves all of this as it was is possible, such
/// as of an address in a rule, but not that of adding or removing something only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Rules, plus one or two entries that each chain has besides.
    pub entries: u32,
    /// Bytes.
    pub bytes: u32,
    hook_entry: [u32; HOOKS],
    underflow: [u32; HOOKS],
}

/// Asks the kernel, which creates the table if it does not exist.
pub(super) fn of(table: Table, ipv6: bool) -> Result<TableSize, Error> {
    let (family, level) = match ipv6 {
        true => (AddressFamily::Inet6, libc::IPPROTO_IPV6),
        false => (AddressFamily::Inet, libc::IPPROTO_IP),
    };
    let mut info = Info::default();
    info.name.iter_mut().zip(table.as_str().bytes()).for_each(|(to, from)| *to = from);
    let asked = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
        .and_then(|raw| get_info(&raw, level, &mut info));
    match asked {
        Ok(()) => Ok(TableSize {
            entries: info.num_entries,
            bytes: info.size,
            hook_entry: info.hook_entry,
            underflow: info.underflow,
        }),
        // No such table, and no such tables at all.
        Err(Errno::ENOENT | Errno::ENOPROTOOPT) => Err(Error::Unsupported { what: module(table, ipv6) }),
        Err(errno) => Err(Error::from_errno(format!("tell the size of table {table}"), errno, None)),
    }
}

fn get_info(raw: &OwnedFd, level: libc::c_int, info: &mut Info) -> Result<(), Errno> {
    // The kernel insists on this very size.
    let mut length = libc::socklen_t::try_from(size_of::<Info>()).unwrap_or_default();
    #[allow(unsafe_code, reason = "nix does not offer IPT_SO_GET_INFO")]
    // SAFETY: the kernel reads and writes at most `length` bytes at `info`, which has as many, all of them initialised,
    // and is valid whatever their values.
    let result = unsafe {
        libc::getsockopt(raw.as_raw_fd(), level, GET_INFO, std::ptr::from_mut(info).cast(), &raw mut length)
    };
    Errno::result(result).map(drop)
}

fn module(table: Table, ipv6: bool) -> &'static str {
    match (table, ipv6) {
        (Table::Filter, false) => "iptables' legacy table filter (iptable_filter)",
        (Table::Nat, false) => "iptables' legacy table nat (iptable_nat)",
        (Table::Mangle, false) => "iptables' legacy table mangle (iptable_mangle)",
        (Table::Filter, true) => "ip6tables' legacy table filter (ip6table_filter)",
        (Table::Nat, true) => "ip6tables' legacy table nat (ip6table_nat)",
        (Table::Mangle, true) => "ip6tables' legacy table mangle (ip6table_mangle)",
    }
}
