//! Addresses for an attachment, from whoever chooses them: we ourselves, in this process, or another plugin.

use std::net::IpAddr;

use super::delegate::{self, Ask};
use super::record::{Chooser, Found, Record, Records};
use super::{Request, del, warn};
use crate::ipam::{self, Birth, Lease};
use crate::network::Published;
use crate::spec::{Attachment, Code, Error, Ipam, Outcome, OwnIpam, asked_address};

/// Who chooses.
pub(super) fn chooser(request: &Request) -> Chooser {
    match &request.config.ipam {
        Ipam::Own(own) => Chooser::Own(own.data_dir.clone()),
        Ipam::Plugin(name) => Chooser::Plugin(name.clone()),
    }
}

/// Has addresses chosen. On failure, none is taken.
pub(super) fn add(request: &Request, birth: &Birth, published: Option<&Published>) -> Result<Outcome, Error> {
    match &request.config.ipam {
        Ipam::Own(own) => add_own(request, own, birth, published, &|gone| close_after(request, gone)),
        Ipam::Plugin(name) => add_by(name, request),
    }
}

/// Whoever gets the address of an attachment that is gone must not get what is sent to its ports. `DEL` is still to come.
fn close_after(request: &Request, gone: &Attachment) {
    let records = Records::of(&request.config.state_dir);
    let closed = match records.read(gone) {
        Ok(Some(Found::Whole(record))) if record.network == request.config.name => {
            del::detach_recorded(&record)
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = closed {
        warn(&format!("{gone} is gone, and its address free, but not all of it: {error}"));
    }
}

/// Chooses them.
pub(super) fn add_own(
    request: &Request,
    own: &OwnIpam,
    birth: &Birth,
    published: Option<&Published>,
    gone: &dyn Fn(&Attachment),
) -> Result<Outcome, Error> {
    let requested = requested(request, own)?;
    ipam::add(&Lease {
        network: &request.config.name,
        ipam: own,
        published,
        attachment: request.attachment()?,
        birth,
        requested: &requested,
        gone,
    })
}

/// The addresses that are asked for, by each of the three ways there are.
fn requested(request: &Request, own: &OwnIpam) -> Result<Vec<IpAddr>, Error> {
    let args = request.environment.arguments.get("IP").unwrap_or_default();
    let args = args.split(',').filter(|text| !text.is_empty()).map(|text| (text, "IP in CNI_ARGS"));
    let config = own.requested.iter().map(|text| (text.as_str(), "the list of addresses asked for"));
    args.chain(config).map(|(text, who)| asked_address(text.trim(), who)).collect()
}

fn add_by(name: &str, request: &Request) -> Result<Outcome, Error> {
    let said = delegate::run(name, request, Ask::Same)?;
    let outcome = serde_json::from_slice(&said)
        .map_err(|error| Error::new(Code::DECODING, error.to_string()))
        .and_then(|value| Outcome::from_json(&value, "the result"));
    let why = match outcome {
        Ok(outcome) if !outcome.ips.is_empty() => return Ok(outcome),
        Ok(_) => "it gave no address".to_owned(),
        Err(error) => error.details,
    };
    if let Err(error) = delegate::run(name, request, Ask::Undo) {
        warn(&format!("cannot take back what IPAM plugin {name} gave: {error}"));
    }
    Err(Error::new(Code::DELEGATE, format!("IPAM plugin {name} gave a result that makes no sense")).with(why))
}

/// Gives back what `add` has just taken.
pub(super) fn undo(request: &Request) -> Result<(), Error> {
    match &request.config.ipam {
        Ipam::Own(own) => ipam::del(&own.data_dir, &request.config.name, request.attachment()?),
        Ipam::Plugin(name) => delegate::run(name, request, Ask::Undo).map(|_| ()),
    }
}

/// Gives back what an attachment has, when its runtime says that it is no more.
pub(super) fn del(request: &Request, record: Option<&Record>) -> Result<(), Error> {
    let attachment = request.attachment()?;
    // Whoever changes the configuration meanwhile must not lose what was taken before.
    if let Some(Record { ipam: Chooser::Own(data_dir), .. }) = record
        && chooser(request) != Chooser::Own(data_dir.clone())
    {
        ipam::del(data_dir, &request.config.name, attachment)?;
    }
    match &request.config.ipam {
        Ipam::Own(own) => ipam::del(&own.data_dir, &request.config.name, attachment),
        Ipam::Plugin(name) => delegate::run(name, request, Ask::Same).map(|_| ()),
    }
}

/// Gives back what an attachment has that no runtime knows of any more.
pub(super) fn forget(
    request: &Request,
    attachment: &Attachment,
    record: Option<&Record>,
) -> Result<(), Error> {
    match record.map(|record| (&record.ipam, record.birth.netns.as_deref())) {
        Some((Chooser::Own(data_dir), _)) => ipam::del(data_dir, &request.config.name, attachment),
        Some((Chooser::Plugin(name), netns)) => {
            delegate::run(name, request, Ask::Forget(attachment, netns)).map(|_| ())
        }
        None => match &request.config.ipam {
            Ipam::Own(own) => ipam::del(&own.data_dir, &request.config.name, attachment),
            Ipam::Plugin(name) => delegate::run(name, request, Ask::Forget(attachment, None)).map(|_| ()),
        },
    }
}

/// Whether an attachment's addresses are reserved.
pub(super) fn check(request: &Request, record: &Record) -> Result<(), Error> {
    match &record.ipam {
        Chooser::Own(data_dir) => {
            let assigned = record.wanted.iter().flat_map(|wanted| &wanted.addresses);
            let expected: Vec<_> = assigned.map(|assigned| assigned.address.addr()).collect();
            ipam::check(data_dir, &record.network, &record.attachment, &expected)
        }
        Chooser::Plugin(name) => delegate::run(name, request, Ask::Same).map(|_| ()),
    }
}

/// Frees what belongs to no valid attachment.
pub(super) fn gc(request: &Request, valid: &[Attachment]) -> Result<(), Error> {
    match &request.config.ipam {
        Ipam::Own(own) => ipam::gc(&own.data_dir, &request.config.name, valid),
        Ipam::Plugin(name) => delegate::run(name, request, Ask::Same).map(|_| ()),
    }
}
