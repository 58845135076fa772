//! Reading messages. What does not parse is left out; nothing here can panic.

use super::types::Way;
use super::uapi::{LOCAL, NEWROUTE, RTA_GATEWAY, RTA_OIF, RTA_VIA, RTMSG};
use crate::netlink::{Attributes, Message};

/// A route that the kernel would take.
pub(super) fn way(message: &Message<'_>) -> Option<Way> {
    let (header, rest) = message.payload.split_first_chunk::<RTMSG>()?;
    let [_, _, _, _, _, _, _, kind, ..] = *header;
    let attributes = Attributes(rest);
    let link = attributes.get(RTA_OIF)?.first_chunk()?;
    (message.kind == NEWROUTE).then(|| Way {
        local: kind == LOCAL,
        gateway: attributes.get(RTA_GATEWAY).or_else(|| attributes.get(RTA_VIA)).is_some(),
        link: u32::from_ne_bytes(*link),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let message = Message { kind: NEWROUTE, flags: 0, sequence: 0, port: 0, payload: &bytes };
            let _ = way(&message);
        }
    }
}
