//! The way to the kernel: attaches, detaches and lists.

use nix::errno::Errno;

use super::types::{Bucket, Qdisc, QdiscKind};
use super::uapi::{
    ALL_PROTOCOLS, DELQDISC, EGRESS_REDIR, ETHERNET, FILTER_PRIORITY, GETQDISC, GETTFILTER, INGRESS,
    INGRESS_HANDLE, MIRRED, NEWQDISC, NEWTFILTER, RATESPEC, ROOT, STOLEN, TBF_QOPT, TCA_ACT_KIND,
    TCA_ACT_OPTIONS, TCA_KIND, TCA_MIRRED_PARMS, TCA_OPTIONS, TCA_TBF_BURST, TCA_TBF_PARMS, TCA_TBF_RATE64,
    TCA_U32_ACT, TCA_U32_SEL, TCMSG, TERMINAL, TICK, U32_NKEYS, U32_SEL_WITH_KEY,
};
use crate::Error;
use crate::netlink::{
    Attributes, Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, Protocol,
    Socket, Writer,
};

/// A connection to traffic control in the network namespace that the process is in.
pub struct Qdiscs {
    socket: Socket,
}

impl Qdiscs {
    /// Opens a connection. It may be kept for as long as the process lives.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// Has a device send through a token bucket, in place of what it has.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel has no token buckets; when it refuses.
    pub fn limit(&mut self, link: u32, bucket: &Bucket) -> Result<(), Error> {
        let operation = || format!("limit what device {link} sends");
        let done = self.socket.command(
            NEWQDISC,
            NLM_F_CREATE | NLM_F_REPLACE,
            header(link, 0, ROOT, 0),
            operation,
            |w| {
                w.string(TCA_KIND, "tbf");
                w.nest(TCA_OPTIONS, |w| write_bucket(w, bucket));
            },
        );
        unsupported(done, "token buckets (module sch_tbf)")
    }

    /// Removes what a device sends through, so that it has the kernel's own again. None there is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unlimit(&mut self, link: u32) -> Result<(), Error> {
        self.detach(header(link, 0, ROOT, 0), || format!("remove the queueing discipline of device {link}"))
    }

    /// Leads all that a device receives to another one, as if that were to send it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel lacks what it takes; when it refuses, or something was attached already.
    pub fn redirect(&mut self, from: u32, to: u32) -> Result<(), Error> {
        let operation = || format!("redirect what device {from} receives to device {to}");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let attached =
            self.socket.command(NEWQDISC, flags, header(from, INGRESS_HANDLE, INGRESS, 0), operation, |w| {
                w.string(TCA_KIND, "ingress");
            });
        unsupported(attached, "classifying what comes in (module sch_ingress)")?;
        let info = FILTER_PRIORITY << 16 | u32::from(ALL_PROTOCOLS.to_be());
        let led =
            self.socket.command(NEWTFILTER, flags, header(from, 0, INGRESS_HANDLE, info), operation, |w| {
                w.string(TCA_KIND, "u32");
                w.nest(TCA_OPTIONS, |w| write_redirection(w, to));
            });
        unsupported(led, "redirecting what comes in (modules cls_u32 and act_mirred)")
    }

    /// Ends a redirection. None there is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn end_redirection(&mut self, from: u32) -> Result<(), Error> {
        self.detach(header(from, INGRESS_HANDLE, INGRESS, 0), || {
            format!("end the redirection of what device {from} receives")
        })
    }

    /// What is attached to a device.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn list(&mut self, link: u32) -> Result<Vec<Qdisc>, Error> {
        let request = |sequence| {
            let mut writer = Writer::default();
            let header = header(link, 0, 0, 0);
            writer.message_with(GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, sequence, header, |_| {});
            writer
        };
        // The kernel may list those of all devices.
        self.socket.dump("queueing disciplines", request, |message, found| {
            found.extend(qdisc(message).filter(|qdisc| qdisc.link == link));
        })
    }

    /// Index of the device that what a device receives is redirected to.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn redirected_to(&mut self, from: u32) -> Result<Option<u32>, Error> {
        let request = |sequence| {
            let mut writer = Writer::default();
            let header = header(from, 0, INGRESS_HANDLE, 0);
            writer.message_with(GETTFILTER, NLM_F_REQUEST | NLM_F_DUMP, sequence, header, |_| {});
            writer
        };
        let found = self.socket.dump("classifiers", request, |message, found| {
            found.extend((message.kind == NEWTFILTER).then(|| redirection(message)).flatten());
        });
        match found {
            Ok(found) => Ok(found.into_iter().next()),
            Err(Error::Refused { errno: Errno::EINVAL | Errno::ENODEV | Errno::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn detach(&mut self, header: [u8; TCMSG], operation: impl Fn() -> String) -> Result<(), Error> {
        match self.socket.command(DELQDISC, 0, header, operation, |_| {}) {
            // No device, or only what every device has.
            Err(Error::Refused { errno: Errno::ENOENT | Errno::EINVAL | Errno::ENODEV, .. }) => Ok(()),
            done => done,
        }
    }
}

fn header(link: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut header = [0; TCMSG];
    for (at, value) in [(4, link), (8, handle), (12, parent), (16, info)] {
        header[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

fn write_bucket(w: &mut Writer, bucket: &Bucket) {
    let mut parameters = [0; TBF_QOPT];
    parameters[1] = ETHERNET;
    // A rate that has no room here is told beside it.
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    parameters[8..12].copy_from_slice(&rate.to_ne_bytes());
    let limit = 2 * RATESPEC;
    parameters[limit..limit + 4].copy_from_slice(&bucket.limit().to_ne_bytes());
    w.attribute(TCA_TBF_PARMS, &parameters);
    w.ne32(TCA_TBF_BURST, bucket.burst);
    if u32::try_from(bucket.rate).is_err() {
        w.attribute(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
    }
}

fn write_redirection(w: &mut Writer, to: u32) {
    let mut everything = [0; U32_SEL_WITH_KEY];
    everything[0] = TERMINAL;
    everything[U32_NKEYS] = 1;
    w.attribute(TCA_U32_SEL, &everything);
    let mut parameters = [0; MIRRED];
    for (at, value) in [(8, STOLEN), (20, EGRESS_REDIR), (24, to)] {
        parameters[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    w.nest(TCA_U32_ACT, |w| {
        w.nest(1, |w| {
            w.string(TCA_ACT_KIND, "mirred");
            w.nest(TCA_ACT_OPTIONS, |w| w.attribute(TCA_MIRRED_PARMS, &parameters));
        });
    });
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn qdisc(message: &Message<'_>) -> Option<Qdisc> {
    let (header, rest) = message.payload.split_first_chunk::<TCMSG>()?;
    let attributes = Attributes(rest);
    (message.kind == NEWQDISC).then_some(())?;
    let name = attributes.string(TCA_KIND)?;
    let kind = match name {
        "ingress" => QdiscKind::Ingress,
        "tbf" => attributes.nested(TCA_OPTIONS).and_then(bucket)?,
        other => QdiscKind::Other(other.to_owned()),
    };
    Some(Qdisc { link: u32_at(header, 4)?, is_root: u32_at(header, 12)? == ROOT, kind })
}

fn bucket(options: Attributes<'_>) -> Option<QdiscKind> {
    let parameters = options.get(TCA_TBF_PARMS)?;
    let wide = options.get(TCA_TBF_RATE64).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
    let rate = wide.or_else(|| u32_at(parameters, 8).map(u64::from))?;
    // The time that it takes to send the burst.
    let ticks = u64::from(u32_at(parameters, 2 * RATESPEC + 4)?);
    let burst = u128::from(ticks * TICK) * u128::from(rate) / 1_000_000_000;
    Some(QdiscKind::Bucket { rate, burst: u64::try_from(burst).unwrap_or(u64::MAX) })
}

fn redirection(message: &Message<'_>) -> Option<u32> {
    let (_, rest) = message.payload.split_first_chunk::<TCMSG>()?;
    let attributes = Attributes(rest);
    let actions = attributes.nested(TCA_OPTIONS)?.nested(TCA_U32_ACT)?;
    let parameters = actions
        .into_iter()
        .map(|(_, action)| Attributes(action))
        .find(|action| action.string(TCA_ACT_KIND) == Some("mirred"))?
        .nested(TCA_ACT_OPTIONS)?
        .get(TCA_MIRRED_PARMS)?;
    (u32_at(parameters, 20)? == EGRESS_REDIR).then(|| u32_at(parameters, 24)).flatten()
}

fn unsupported(done: Result<(), Error>, what: &'static str) -> Result<(), Error> {
    match done {
        Err(Error::Refused { errno: Errno::ENOENT | Errno::EOPNOTSUPP, .. }) => {
            Err(Error::Unsupported { what })
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let message = Message { kind: NEWQDISC, flags: 0, sequence: 0, port: 0, payload: &bytes };
            let _ = (qdisc(&message), redirection(&message), bucket(Attributes(&bytes)));
        }
    }
}
