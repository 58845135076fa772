//! A network's folder: the files in it, and the lock on it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::birth::Birth;
use crate::fault;
use crate::spec::{Attachment, Code, Error};

/// Longer than any owner's name, and any note.
const MOST_BYTES: u64 = 8 * 1024;
/// What both plugins hold while they read and write. `host-local` never looks into it, so we write down there in which
/// boot the folder was used.
const LOCK: &str = "lock";
/// The folder that is ours. `host-local` compares what is in it with owners' names, and finds none.
const OURS: &str = ".pointsman";
const BOOT: &str = "boot:";
/// What a file is called until it is whole. There is one: who writes has the lock.
const UNFINISHED: &str = "unfinished";
/// Begins the names of the files that remember which address of a set was given away last.
const LAST: &str = "last_reserved_ip.";

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// An attachment.
    Attachment(Attachment),
    /// A container; old versions of `host-local` did not write down the interface.
    Container(String),
    /// Nobody: whoever wrote it was killed before it said anything.
    Nobody,
    /// What has the address's name cannot be read; a folder for one. The address is not given away.
    Unreadable,
}

impl Owner {
    fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.trim().lines().map(str::trim);
        match (lines.next().unwrap_or_default(), lines.next()) {
            ("", _) => Self::Nobody,
            (container, None | Some("")) => Self::Container(container.to_owned()),
            (container, Some(interface)) => {
                Self::Attachment(Attachment { container: container.into(), interface: interface.into() })
            }
        }
    }

    /// Whether `DEL` of this attachment gives it back.
    pub(super) fn is(&self, attachment: &Attachment) -> bool {
        match self {
            Self::Attachment(owner) => owner == attachment,
            Self::Container(owner) => *owner == attachment.container,
            Self::Nobody | Self::Unreadable => false,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attachment(owner) => owner.fmt(f),
            Self::Container(owner) => f.write_str(owner),
            Self::Nobody => f.write_str("nobody"),
            Self::Unreadable => f.write_str("what cannot be read"),
        }
    }
}

/// An address that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub owner: Owner,
    path: PathBuf,
}

impl Allocation {
    /// When it was written.
    pub(super) fn written(&self) -> Option<SystemTime> {
        fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok()
    }
}

/// A network's folder.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// The same, with the lock on it, which goes with this.
#[derive(Debug)]
pub(super) struct Store {
    folder: Folder,
    lock: Flock<File>,
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Code::IO, format!("cannot {doing} an address")).with(format!("{}: {error}", path.display()))
}

fn read_little(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// That something is not there is fine.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("give back", path, &error)),
        _ => Ok(()),
    }
}

impl Folder {
    /// A network's folder, whether or not it is there.
    pub(super) fn of(data_dir: &Path, network: &str) -> Self {
        Self(data_dir.join(network))
    }

    /// What is taken. Files whose name is no address are others' business.
    pub(super) fn allocations(&self) -> Result<Vec<Allocation>, Error> {
        let listed = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|error| failed("look for", &self.0, &error))?,
        };
        let mut allocations = Vec::new();
        for entry in listed {
            let entry = entry.map_err(|error| failed("look for", &self.0, &error))?;
            let name = entry.file_name();
            let Some(address) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let path = entry.path();
            let owner = match read_little(&path) {
                Ok(text) => Owner::parse(&text),
                // It has just been given back.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => Owner::Unreadable,
            };
            allocations.push(Allocation { address, owner, path });
        }
        Ok(allocations)
    }

    /// Where an attachment comes from, if we made it.
    pub(super) fn note(&self, attachment: &Attachment) -> Option<Birth> {
        serde_json::from_slice(&read_little(&self.note_path(attachment)).ok()?).ok()
    }

    fn note_path(&self, attachment: &Attachment) -> PathBuf {
        self.0.join(OURS).join(attachment.file_name())
    }
}

impl Store {
    /// Waits for the lock of a network's folder, which is made if it is not there.
    pub(super) fn open(data_dir: &Path, network: &str) -> Result<Self, Error> {
        let folder = Folder::of(data_dir, network);
        let ours = folder.0.join(OURS);
        if !ours.is_dir() {
            fs::create_dir_all(&ours).map_err(|error| failed("keep", &ours, &error))?;
        }
        Self::lock(folder)
    }

    /// The same, but a folder that is not there is none.
    pub(super) fn open_existing(data_dir: &Path, network: &str) -> Result<Option<Self>, Error> {
        let folder = Folder::of(data_dir, network);
        if folder.0.is_dir() { Self::lock(folder).map(Some) } else { Ok(None) }
    }

    fn lock(folder: Folder) -> Result<Self, Error> {
        let path = folder.0.join(LOCK);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|error| failed("lock", &path, &error))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(Self { folder, lock }),
                Err((back, Errno::EINTR)) => file = back,
                Err((_, error)) => return Err(failed("lock", &path, &error.into())),
            }
        }
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The address of a set that was given away last.
    pub(super) fn last(&self, set: usize) -> Option<IpAddr> {
        let text = read_little(&self.folder.0.join(format!("{LAST}{set}"))).ok()?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    /// Gives an address to an attachment. Nobody must have it.
    pub(super) fn reserve(&self, address: IpAddr, set: usize, attachment: &Attachment) -> Result<(), Error> {
        let unfinished = self.folder.0.join(OURS).join(UNFINISHED);
        let path = self.folder.0.join(address.to_string());
        let text = format!("{}\r\n{}", attachment.container, attachment.interface);
        let written = fs::write(&unfinished, text).and_then(|()| {
            fault::at("ipam-written");
            fs::rename(&unfinished, &path)
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&unfinished);
            return Err(failed("write down", &path, &error));
        }
        // Without it, the next search begins elsewhere. That is no reason to fail.
        let _ = fs::write(self.folder.0.join(format!("{LAST}{set}")), address.to_string());
        Ok(())
    }

    /// Frees an address.
    pub(super) fn release(&self, allocation: &Allocation) -> Result<(), Error> {
        remove(&allocation.path)
    }

    /// Frees what was reserved a moment ago.
    pub(super) fn take_back(&self, address: IpAddr) {
        let _ = fs::remove_file(self.folder.0.join(address.to_string()));
    }

    /// Writes down where an attachment comes from.
    pub(super) fn write_note(&self, attachment: &Attachment, birth: &Birth) -> Result<(), Error> {
        let path = self.folder.note_path(attachment);
        let text = serde_json::to_vec(birth).unwrap_or_default();
        let written = match fs::write(&path, &text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(self.folder.0.join(OURS)).and_then(|()| fs::write(&path, &text))
            }
            written => written,
        };
        written.map_err(|error| {
            let _ = fs::remove_file(&path);
            failed("write down", &path, &error)
        })
    }

    /// Forgets where an attachment comes from.
    pub(super) fn remove_note(&self, attachment: &Attachment) -> Result<(), Error> {
        remove(&self.folder.note_path(attachment))
    }

    /// Forgets all attachments but those whose notes have these names, and what somebody did not finish.
    pub(super) fn keep_notes(&self, keep: impl Fn(&str) -> bool) {
        let listed = fs::read_dir(self.folder.0.join(OURS)).into_iter().flatten().flatten();
        for entry in listed {
            if !entry.file_name().to_str().is_some_and(&keep) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes what somebody did not finish.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        remove(&self.folder.0.join(OURS).join(UNFINISHED))
    }

    /// The boot in which the folder was last used, if we know.
    pub(super) fn boot(&self) -> Option<String> {
        let mut text = String::new();
        let mut lock: &File = &self.lock;
        lock.rewind().ok()?;
        lock.take(MOST_BYTES).read_to_string(&mut text).ok()?;
        text.trim().strip_prefix(BOOT).map(str::to_owned)
    }

    /// Remembers in which boot the folder is used.
    pub(super) fn write_boot(&self, boot: &str) -> Result<(), Error> {
        let mut lock: &File = &self.lock;
        let text = format!("{BOOT}{boot}\n");
        // Shorter at first: what is read of it meanwhile, after a crash, is no boot.
        let written =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(text.as_bytes()));
        written.map_err(|error| failed("write down", &self.folder.0.join(LOCK), &error))
    }
}
