//! Writing messages into one flat buffer.

use super::{HEADER, NLM_F_ACK, align};

const NLA_F_NESTED: u16 = 0x8000;

/// A growing run of netlink messages. Lengths are filled in as each message and nest closes.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    last_message: usize,
}

impl Writer {
    /// Appends a netfilter message: its type, flags, sequence number, and `struct nfgenmsg` (family and resource id).
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        (family, resource): (u8, u16),
        body: impl FnOnce(&mut Self),
    ) {
        let [high, low] = resource.to_be_bytes();
        self.message_with(kind, flags, sequence, [family, 0, high, low], body);
    }

    /// Appends a message: its type, flags, sequence number, and the header of its protocol.
    pub(crate) fn message_with(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        header: impl AsRef<[u8]>,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.last_message = start;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header.as_ref());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the last message.
    pub(crate) fn acknowledge_last(&mut self) {
        let at = self.last_message + 6;
        if let Some(flags) = self.bytes.get_mut(at..at + 2) {
            let value = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
            flags.copy_from_slice(&value.to_ne_bytes());
        }
    }

    pub(crate) fn attribute(&mut self, kind: u16, payload: &[u8]) {
        self.attribute_header(kind, payload.len());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    /// A string with its terminating NUL.
    pub(crate) fn string(&mut self, kind: u16, text: &str) {
        self.attribute_header(kind, text.len() + 1);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// A number in the host's byte order.
    pub(crate) fn ne32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Bytes without a header of their own: a structure that an attribute begins with, before attributes within.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.open_nest(kind);
        body(self);
        self.close_nest(start);
    }

    /// Opens a nest that is closed by [`Writer::close_nest`] with what this returns: for lists cut by size.
    pub(crate) fn open_nest(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.attribute_header(kind | NLA_F_NESTED, 0);
        start
    }

    pub(crate) fn close_nest(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn attribute_header(&mut self, kind: u16, payload: usize) {
        let length = u16::try_from(payload + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

const _: () = assert!(HEADER == 16, "Writer::message writes the header field by field");
