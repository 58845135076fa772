//! `GC`: what belongs to attachments that the runtime does not know of goes.

use super::record::{Found, Records};
use super::{Request, addresses, del};
use crate::spec::{Attachment, Code, Error};

/// Removes all attachments of the network but those that are valid. What cannot be removed keeps nothing else.
pub(super) fn gc(request: &Request) -> Result<(), Error> {
    let Some(valid) = &request.config.valid else {
        // Taken for an empty list, it would remove every pod's interface.
        let why = "GC needs cni.dev/valid-attachments";
        return Err(Error::new(Code::CONFIG, "the list of valid attachments is missing").with(why));
    };
    let records = Records::of(&request.config.state_dir);
    let mut failures = Vec::new();
    // What cannot be removed keeps its addresses: they may still lead there.
    let mut kept = valid.clone();
    for (attachment, found) in records.list()? {
        let is_ours = match &found {
            Found::Whole(record) => record.network == request.config.name,
            // Nothing had been made when it was torn, whosever it was; and if somebody changed it later, DEL goes by
            // names.
            Found::Torn => true,
        };
        if is_ours
            && !valid.contains(&attachment)
            && let Err(error) = remove(request, &records, &attachment, &found)
        {
            failures.push(error);
            kept.push(attachment);
        }
    }
    failures.extend(addresses::gc(request, &kept).err());
    if failures.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = failures.iter().map(ToString::to_string).collect();
    Err(Error::new(Code::LEFT_OVER, "not everything could be removed").with(all.join("; ")))
}

fn remove(request: &Request, records: &Records, attachment: &Attachment, found: &Found) -> Result<(), Error> {
    let record = match found {
        Found::Whole(record) => Some(&**record),
        Found::Torn => None,
    };
    if let Some(record) = record {
        del::detach_recorded(record)?;
    }
    addresses::forget(request, attachment, record)?;
    records.remove(attachment)
}
