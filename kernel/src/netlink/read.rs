//! Reading messages and attributes out of a datagram. Bounds are checked everywhere: nothing here can panic.

use super::{HEADER, NFGENMSG, align};

const TYPE_MASK: u16 = 0x3fff;

/// One message of a datagram.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Of the socket that the message came from, or whose request caused it.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes of a netfilter message: what follows `struct nfgenmsg`.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(NFGENMSG..).unwrap_or_default())
    }

    /// The address family in `struct nfgenmsg`.
    pub(crate) fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }
}

/// The messages of a datagram, up to the first that does not parse.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32_at(rest, 0)? as usize;
        let whole = rest.get(..length).filter(|whole| whole.len() >= HEADER)?;
        rest = rest.get(align(length)..).unwrap_or_default();
        Some(Message {
            kind: u16_at(whole, 4)?,
            flags: u16_at(whole, 6)?,
            sequence: u32_at(whole, 8)?,
            port: u32_at(whole, 12)?,
            payload: &whole[HEADER..],
        })
    })
}

/// The attributes of a message or nest: an iterator of type and payload.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of a type.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(found, _)| *found == kind).map(|(_, payload)| payload)
    }

    /// The attributes within an attribute.
    pub(crate) fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }

    /// A string, without its terminating NUL.
    pub(crate) fn string(self, kind: u16) -> Option<&'a str> {
        let payload = self.get(kind)?;
        let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
        std::str::from_utf8(&payload[..end]).ok()
    }

    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.get(..4)?.try_into().ok()?))
    }

    pub(crate) fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.get(..8)?.try_into().ok()?))
    }
}

impl<'a> IntoIterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = AttributeIterator<'a>;

    fn into_iter(self) -> Self::IntoIter {
        AttributeIterator { rest: self.0 }
    }
}

/// Walks attributes, up to the first that does not parse.
pub(crate) struct AttributeIterator<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for AttributeIterator<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.rest, 0)?);
        let kind = u16_at(self.rest, 2)? & TYPE_MASK;
        let payload = self.rest.get(4..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some((kind, payload))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Writer;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.message(7, 1, 42, (2, 10), |w| {
            w.string(1, "filter");
            w.nest(2, |w| w.be32(3, 5));
        });
        writer.message(8, 1, 43, (2, 10), |w| w.be64(4, 1 << 40));
        let read: Vec<_> = messages(writer.bytes()).collect();
        assert_eq!((read.len(), read[0].kind, read[0].sequence, read[0].family()), (2, 7, 42, 2));
        assert_eq!(read[0].attributes().string(1), Some("filter"));
        assert_eq!(read[0].attributes().nested(2).and_then(|nest| nest.be32(3)), Some(5));
        assert_eq!(read[1].attributes().be64(4), Some(1 << 40));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end_the_walk_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for message in messages(&bytes) {
                let walked: usize = message.attributes().into_iter().map(|(_, payload)| payload.len()).sum();
                prop_assert!(walked <= bytes.len());
                let _ = (message.attributes().string(1), message.attributes().be32(2), message.attributes().be64(3));
            }
        }
    }
}
