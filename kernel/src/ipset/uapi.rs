//! Numbers of `linux/netfilter/ipset/ip_set.h`, under the kernel's own names less the prefix `IPSET`.

/// `NFNL_SUBSYS_IPSET`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 6;

/// The newest protocol that is spoken here, and the oldest. They differ in what is not used: indices of sets.
pub(super) const PROTOCOL: u8 = 7;
pub(super) const PROTOCOL_MIN: u8 = 6;

/// `IPSET_MAXNAMELEN`, less the terminating NUL.
pub(super) const MAX_NAME: usize = 31;

/// `NLA_F_NET_BYTEORDER`: without it the kernel refuses numbers and addresses.
pub(super) const NET_BYTEORDER: u16 = 0x4000;

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// `IPSET_CMD_*`
pub(super) mod cmd {
    use super::SUBSYSTEM;

    const fn of(number: u16) -> u16 {
        SUBSYSTEM << 8 | number
    }
    pub(in super::super) const PROTOCOL: u16 = of(1);
    pub(in super::super) const CREATE: u16 = of(2);
    pub(in super::super) const DESTROY: u16 = of(3);
    pub(in super::super) const FLUSH: u16 = of(4);
    pub(in super::super) const SWAP: u16 = of(6);
    pub(in super::super) const LIST: u16 = of(7);
    pub(in super::super) const ADD: u16 = of(9);
    pub(in super::super) const DEL: u16 = of(10);
    pub(in super::super) const TYPE: u16 = of(13);
}

/// `IPSET_ATTR_*` at the level of commands.
pub(super) mod attr {
    pub(in super::super) const PROTOCOL: u16 = 1;
    pub(in super::super) const SETNAME: u16 = 2;
    pub(in super::super) const TYPENAME: u16 = 3;
    pub(in super::super) const SETNAME2: u16 = 3;
    pub(in super::super) const REVISION: u16 = 4;
    pub(in super::super) const FAMILY: u16 = 5;
    pub(in super::super) const FLAGS: u16 = 6;
    pub(in super::super) const DATA: u16 = 7;
    pub(in super::super) const ADT: u16 = 8;
    pub(in super::super) const PROTOCOL_MIN: u16 = 10;
    pub(in super::super) const REVISION_MIN: u16 = 10;
}

/// `IPSET_ATTR_*` within the data of a set or an entry.
pub(super) mod data {
    pub(in super::super) const IP: u16 = 1;
    pub(in super::super) const CIDR: u16 = 3;
    pub(in super::super) const PORT: u16 = 4;
    pub(in super::super) const PORT_TO: u16 = 5;
    pub(in super::super) const PROTO: u16 = 7;
    /// Of sets.
    pub(in super::super) const MAXELEM: u16 = 19;
    pub(in super::super) const ELEMENTS: u16 = 24;
    pub(in super::super) const REFERENCES: u16 = 25;
    /// Of entries.
    pub(in super::super) const IP2: u16 = 20;
    pub(in super::super) const CIDR2: u16 = 21;
    /// Within an address.
    pub(in super::super) const IPADDR_IPV4: u16 = 1;
    pub(in super::super) const IPADDR_IPV6: u16 = 2;
}

/// `IPSET_FLAG_LIST_HEADER`
pub(super) const LIST_HEADER: u32 = 1 << 2;

/// `IPSET_ERR_*`
pub(super) mod err {
    pub(in super::super) const PRIVATE: i32 = 4096;
    pub(in super::super) const PROTOCOL: i32 = 4097;
    pub(in super::super) const FIND_TYPE: i32 = 4098;
    pub(in super::super) const MAX_SETS: i32 = 4099;
    pub(in super::super) const BUSY: i32 = 4100;
    pub(in super::super) const EXIST_SETNAME2: i32 = 4101;
    pub(in super::super) const TYPE_MISMATCH: i32 = 4102;
    pub(in super::super) const EXIST: i32 = 4103;
    pub(in super::super) const INVALID_CIDR: i32 = 4104;
    pub(in super::super) const INVALID_FAMILY: i32 = 4106;
    pub(in super::super) const REFERENCED: i32 = 4108;
    pub(in super::super) const IPADDR_IPV4: i32 = 4109;
    pub(in super::super) const IPADDR_IPV6: i32 = 4110;
    /// From here on, numbers depend on the kind of set.
    pub(in super::super) const BITMAP_RANGE: i32 = 4352;
    pub(in super::super) const HASH_FULL: i32 = 4352;
    pub(in super::super) const HASH_ELEM: i32 = 4353;
    pub(in super::super) const INVALID_PROTO: i32 = 4354;
    pub(in super::super) const MISSING_PROTO: i32 = 4355;
}
