//! Who has which address, and whether anybody uses it.
//!
//! It only reads, and waits for nobody: an `ADD` or `DEL` that is under way may show as half of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::birth::{Birth, Boot, Fate};
use super::leaked;
use super::store::{Allocation, Folder, Owner};
use crate::plugin::{Chooser, Found, Record, Records};
use crate::spec::{Attachment, Code, Error, is_identifier};

/// Whether anybody uses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its owner's network namespace is there.
    InUse,
    /// Nobody can be using it.
    Leaked,
    /// Its owner has it, but the next pod may get it too.
    Unreserved,
    /// There is no telling.
    Unknown,
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The network's name.
    pub network: String,
    /// The address.
    pub address: IpAddr,
    /// The container that has it, by the runtime's name, unless nobody does.
    pub container: Option<String>,
    /// The interface, if that is known.
    pub interface: Option<String>,
    /// The pod, as `NAMESPACE/NAME`, if that is known.
    pub pod: Option<String>,
    /// The plugin that took it, if that is known.
    pub plugin: Option<String>,
    /// Whether anybody uses it.
    pub state: State,
    /// How that can be told.
    pub why: String,
}

/// Looks at all networks below `data_dir`, with what the plugin has written down in `state_dir`. Findings are in the
/// order of networks and addresses.
///
/// # Errors
/// When a folder or file cannot be read.
pub fn examine(data_dir: &Path, state_dir: &Path) -> Result<Vec<Finding>, Error> {
    let known = Known { boot: Boot::current(), records: records(state_dir)? };
    let mut findings = Vec::new();
    for network in networks(data_dir)? {
        let folder = Folder::of(data_dir, &network);
        let allocations = folder.allocations()?;
        let judged = allocations.iter().map(|allocation| known.judge(&network, &folder, allocation));
        let mut of_network: Vec<_> = judged.collect();
        of_network.extend(known.unreserved(data_dir, &network, &allocations));
        of_network.sort_by_key(|finding| finding.address);
        findings.extend(of_network);
    }
    Ok(findings)
}

/// The folders that can be networks'.
fn networks(data_dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |error: io::Error| {
        Error::new(Code::IO, "cannot look for networks").with(format!("{}: {error}", data_dir.display()))
    };
    let listed = match fs::read_dir(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    let mut networks = Vec::new();
    for entry in listed {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        networks.extend(
            entry.file_name().to_str().filter(|name| is_folder && is_identifier(name)).map(str::to_owned),
        );
    }
    networks.sort();
    Ok(networks)
}

fn records(state_dir: &Path) -> Result<BTreeMap<Attachment, Record>, Error> {
    let all = Records::of(state_dir).list()?.into_iter();
    Ok(all
        .filter_map(|(attachment, found)| match found {
            Found::Whole(record) => Some((attachment, *record)),
            Found::Torn => None,
        })
        .collect())
}

/// What all addresses are judged by.
struct Known {
    boot: Boot,
    records: BTreeMap<Attachment, Record>,
}

/// The addresses of an attachment.
fn addresses(record: &Record) -> impl Iterator<Item = IpAddr> {
    record.wanted.iter().flat_map(|wanted| &wanted.addresses).map(|assigned| assigned.address.addr())
}

impl Known {
    /// The record of an attachment to a network.
    fn record(&self, network: &str, attachment: &Attachment) -> Option<&Record> {
        self.records.get(attachment).filter(|record| record.network == network)
    }

    fn judge(&self, network: &str, folder: &Folder, allocation: &Allocation) -> Finding {
        let mut finding = Finding {
            network: network.to_owned(),
            address: allocation.address,
            container: None,
            interface: None,
            pod: None,
            plugin: None,
            state: State::Leaked,
            why: "whoever wrote its file was killed before saying who has it".to_owned(),
        };
        match &allocation.owner {
            Owner::Nobody => {}
            Owner::Unreadable => {
                (finding.state, finding.why) = (State::Unknown, "its file cannot be read".to_owned());
            }
            Owner::Container(container) => {
                finding.container = Some(container.clone());
                finding.plugin = Some("host-local".to_owned());
                self.by_time(&mut finding, folder, allocation);
            }
            Owner::Attachment(attachment) => {
                finding.container = Some(attachment.container.clone());
                finding.interface = Some(attachment.interface.clone());
                let record = self.record(network, attachment);
                match (folder.note(attachment), record) {
                    (Some(birth), record) => self.by_birth(&mut finding, &birth, record.is_some()),
                    (None, Some(record)) => {
                        self.by_birth(&mut finding, &record.birth, true);
                        if let Chooser::Plugin(name) = &record.ipam {
                            finding.plugin = Some(name.clone());
                        }
                    }
                    (None, None) => self.by_time(&mut finding, folder, allocation),
                }
            }
        }
        finding
    }

    /// Of what other plugins wrote, only the time is known.
    fn by_time(&self, finding: &mut Finding, folder: &Folder, allocation: &Allocation) {
        (finding.state, finding.why) = match leaked::fate(folder, &self.boot, allocation) {
            Fate::OlderBoot => (State::Leaked, "it was taken before the node was started".to_owned()),
            _ => {
                (State::Unknown, "the plugin that took it did not say for which network namespace".to_owned())
            }
        };
    }

    fn by_birth(&self, finding: &mut Finding, birth: &Birth, is_recorded: bool) {
        finding.pod.clone_from(&birth.pod);
        finding.plugin = Some(birth.plugin.clone()).filter(|plugin| !plugin.is_empty());
        let netns = birth.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        (finding.state, finding.why) = match birth.fate(&self.boot) {
            Fate::OlderBoot => (State::Leaked, "it was taken before the node was started".to_owned()),
            Fate::NamespaceGone => (State::Leaked, format!("network namespace {netns} is gone")),
            Fate::Unknown => (State::Unknown, "its network namespace cannot be looked at".to_owned()),
            Fate::Alive if birth.plugin == "pointsman-cni" && !is_recorded => {
                let why = format!("network namespace {netns} is there, but no record of an interface in it");
                (State::Leaked, why)
            }
            Fate::Alive => (State::InUse, format!("network namespace {netns} is there")),
        };
    }

    /// Addresses that we gave to pods, and that somebody freed behind our back.
    fn unreserved(&self, data_dir: &Path, network: &str, allocations: &[Allocation]) -> Vec<Finding> {
        let ours = self.records.values().filter(|record| {
            record.network == network
                && record.ipam == Chooser::Own(data_dir.to_owned())
                && record.birth.fate(&self.boot) == Fate::Alive
        });
        let is_reserved = |record: &Record, address: IpAddr| {
            let found = allocations.iter().find(|allocation| allocation.address == address);
            found.is_some_and(|allocation| allocation.owner.is(&record.attachment))
        };
        let findings = ours.flat_map(|record| {
            let lost = addresses(record).filter(move |address| !is_reserved(record, *address));
            lost.map(|address| Finding {
                network: network.to_owned(),
                address,
                container: Some(record.attachment.container.clone()),
                interface: Some(record.attachment.interface.clone()),
                pod: record.birth.pod.clone(),
                plugin: Some(record.birth.plugin.clone()),
                state: State::Unreserved,
                why: "the pod has it, but the file that keeps it for the pod is gone".to_owned(),
            })
        });
        findings.collect()
    }
}

#[cfg(test)]
mod tests;
