//! Taking marks off flows.

use super::{
    AF_INET, AF_INET6, CTA_TUPLE_ORIG, CTA_ZONE, Conntrack, GET, Message, NESTED, NLM_F_ACK, NLM_F_DUMP,
    NLM_F_REQUEST, SUBSYSTEM, Writer,
};
use crate::Error;

/// `IPCTNL_MSG_CT_NEW`, which changes an entry that is there.
const CHANGE: u16 = SUBSYSTEM << 8;
const CTA_MARK: u16 = 8;
const CTA_MARK_MASK: u16 = 21;

/// By what the kernel finds a flow again.
struct Marked {
    family: u8,
    tuple: Vec<u8>,
    zone: Option<Vec<u8>>,
}

impl Conntrack {
    /// Clears these bits of the marks of all flows of both families, whatever their protocol, and says how many had
    /// any of them.
    ///
    /// # Errors
    /// When the table cannot be read or the kernel refuses.
    pub fn clear_marks(&mut self, mask: u32) -> Result<usize, Error> {
        let mut cleared = 0;
        for family in [AF_INET, AF_INET6] {
            let marked = self.socket.dump(
                "marked conntrack entries",
                |sequence| request(family, mask, sequence),
                |message, found| found.extend(marked(message, family, mask)),
            )?;
            cleared +=
                self.each_still_there("clear marks of conntrack entries", &marked, |w, sequence, flow| {
                    w.message(CHANGE, NLM_F_REQUEST | NLM_F_ACK, sequence, (flow.family, 0), |w| {
                        w.attribute(CTA_TUPLE_ORIG | NESTED, &flow.tuple);
                        if let Some(zone) = &flow.zone {
                            w.attribute(CTA_ZONE, zone);
                        }
                        w.be32(CTA_MARK, 0);
                        w.be32(CTA_MARK_MASK, mask);
                    });
                })?;
        }
        Ok(cleared)
    }
}

/// The kernel can filter by what all masked bits are, so by whether any is set only if there is one.
fn request(family: u8, mask: u32, sequence: u32) -> Writer {
    let mut writer = Writer::default();
    writer.message(GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, (family, 0), |w| {
        if mask.is_power_of_two() {
            w.be32(CTA_MARK, mask);
            w.be32(CTA_MARK_MASK, mask);
        }
    });
    writer
}

fn marked(message: &Message<'_>, family: u8, mask: u32) -> Option<Marked> {
    let attributes = message.attributes();
    let has_any = attributes.be32(CTA_MARK).unwrap_or_default() & mask != 0;
    if !has_any || message.family() != family {
        return None;
    }
    Some(Marked {
        family,
        tuple: attributes.get(CTA_TUPLE_ORIG)?.to_vec(),
        zone: attributes.get(CTA_ZONE).map(<[u8]>::to_vec),
    })
}
