//! Asking for one flow by what its client sees of it.

use std::net::SocketAddr;

use nix::errno::Errno;

use super::{
    AF_INET, AF_INET6, CTA_PROTO_DST_PORT, CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_TUPLE_IP, CTA_TUPLE_ORIG,
    CTA_TUPLE_PROTO, Conntrack, Flow, GET, NLM_F_ACK, NLM_F_REQUEST, Writer, flow,
};
use crate::Error;

impl Conntrack {
    /// The flow of a client at `source` that sends to `destination`; none if the kernel does not track it (any more).
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn find(
        &mut self,
        protocol: u8,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<Option<Flow>, Error> {
        let request = |sequence| {
            let mut writer = Writer::default();
            let family = if destination.is_ipv6() { AF_INET6 } else { AF_INET };
            // It is acknowledged so that its answer has an end.
            let flags = NLM_F_REQUEST | NLM_F_ACK;
            writer.message(GET, flags, sequence, (family, 0), |w| tuple(w, protocol, source, destination));
            writer
        };
        match self.socket.dump("a conntrack entry", request, |message, found| found.extend(flow(message))) {
            Ok(found) => Ok(found.into_iter().next()),
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn tuple(w: &mut Writer, protocol: u8, source: SocketAddr, destination: SocketAddr) {
    w.nest(CTA_TUPLE_ORIG, |w| {
        w.nest(CTA_TUPLE_IP, |w| {
            for (side, address) in [(0, source), (1, destination)] {
                match address {
                    SocketAddr::V4(address) => w.attribute(1 + side, &address.ip().octets()),
                    SocketAddr::V6(address) => w.attribute(3 + side, &address.ip().octets()),
                }
            }
        });
        w.nest(CTA_TUPLE_PROTO, |w| {
            w.attribute(CTA_PROTO_NUM, &[protocol]);
            w.attribute(CTA_PROTO_SRC_PORT, &source.port().to_be_bytes());
            w.attribute(CTA_PROTO_DST_PORT, &destination.port().to_be_bytes());
        });
    });
}
