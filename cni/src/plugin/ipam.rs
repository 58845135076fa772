//! The plugin `pointsman-ipam`: our addresses for others' interfaces.

use serde_json::Value;

use super::{Request, addresses};
use crate::ipam::{self, Birth, Boot};
use crate::spec::{Code, Command, Error, Ipam, OwnIpam};

/// Does what is asked.
pub(super) fn run(request: &Request) -> Result<Option<Value>, Error> {
    let own = own(request)?;
    let name = &request.config.name;
    match request.environment.command {
        Command::Add => add(request, own).map(Some),
        Command::Del => ipam::del(&own.data_dir, name, request.attachment()?).map(|()| None),
        Command::Check => {
            // Which of a chain's addresses are ours, only the plugin that asked us knows.
            ipam::check(&own.data_dir, name, request.attachment()?, &[]).map(|()| None)
        }
        Command::Gc => {
            let valid = request.config.valid.as_deref().ok_or_else(|| {
                let why = "GC needs cni.dev/valid-attachments";
                Error::new(Code::CONFIG, "the list of valid attachments is missing").with(why)
            })?;
            ipam::gc(&own.data_dir, name, valid).map(|()| None)
        }
        Command::Status => ipam::status(name, own, request.published()?.as_ref()).map(|()| None),
        Command::Version => Ok(None),
    }
}

fn own(request: &Request) -> Result<&OwnIpam, Error> {
    match &request.config.ipam {
        Ipam::Own(own) => Ok(own),
        Ipam::Plugin(name) => Err(Error::new(Code::CONFIG, "ipam.type makes no sense")
            .with(format!("{name:?} is not pointsman-ipam, which was run"))),
    }
}

fn add(request: &Request, own: &OwnIpam) -> Result<Value, Error> {
    let pod = request.environment.arguments.pod();
    let birth = Birth::now(&Boot::current(), Some(request.netns()?), pod, "pointsman-ipam");
    let outcome = addresses::add_own(request, own, &birth, request.published()?.as_ref(), &|_| {})?;
    Ok(outcome.to_json(request.config.version))
}
