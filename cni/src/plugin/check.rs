//! `CHECK`: is everything as `ADD` left it?

use super::record::{Found, Record, Records};
use super::{Request, addresses};
use crate::attach;
use crate::spec::{Code, Error, Outcome};

/// Compares what there is with what was made.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    let attachment = request.attachment()?;
    let Some(previous) = &request.config.previous else {
        let why = "CHECK needs what ADD told of the container";
        return Err(Error::new(Code::CONFIG, "prevResult is missing").with(why));
    };
    let records = Records::of(&request.config.state_dir);
    let unknown =
        |why: &str| Error::new(Code::UNKNOWN_CONTAINER, format!("{attachment} is unknown")).with(why);
    let record = match records.read(attachment)? {
        Some(Found::Whole(record)) if record.network == request.config.name => record,
        Some(Found::Whole(record)) => {
            return Err(unknown(&format!("it belongs to network {}", record.network)));
        }
        Some(Found::Torn) => return Err(differs("its record cannot be understood")),
        None => {
            return Err(unknown(&format!(
                "there is no record of it in {}",
                request.config.state_dir.display()
            )));
        }
    };
    let Some(wanted) = &record.wanted else { return Err(differs("it was never finished")) };
    compare(previous, &record)?;
    attach::check(wanted).map_err(|error| differs(&error.to_string()))?;
    addresses::check(request, &record)
}

fn differs(why: &str) -> Error {
    Error::new(Code::NOT_AS_MADE, "the interface is not as it was made").with(why)
}

/// Whether what the runtime remembers is what we do. Plugins that came after may have added to it.
fn compare(previous: &Outcome, record: &Record) -> Result<(), Error> {
    let name = &record.attachment.interface;
    let is_pods = |at: usize| {
        let interface = previous.interfaces.get(at);
        interface.is_some_and(|interface| interface.name == *name && !interface.sandbox.is_empty())
    };
    if !(0..previous.interfaces.len()).any(is_pods) {
        return Err(differs(&format!("prevResult knows no interface {name} in the container")));
    }
    let assigned = record.wanted.iter().flat_map(|wanted| &wanted.addresses);
    for address in assigned.map(|assigned| assigned.address.addr()) {
        if !previous.ips.iter().any(|ip| ip.address.addr() == address && ip.interface.is_none_or(is_pods)) {
            return Err(differs(&format!("prevResult does not know of {address}")));
        }
    }
    Ok(())
}
