//! `DEL`: what `ADD` made goes, however much of it there is.

use super::record::{Found, Record, Records};
use super::{Request, addresses};
use crate::attach::{self, Wanted};
use crate::ipam::{Boot, Fate};
use crate::spec::{Code, Error};

/// Removes an attachment. That there is none is fine.
pub(super) fn del(request: &Request) -> Result<(), Error> {
    let attachment = request.attachment()?;
    let records = Records::of(&request.config.state_dir);
    let found = records.read(attachment)?;
    let record = match &found {
        Some(Found::Whole(record)) if record.network != request.config.name => {
            // The interface is another network's.
            return addresses::del(request, None);
        }
        Some(Found::Whole(record)) => Some(&**record),
        Some(Found::Torn) | None => None,
    };
    match record {
        Some(record) => detach_recorded(record)?,
        // The record is lost, or there never was one: what we would have made is known by its name.
        None => detach(&Record::skeleton(attachment))?,
    }
    addresses::del(request, record)?;
    records.remove(attachment)
}

/// Removes what a record is about from the kernel. From before it was started, there is nothing.
pub(super) fn detach_recorded(record: &Record) -> Result<(), Error> {
    match &record.wanted {
        Some(wanted) if record.birth.fate(&Boot::current()) != Fate::OlderBoot => detach(wanted),
        _ => Ok(()),
    }
}

/// Removes an interface and what belongs to it.
pub(super) fn detach(wanted: &Wanted) -> Result<(), Error> {
    attach::remove(wanted).map_err(|error| {
        Error::new(Code::INTERFACE, "the interface cannot be removed").with(error.to_string())
    })
}
