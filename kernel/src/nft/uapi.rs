//! Numbers of `linux/netfilter/nf_tables.h` and `nfnetlink.h`, under the kernel's own names less the prefix `NF`.

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;

pub(super) mod msg {
    use super::SUBSYSTEM;

    const fn of(number: u16) -> u16 {
        SUBSYSTEM << 8 | number
    }
    pub(in super::super) const NEWTABLE: u16 = of(0);
    pub(in super::super) const GETTABLE: u16 = of(1);
    pub(in super::super) const DELTABLE: u16 = of(2);
    pub(in super::super) const NEWCHAIN: u16 = of(3);
    pub(in super::super) const GETCHAIN: u16 = of(4);
    pub(in super::super) const DELCHAIN: u16 = of(5);
    pub(in super::super) const NEWRULE: u16 = of(6);
    pub(in super::super) const GETRULE: u16 = of(7);
    pub(in super::super) const DELRULE: u16 = of(8);
    pub(in super::super) const NEWSET: u16 = of(9);
    pub(in super::super) const GETSET: u16 = of(10);
    pub(in super::super) const DELSET: u16 = of(11);
    pub(in super::super) const NEWSETELEM: u16 = of(12);
    pub(in super::super) const GETSETELEM: u16 = of(13);
    pub(in super::super) const DELSETELEM: u16 = of(14);
    pub(in super::super) const NEWGEN: u16 = of(15);
    pub(in super::super) const GETGEN: u16 = of(16);
    pub(in super::super) const TRACE: u16 = of(17);
}

/// Attributes of a list: `NFTA_LIST_ELEM`.
pub(super) const LIST_ELEM: u16 = 1;

pub(super) mod generation {
    pub(in super::super) const ID: u16 = 1;
    pub(in super::super) const PROC_PID: u16 = 2;
    pub(in super::super) const PROC_NAME: u16 = 3;
}

pub(super) mod trace {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const CHAIN: u16 = 2;
    pub(in super::super) const RULE_HANDLE: u16 = 3;
    pub(in super::super) const TYPE: u16 = 4;
    pub(in super::super) const VERDICT: u16 = 5;
    pub(in super::super) const ID: u16 = 6;
    pub(in super::super) const NETWORK_HEADER: u16 = 8;
    pub(in super::super) const TRANSPORT_HEADER: u16 = 9;
    pub(in super::super) const POLICY: u16 = 16;

    /// `enum nft_trace_types`
    pub(in super::super) const OF_POLICY: u32 = 1;
    pub(in super::super) const OF_RETURN: u32 = 2;
    pub(in super::super) const OF_RULE: u32 = 3;
}

pub(super) mod table {
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const FLAGS: u16 = 2;
    pub(in super::super) const USERDATA: u16 = 6;

    /// It goes with the socket that made it, and nobody else can change it.
    pub(in super::super) const F_OWNER: u32 = 2;
}

pub(super) mod chain {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const NAME: u16 = 3;
    pub(in super::super) const HOOK: u16 = 4;
    pub(in super::super) const POLICY: u16 = 5;
    pub(in super::super) const TYPE: u16 = 7;
    pub(in super::super) const HOOK_HOOKNUM: u16 = 1;
    pub(in super::super) const HOOK_PRIORITY: u16 = 2;
}

pub(super) mod rule {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const CHAIN: u16 = 2;
    pub(in super::super) const HANDLE: u16 = 3;
    pub(in super::super) const EXPRESSIONS: u16 = 4;
    pub(in super::super) const USERDATA: u16 = 7;
}

pub(super) mod set {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const NAME: u16 = 2;
    pub(in super::super) const FLAGS: u16 = 3;
    pub(in super::super) const KEY_TYPE: u16 = 4;
    pub(in super::super) const KEY_LEN: u16 = 5;
    pub(in super::super) const DATA_TYPE: u16 = 6;
    pub(in super::super) const DATA_LEN: u16 = 7;
    pub(in super::super) const DESC: u16 = 9;
    pub(in super::super) const ID: u16 = 10;
    pub(in super::super) const USERDATA: u16 = 13;
    pub(in super::super) const DESC_SIZE: u16 = 1;
    pub(in super::super) const DESC_CONCAT: u16 = 2;
    pub(in super::super) const FIELD_LEN: u16 = 1;

    pub(in super::super) const F_INTERVAL: u32 = 0x4;
    pub(in super::super) const F_MAP: u32 = 0x8;
    pub(in super::super) const F_TIMEOUT: u32 = 0x10;
    pub(in super::super) const F_EVAL: u32 = 0x20;
    pub(in super::super) const F_CONCAT: u32 = 0x80;
}

pub(super) mod element {
    pub(in super::super) const KEY: u16 = 1;
    pub(in super::super) const DATA: u16 = 2;
    pub(in super::super) const FLAGS: u16 = 3;
    pub(in super::super) const USERDATA: u16 = 6;
    pub(in super::super) const KEY_END: u16 = 10;
    pub(in super::super) const F_INTERVAL_END: u32 = 1;

    pub(in super::super) const LIST_TABLE: u16 = 1;
    pub(in super::super) const LIST_SET: u16 = 2;
    pub(in super::super) const LIST_ELEMENTS: u16 = 3;
}

pub(super) mod data {
    /// `NFT_DATA_VERDICT` as a set's data type.
    pub(in super::super) const TYPE_VERDICT: u32 = 0xffff_ff00;
    pub(in super::super) const VALUE: u16 = 1;
    pub(in super::super) const VERDICT: u16 = 2;
    pub(in super::super) const VERDICT_CODE: u16 = 1;
    pub(in super::super) const VERDICT_CHAIN: u16 = 2;
}

/// How libnftnl lays out user data: type, length and value in a byte, a byte and so many bytes.
pub(super) mod userdata {
    /// `NFTNL_UDATA_TABLE_COMMENT`, `_RULE_COMMENT` and `_SET_ELEM_COMMENT` are all 0.
    pub(in super::super) const COMMENT: u8 = 0;
    /// Ours, out of the way of libnftnl's types, which readers skip when they do not know them.
    pub(in super::super) const FINGERPRINT: u8 = 0x70;
    pub(in super::super) const SET_KEYBYTEORDER: u8 = 0;
    pub(in super::super) const SET_DATABYTEORDER: u8 = 1;
    pub(in super::super) const SET_COMMENT: u8 = 7;
    pub(in super::super) const HOST_ENDIAN: u32 = 1;
    pub(in super::super) const BIG_ENDIAN: u32 = 2;
}
