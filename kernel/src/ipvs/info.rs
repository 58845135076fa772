//! How many virtual servers there are (`struct ip_vs_getinfo` of `linux/ip_vs.h`).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::WHAT;
use crate::Error;

/// `IP_VS_SO_GET_INFO`
const GET_INFO: libc::c_int = 64 + 1024 + 64 + 1;

/// `struct ip_vs_getinfo`
#[repr(C)]
#[derive(Default)]
struct Info {
    version: u32,
    size: u32,
    num_services: u32,
}

/// Asks the kernel, whose older interface counts what it would list: not those of IPv6.
pub(super) fn servers() -> Result<u32, Error> {
    let mut info = Info::default();
    let asked = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
        .and_then(|raw| get_info(&raw, &mut info));
    match asked {
        Ok(()) => Ok(info.num_services),
        Err(Errno::ENOPROTOOPT) => Err(Error::Unsupported { what: WHAT }),
        Err(errno) => Err(Error::from_errno("count virtual servers".to_owned(), errno, None)),
    }
}

fn get_info(raw: &OwnedFd, info: &mut Info) -> Result<(), Errno> {
    // The kernel insists on this much.
    let mut length = libc::socklen_t::try_from(size_of::<Info>()).unwrap_or_default();
    #[allow(unsafe_code, reason = "nix does not offer IP_VS_SO_GET_INFO")]
    // SAFETY: the kernel reads and writes at most `length` bytes at `info`, which has as many, all of them initialised,
    // and is valid whatever their values.
    let result = unsafe {
        libc::getsockopt(
            raw.as_raw_fd(),
            libc::IPPROTO_IP,
            GET_INFO,
            std::ptr::from_mut(info).cast(),
            &raw mut length,
        )
    };
    Errno::result(result).map(drop)
}
