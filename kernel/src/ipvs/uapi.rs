//! Numbers of `linux/ip_vs.h` and `linux/genetlink.h`, under the kernel's own names less their prefixes.

/// `IPVS_GENL_NAME`: what the family is asked for by.
pub(super) const FAMILY: &str = "IPVS";
/// `IPVS_GENL_VERSION`
pub(super) const VERSION: u8 = 1;

/// `AF_INET` and `AF_INET6`, in two bytes as `IPVS_SVC_ATTR_AF` has them.
pub(super) const AF_INET: u16 = 2;
pub(super) const AF_INET6: u16 = 10;

/// The family that tells of families: `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_*`.
pub(super) mod control {
    pub(in super::super) const KIND: u16 = 16;
    pub(in super::super) const VERSION: u8 = 1;
    pub(in super::super) const GETFAMILY: u8 = 3;
    pub(in super::super) const FAMILY_ID: u16 = 1;
    pub(in super::super) const FAMILY_NAME: u16 = 2;
}

/// `IPVS_CMD_*`
pub(super) mod command {
    pub(in super::super) const NEW_SERVICE: u8 = 1;
    pub(in super::super) const SET_SERVICE: u8 = 2;
    pub(in super::super) const DEL_SERVICE: u8 = 3;
    pub(in super::super) const GET_SERVICE: u8 = 4;
    pub(in super::super) const NEW_DEST: u8 = 5;
    pub(in super::super) const SET_DEST: u8 = 6;
    pub(in super::super) const DEL_DEST: u8 = 7;
    pub(in super::super) const GET_DEST: u8 = 8;
    pub(in super::super) const SET_CONFIG: u8 = 12;
    pub(in super::super) const GET_CONFIG: u8 = 13;
    pub(in super::super) const FLUSH: u8 = 17;
}

/// `IPVS_CMD_ATTR_*`
pub(super) mod attribute {
    pub(in super::super) const SERVICE: u16 = 1;
    pub(in super::super) const DEST: u16 = 2;
    pub(in super::super) const TIMEOUT_TCP: u16 = 4;
    pub(in super::super) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(in super::super) const TIMEOUT_UDP: u16 = 6;
}

/// `IPVS_SVC_ATTR_*`
pub(super) mod service {
    pub(in super::super) const AF: u16 = 1;
    pub(in super::super) const PROTOCOL: u16 = 2;
    pub(in super::super) const ADDR: u16 = 3;
    pub(in super::super) const PORT: u16 = 4;
    pub(in super::super) const FWMARK: u16 = 5;
    pub(in super::super) const SCHED_NAME: u16 = 6;
    pub(in super::super) const FLAGS: u16 = 7;
    pub(in super::super) const TIMEOUT: u16 = 8;
    pub(in super::super) const NETMASK: u16 = 9;
}

/// `IPVS_DEST_ATTR_*`
pub(super) mod destination {
    pub(in super::super) const ADDR: u16 = 1;
    pub(in super::super) const PORT: u16 = 2;
    pub(in super::super) const FWD_METHOD: u16 = 3;
    pub(in super::super) const WEIGHT: u16 = 4;
    pub(in super::super) const U_THRESH: u16 = 5;
    pub(in super::super) const L_THRESH: u16 = 6;
    pub(in super::super) const ACTIVE_CONNS: u16 = 7;
    pub(in super::super) const INACT_CONNS: u16 = 8;
    pub(in super::super) const PERSIST_CONNS: u16 = 9;
    pub(in super::super) const STATS: u16 = 10;
    pub(in super::super) const ADDR_FAMILY: u16 = 11;
    pub(in super::super) const STATS64: u16 = 12;
}

/// `IPVS_STATS_ATTR_*`
pub(super) mod stats {
    pub(in super::super) const CONNS: u16 = 1;
    pub(in super::super) const INPKTS: u16 = 2;
    pub(in super::super) const OUTPKTS: u16 = 3;
    pub(in super::super) const INBYTES: u16 = 4;
    pub(in super::super) const OUTBYTES: u16 = 5;
}

/// `IP_VS_SVC_F_*`
pub(super) mod flag {
    pub(in super::super) const PERSISTENT: u32 = 0x1;
    /// The kernel's own: what is in its table.
    pub(in super::super) const HASHED: u32 = 0x2;
    pub(in super::super) const ONEPACKET: u32 = 0x4;
    pub(in super::super) const SCHED1: u32 = 0x8;
    pub(in super::super) const SCHED2: u32 = 0x10;
    pub(in super::super) const SCHED3: u32 = 0x20;
}

/// `IP_VS_CONN_F_FWD_MASK`: what of `IPVS_DEST_ATTR_FWD_METHOD` is the method.
pub(super) const FORWARDING: u32 = 0x7;
/// `IP_VS_CONN_F_MASQ`
pub(super) const MASQUERADE: u32 = 0;
