//! The way to the kernel: makes sets, changes and lists them.

use std::collections::HashMap;

use nix::errno::Errno;

use super::complaint::refused;
use super::read;
use super::types::{Edit, Entry, Header, Kind, Set};
use super::uapi::{MAX_NAME, PROTOCOL, PROTOCOL_MIN, attr, cmd};
use super::write::{self, Language};
use crate::Error;
use crate::netlink::{Protocol, Socket, Writer};

/// Changes sent at a time, so that the answers fit the receive buffer even if every one is refused.
const PIPELINE: usize = 256;

/// What to tell the operator that the kernel lacks.
const IPSET: &str = "ipset (module ip_set)";

/// A connection to ipset in the network namespace that the process is in.
pub struct Ipsets {
    socket: Socket,
    language: Language,
    /// Which revision of a type is used, for those that were asked for already.
    revisions: HashMap<(Kind, bool), u8>,
}

impl Ipsets {
    /// Opens a connection. It may be kept for as long as the process lives.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel has no ipset, or one that speaks no protocol known here.
    pub fn open() -> Result<Self, Error> {
        Self::open_as_of(PROTOCOL)
    }

    /// As [`Ipsets::open`], but with no later protocol than this, as older kernels have it. For tests.
    ///
    /// # Errors
    /// As [`Ipsets::open`].
    #[doc(hidden)]
    pub fn open_as_of(newest: u8) -> Result<Self, Error> {
        let mut socket = Socket::open(Protocol::Netfilter)?;
        let ask = |sequence| Language { protocol: newest }.command(cmd::PROTOCOL, sequence, |_| {});
        let found = socket.dump("ipset's protocol", ask, |message, found| {
            found.extend(read::range(message, (attr::PROTOCOL_MIN, attr::PROTOCOL)));
        });
        let found = found.map_err(|error| match error {
            // What netfilter's netlink says when it has no such subsystem and no module for it.
            Error::Refused { errno: Errno::EINVAL, .. } => Error::Unsupported { what: IPSET },
            error => error,
        })?;
        let (oldest, latest) = found.first().copied().ok_or(Error::Malformed("no protocol of ipset"))?;
        let protocol = latest.min(newest);
        if protocol < oldest.max(PROTOCOL_MIN) {
            return Err(Error::Unsupported { what: "ipset's protocol 6 or 7" });
        }
        Ok(Self { socket, language: Language { protocol }, revisions: HashMap::new() })
    }

    /// All sets, without their entries. Some milliseconds for a set of a hundred thousand, whose table the kernel walks
    /// over to tell its size.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn headers(&mut self) -> Result<Vec<Header>, Error> {
        let language = self.language;
        let request = |sequence| language.list(None, sequence);
        self.socket.dump("sets", request, |message, found| found.extend(read::header(message)))
    }

    /// The entries of a set, in no order.
    ///
    /// # Errors
    /// When there is no such set, or it cannot be listed.
    pub fn entries(&mut self, set: &str) -> Result<Vec<Entry>, Error> {
        let language = self.language;
        let request = |sequence| language.list(Some(set), sequence);
        self.socket.dump(&format!("entries of set {set}"), request, read::entries)
    }

    /// Makes a set. One that is there already, with the same definition, stays as it is.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel has no such kind of set. When there is another set of that name, or the
    /// kernel refuses.
    pub fn create(&mut self, set: &Set) -> Result<(), Error> {
        let operation = || format!("create set {} of type {}", set.name, set.kind);
        if let Err(complaint) = check_name(&set.name) {
            let extended = Some(complaint.to_owned());
            return Err(Error::Refused { operation: operation(), errno: Errno::EINVAL, extended });
        }
        let revision = self.revision(set.kind, set.ipv6)?;
        match self.command(cmd::CREATE, operation, |w| write::definition(w, set, revision)) {
            Err(Error::Refused { errno: Errno::EEXIST, .. })
                if self.headers()?.iter().any(|header| header.is(set)) =>
            {
                Ok(())
            }
            made => made,
        }
    }

    /// Removes a set.
    ///
    /// # Errors
    /// When there is none, or a rule refers to it: see [`Error::is_busy`].
    pub fn destroy(&mut self, set: &str) -> Result<(), Error> {
        self.command(cmd::DESTROY, || format!("destroy set {set}"), |w| w.string(attr::SETNAME, set))
    }

    /// Removes all entries of a set.
    ///
    /// # Errors
    /// When there is no such set.
    pub fn flush(&mut self, set: &str) -> Result<(), Error> {
        self.command(cmd::FLUSH, || format!("flush set {set}"), |w| w.string(attr::SETNAME, set))
    }

    /// Gives each of two sets the name of the other, at once: rules that refer to one refer to the other then.
    ///
    /// # Errors
    /// When one is missing, or they are not of the same kind and family.
    pub fn swap(&mut self, a: &str, b: &str) -> Result<(), Error> {
        self.command(
            cmd::SWAP,
            || format!("swap sets {a} and {b}"),
            |w| {
                w.string(attr::SETNAME, a);
                w.string(attr::SETNAME2, b);
            },
        )
    }

    /// Adds and removes entries, in this order. To add what is there and to remove what is not is no error.
    ///
    /// Each travels in a message of its own, so that a refusal tells which it is about and stops no other. Several in one
    /// (`IPSET_ATTR_ADT`) save little: what costs is the growing of the table.
    ///
    /// An entry must be of its set's kind: where it has more than the set asks for, the kernel ignores that.
    ///
    /// # Errors
    /// The first refusal, with the entry and the set it is about. All others are carried out all the same, unless
    /// the kernel cannot be spoken to.
    pub fn run(&mut self, edits: &[Edit]) -> Result<(), Error> {
        let mut first_error = None;
        for chunk in edits.chunks(PIPELINE) {
            let refused = self.run_chunk(chunk)?;
            first_error = first_error.or(refused);
        }
        first_error.map_or(Ok(()), Err)
    }

    /// The first refusal, if there is one.
    fn run_chunk(&mut self, edits: &[Edit]) -> Result<Option<Error>, Error> {
        let count = u32::try_from(edits.len()).unwrap_or(u32::MAX);
        let first = self.socket.next_sequence(count);
        let mut writer = Writer::default();
        for (sequence, edit) in (first..).zip(edits) {
            self.language.edit(&mut writer, sequence, edit);
        }
        let (_, refusals) = self.socket.exchange(&writer, || "change sets".to_owned())?;
        Ok(refusals.into_iter().find_map(|refusal| {
            let edit = edits.get(refusal.sequence.wrapping_sub(first) as usize)?;
            Some(refused(edit.to_string(), refusal, matches!(edit.entry, Entry::Port(_))))
        }))
    }

    /// Sends one message that changes something.
    fn command(
        &mut self,
        kind: u16,
        operation: impl Fn() -> String,
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        let sequence = self.socket.next_sequence(1);
        let writer = self.language.command(kind, sequence, body);
        let (acknowledged, refusals) = self.socket.exchange(&writer, &operation)?;
        match refusals.into_iter().find(|refusal| refusal.sequence == sequence) {
            Some(refusal) => Err(refused(operation(), refusal, false)),
            None if acknowledged == 0 => Err(Error::AnswerLost { operation: operation() }),
            None => Ok(()),
        }
    }

    /// Which revision of a type to use: the newest that both sides know. The kernel is asked once.
    fn revision(&mut self, kind: Kind, ipv6: bool) -> Result<u8, Error> {
        if let Some(known) = self.revisions.get(&(kind, ipv6)) {
            return Ok(*known);
        }
        let language = self.language;
        let request = |sequence| {
            language.command(cmd::TYPE, sequence, |w| {
                w.string(attr::TYPENAME, kind.name());
                w.attribute(attr::FAMILY, &[write::family(kind, ipv6)]);
            })
        };
        let unsupported = || Error::Unsupported { what: kind.module() };
        let found = self.socket.dump(&format!("revisions of {kind}"), request, |message, found| {
            found.extend(read::range(message, (attr::REVISION_MIN, attr::REVISION)));
        });
        let found = found.map_err(|error| match error {
            // IPSET_ERR_FIND_TYPE, which is no error number of the system.
            Error::Refused { errno: Errno::UnknownErrno, .. } => unsupported(),
            error => error,
        })?;
        let (oldest, newest) =
            found.first().copied().ok_or(Error::Malformed("no revision of a set's type"))?;
        let revision = newest.min(kind.known_revision());
        if revision < oldest {
            return Err(unsupported());
        }
        self.revisions.insert((kind, ipv6), revision);
        Ok(revision)
    }
}

/// The kernel would cut a name at a NUL, and refuses a long one without a word.
fn check_name(name: &str) -> Result<(), &'static str> {
    match name.len() {
        1..=MAX_NAME if !name.contains('\0') => Ok(()),
        1..=MAX_NAME => Err("a set's name cannot contain NUL"),
        _ => Err("a set's name has from 1 to 31 bytes"),
    }
}
