//! The kernel's own error numbers of ipset, in words.

use nix::errno::Errno;

use super::uapi::err;
use crate::Error;
use crate::netlink::Refusal;

/// What a refusal means for an operation on a set. From `IPSET_ERR_TYPE_SPECIFIC` on, numbers mean one thing to bitmaps
/// and another to hashes.
pub(super) fn refused(operation: String, refusal: Refusal, is_bitmap: bool) -> Error {
    if refusal.code < err::PRIVATE {
        let extended = refusal
            .extended
            .or_else(|| (refusal.errno == Errno::ENOENT).then(|| "there is no such set".to_owned()));
        return Error::from_errno(operation, refusal.errno, extended);
    }
    let (errno, words) = words(refusal.code, is_bitmap);
    let extended = Some(format!("{words}; ipset's error {}", refusal.code));
    Error::Refused { operation, errno, extended }
}

/// The system's error number that comes closest, and what ipset's says.
fn words(code: i32, is_bitmap: bool) -> (Errno, &'static str) {
    match code {
        err::PROTOCOL => (Errno::EINVAL, "it is not what the set takes: of another family or kind"),
        err::FIND_TYPE => (Errno::EOPNOTSUPP, "the kernel has no such type of set"),
        err::MAX_SETS => (Errno::ENOSPC, "there are as many sets as the kernel takes"),
        err::BUSY | err::REFERENCED => {
            (Errno::EBUSY, "a rule or another set refers to it, or it is being listed")
        }
        err::EXIST_SETNAME2 => (Errno::ENOENT, "there is no such second set"),
        err::TYPE_MISMATCH => (Errno::EINVAL, "the sets are of different types or families"),
        err::EXIST => (Errno::EEXIST, "it exists"),
        err::INVALID_CIDR => (Errno::EINVAL, "a network's prefix must be from 1 to the length of an address"),
        err::INVALID_FAMILY => (Errno::EINVAL, "the type of set does not come in this address family"),
        err::IPADDR_IPV4 => (Errno::EINVAL, "the set holds IPv4 addresses"),
        err::IPADDR_IPV6 => (Errno::EINVAL, "the set holds IPv6 addresses"),
        err::BITMAP_RANGE if is_bitmap => (Errno::EINVAL, "out of the set's range"),
        err::HASH_FULL if !is_bitmap => (Errno::ENOSPC, "the set is full"),
        err::HASH_ELEM if !is_bitmap => (Errno::EINVAL, "the address of zeros cannot be in a set"),
        err::INVALID_PROTO if !is_bitmap => (Errno::EINVAL, "sets hold no such protocol"),
        err::MISSING_PROTO if !is_bitmap => (Errno::EINVAL, "the protocol is missing"),
        _ => (Errno::EINVAL, "the kernel has no words for it"),
    }
}
