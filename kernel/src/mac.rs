//! Hardware addresses.

use std::fmt;
use std::str::FromStr;

/// A hardware address of Ethernet (EUI-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// What stands for everybody at once in a forwarding database: where frames go that no other entry is for.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether it can be one device's: neither nobody's nor a group's.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self != Self::ZERO && self.0[0] & 1 == 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is no hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hardware address is six bytes in hexadecimal, as in 0a:58:0a:f4:01:02")]
pub struct NoMac;

impl FromStr for Mac {
    type Err = NoMac;

    fn from_str(text: &str) -> Result<Self, NoMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(NoMac)?;
            // `from_str_radix` takes a sign.
            let digits = part.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = digits.then(|| u8::from_str_radix(part, 16).ok()).flatten().ok_or(NoMac)?;
        }
        if parts.next().is_some() { Err(NoMac) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mac = Mac([0x0a, 0x58, 0, 0xff, 1, 2]);
        assert_eq!(mac.to_string(), "0a:58:00:ff:01:02");
        assert_eq!("0A:58:00:ff:01:02".parse(), Ok(mac));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "0a:58:00:ff:01",
            "0a:58:00:ff:01:02:03",
            "0a:58:00:ff:01:+2",
            "0a-58-00-ff-01-02",
            "é:58:0:f:1:2",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NoMac), "{text}");
        }
    }

    #[test]
    fn groups_and_nobody_are_no_device() {
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!Mac([1, 0, 0x5e, 0, 0, 1]).is_unicast() && !Mac::ZERO.is_unicast());
    }
}
