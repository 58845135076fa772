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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::attach::Assigned;
    use crate::ipam::Birth;
    use crate::plugin::Chooser;
    use crate::spec::Attachment;

    fn record() -> Record {
        let attachment = Attachment::new("a", "eth0").unwrap();
        let mut wanted = Record::skeleton(&attachment);
        wanted.addresses = vec![Assigned { address: "10.0.0.5/24".parse().unwrap(), gateway: None }];
        let ipam = Chooser::Own("/data".into());
        Record { network: "pods".into(), attachment, birth: Birth::default(), ipam, wanted: Some(wanted) }
    }

    fn compare_with(previous: &serde_json::Value) -> Result<(), Error> {
        compare(&Outcome::from_json(previous, "prevResult").unwrap(), &record())
    }

    #[test]
    fn what_later_plugins_added_is_no_difference() {
        let previous = json!({
            "interfaces": [{"name": "pm0"}, {"name": "eth0", "sandbox": "/n"}, {"name": "ifb0"}],
            "ips": [{"address": "10.0.0.5/32", "interface": 1}, {"address": "10.9.9.9/32", "interface": 1}],
            "routes": [{"dst": "192.0.2.0/24"}]
        });
        compare_with(&previous).unwrap();
    }

    #[test]
    fn another_attachment_is_a_difference() {
        for (previous, why) in [
            (
                json!({"interfaces": [{"name": "eth0"}], "ips": [{"address": "10.0.0.5/32"}]}),
                "no interface eth0",
            ),
            (json!({"interfaces": [{"name": "net1", "sandbox": "/n"}]}), "no interface eth0"),
            (json!({"interfaces": [{"name": "eth0", "sandbox": "/n"}]}), "10.0.0.5"),
            (
                json!({"interfaces": [{"name": "pm0"}, {"name": "eth0", "sandbox": "/n"}],
                    "ips": [{"address": "10.0.0.5/32", "interface": 0}]}),
                "10.0.0.5",
            ),
            (
                json!({"interfaces": [{"name": "eth0", "sandbox": "/n"}],
                    "ips": [{"address": "10.0.0.5/32", "interface": 7}]}),
                "10.0.0.5",
            ),
        ] {
            let error = compare_with(&previous).unwrap_err();
            assert_eq!(error.code, Code::NOT_AS_MADE);
            assert!(error.details.contains(why), "{previous}: {error}");
        }
    }
}
