//! For whoever throws bytes at the decoders: `kernel/fuzz`, and a property here.

use super::read;
use super::types::{Destination, Frontend, Operation};
use super::write::Requests;
use crate::netlink::{Message, Writer, messages};

/// Decodes bytes, as a message of generic netlink and as a datagram of such, in every way that an answer is decoded.
///
/// # Panics
/// When what is found is not what is found again once it is written.
pub fn decode(bytes: &[u8]) {
    decode_message(&Message { kind: 0, flags: 0, sequence: 0, port: 0, payload: bytes });
    messages(bytes).for_each(|message| decode_message(&message));
}

fn decode_message(message: &Message<'_>) {
    let _ = (read::family(message), read::timeouts(message));
    if let Some(server) = read::server(message) {
        let again = read_back(Operation::AddServer(server), read::server);
        assert_eq!(again, Some(server));
    }
    for ipv6 in [false, true] {
        let of = Frontend::Mark { ipv6, mark: 1 };
        if let Some(Destination { target, weight, .. }) = read::destination(message, of) {
            let again = read_back(Operation::AddDestination(of, target, weight), |message| {
                read::destination(message, of).map(|found| (found.target, found.weight))
            });
            assert_eq!(again, Some((target, weight)));
        }
    }
}

/// Writes an operation, whose attributes are also those of an answer, and reads it.
pub(super) fn read_back<T>(operation: Operation, read: impl Fn(&Message<'_>) -> Option<T>) -> Option<T> {
    let mut writer = Writer::default();
    Requests(0).operation(&mut writer, &operation, 0);
    messages(writer.bytes()).find_map(|message| read(&message))
}
