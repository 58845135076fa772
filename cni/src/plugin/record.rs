//! What we have made, or are about to: a file for each attachment.
//!
//! A record is made before anything else is, by whoever makes it first, and replaced when it is known what will be made.
//! It goes last. As with addresses, it need not outlive a power cut, as nothing that it is about does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::attach::{self, DataPath, PortMapper, Wanted};
use crate::ipam::Birth;
use crate::spec::{Attachment, Code, Error};

/// Longer than any record.
const MOST_BYTES: u64 = 1024 * 1024;
const SUFFIX: &str = ".json";

/// An attachment that was, or is being, made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The network's name.
    pub network: String,
    /// Whose it is.
    pub attachment: Attachment,
    /// Where it comes from.
    pub birth: Birth,
    /// Who chose its addresses.
    pub ipam: Chooser,
    /// What it is made of, once that is known. Before, there is nothing to remove but addresses.
    pub wanted: Option<Wanted>,
}

/// Who chose an attachment's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Chooser {
    /// We did; they are kept in this folder.
    Own(PathBuf),
    /// A plugin by this name.
    Plugin(String),
}

/// What a record's file holds.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A record.
    Whole(Box<Record>),
    /// Something else: who wrote it was killed before anything was made, or somebody has changed it since.
    Torn,
}

/// The folder with all records.
#[derive(Clone, Debug)]
pub(crate) struct Records(PathBuf);

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Code::IO, format!("cannot {doing} the record of an attachment"))
        .with(format!("{}: {error}", path.display()))
}

impl Record {
    /// What has to be removed, whatever the record says, if it says nothing.
    pub(crate) fn skeleton(attachment: &Attachment) -> Wanted {
        Wanted {
            container: attachment.container.clone(),
            interface: attachment.interface.clone(),
            netns: PathBuf::new(),
            host_interface: attach::host_interface_name(&attachment.container, &attachment.interface),
            path: DataPath::Routed,
            mtu: None,
            mac: None,
            addresses: Vec::new(),
            routes: Vec::new(),
            ports: Vec::new(),
            port_mapper: PortMapper::default(),
            bandwidth: None,
        }
    }

    /// Whether it is about this attachment and nothing else. Whoever changes it cannot have us remove another's devices.
    fn is_about(&self, attachment: &Attachment) -> bool {
        let is_its_own = |wanted: &Wanted| {
            let name = attach::host_interface_name(&attachment.container, &attachment.interface);
            wanted.host_interface == name
                && wanted.container == attachment.container
                && wanted.interface == attachment.interface
        };
        self.attachment == *attachment && self.wanted.as_ref().is_none_or(is_its_own)
    }
}

impl Records {
    /// The records in a folder, which need not be there.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn path(&self, attachment: &Attachment) -> PathBuf {
        self.0.join(format!("{}{SUFFIX}", attachment.file_name()))
    }

    /// What the next version of a record is called until it is whole. An attachment is made by one process.
    fn unfinished(&self, attachment: &Attachment) -> PathBuf {
        self.0.join(format!(".{}", attachment.file_name()))
    }

    /// Writes the first record of an attachment. Says whether it did: if there is one, it is left alone.
    pub(crate) fn create(&self, record: &Record) -> Result<bool, Error> {
        let path = self.path(&record.attachment);
        let open = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.0).map_err(|error| failed("keep", &self.0, &error))?;
                open()
            }
            file => file,
        };
        let mut file = match file {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            file => file.map_err(|error| failed("write", &path, &error))?,
        };
        file.write_all(&text(record)?).map_err(|error| {
            let _ = fs::remove_file(&path);
            failed("write", &path, &error)
        })?;
        Ok(true)
    }

    /// Writes down what is known of an attachment now. Whoever reads finds one or the other.
    pub(crate) fn replace(&self, record: &Record) -> Result<(), Error> {
        let (path, unfinished) = (self.path(&record.attachment), self.unfinished(&record.attachment));
        let written = fs::write(&unfinished, text(record)?).and_then(|()| fs::rename(&unfinished, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&unfinished);
            failed("write", &path, &error)
        })
    }

    /// What is known of an attachment, if anything is.
    pub(crate) fn read(&self, attachment: &Attachment) -> Result<Option<Found>, Error> {
        let path = self.path(attachment);
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| failed("read", &path, &error))?,
        };
        Ok(Some(match serde_json::from_slice::<Record>(&text) {
            Ok(record) if record.is_about(attachment) => Found::Whole(Box::new(record)),
            _ => Found::Torn,
        }))
    }

    /// All attachments that something is known of. A file that cannot be read is left out, with a warning.
    pub(crate) fn list(&self) -> Result<Vec<(Attachment, Found)>, Error> {
        let listed = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|error| failed("look for", &self.0, &error))?,
        };
        let mut all = Vec::new();
        for entry in listed.flatten() {
            let name = entry.file_name();
            let Some(attachment) = name.to_str().and_then(attachment_of) else { continue };
            match self.read(&attachment) {
                Ok(Some(found)) => all.push((attachment, found)),
                Ok(None) => {}
                Err(error) => super::warn(&error.to_string()),
            }
        }
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }

    /// Forgets an attachment.
    pub(crate) fn remove(&self, attachment: &Attachment) -> Result<(), Error> {
        for path in [self.unfinished(attachment), self.path(attachment)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn text(record: &Record) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|error| Error::new(Code::IO, error.to_string()))
}

/// The attachment that a file is about, by its name: colons there are hyphens.
fn attachment_of(file: &str) -> Option<Attachment> {
    let (container, interface) = file.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    Attachment::new(container, &interface.replace(':', "-")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(container: &str, interface: &str) -> Record {
        let attachment = Attachment::new(container, interface).unwrap();
        let wanted = Some(Record::skeleton(&attachment));
        let ipam = Chooser::Own("/data".into());
        Record { network: "pods".into(), attachment, birth: Birth::default(), ipam, wanted }
    }

    #[test]
    fn the_first_record_stays() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::of(&folder.path().join("pointsman"));
        let mut record = record("a-1", "eth-0");
        assert!(records.list().unwrap().is_empty());
        assert!(records.read(&record.attachment).unwrap().is_none());
        assert!(records.create(&record).unwrap());
        assert!(!records.create(&record).unwrap());
        record.network = "other".into();
        records.replace(&record).unwrap();
        let Some(Found::Whole(read)) = records.read(&record.attachment).unwrap() else { panic!() };
        assert_eq!(*read, record);
        assert_eq!(records.list().unwrap()[0].0, record.attachment);
        assert!(folder.path().join("pointsman/a-1-eth:0.json").exists());
        records.remove(&record.attachment).unwrap();
        records.remove(&record.attachment).unwrap();
        assert!(records.list().unwrap().is_empty());
    }

    #[test]
    fn what_is_torn_or_about_another_is_told_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::of(folder.path());
        let mut record = record("a", "eth0");
        let path = folder.path().join("a-eth0.json");
        for text in [&b""[..], b"{", b"\xff", b"[]"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(records.read(&record.attachment).unwrap(), Some(Found::Torn)));
        }
        record.wanted.as_mut().unwrap().host_interface = "eth0".into();
        records.replace(&record).unwrap();
        assert!(
            matches!(records.read(&record.attachment).unwrap(), Some(Found::Torn)),
            "the node's own device"
        );
        for name in ["notes.txt", ".json", "a.json", "-eth0.json", ".a-eth0"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(records.list().unwrap().len(), 1);
    }
}
