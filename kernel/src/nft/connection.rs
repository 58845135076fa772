//! The way to the kernel: commits batches and reads what is there.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::batch::Batch;
use super::read::{self, InstalledSet};
use super::rule::{CountedRule, InstalledRule, ListedRule};
use super::types::{Chain, Element, ListedChain, Table};
use super::uapi::{LIST_ELEM, chain, data, element, generation, msg, rule, set};
use crate::Error;
use crate::netlink::{
    Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Protocol, Refusal, Socket, Writer, messages,
};

/// Room that a batch needs beyond what [`Batch::bytes`] tells: its closing message.
const CLOSING: usize = 64;

/// How often a set is listed whose hash table is growing, and how long is waited in between. Nothing tells when it is
/// done; a million elements take less than a second.
const REHASH_TRIES: usize = 200;
const REHASH_WAIT: Duration = Duration::from_millis(10);

/// A connection to nf_tables in the network namespace that the process is in.
pub struct Nftables {
    socket: Socket,
    /// How many transactions were committed.
    commits: u32,
}

impl Nftables {
    /// Opens a connection. It may be kept for as long as the process lives.
    ///
    /// # Errors
    /// When the kernel has no nf_tables, or refuses the socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { commits: 0, socket: Socket::open(Protocol::Netfilter)? })
    }

    /// The connection's port: changes made through it bear this number. See [`Monitor`](super::Monitor).
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// The most bytes that one batch may have: [`Batch::bytes`] must not exceed it.
    ///
    /// Half a gigabyte with `CAP_NET_ADMIN` in the initial user namespace; twice `net.core.wmem_max` elsewhere.
    #[must_use]
    pub fn batch_limit(&self) -> usize {
        self.socket.send_limit().saturating_sub(CLOSING)
    }

    /// Applies a transaction whole. One that changes nothing is not sent.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses an operation: nothing has changed then. [`Error::AnswerLost`] when
    /// the outcome is unknown.
    pub fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let table = batch.table().clone();
        let sent = self.exchange(batch)?;
        match sent.refusals.first() {
            Some(refusal) => Err(sent.refused(refusal, &table)),
            None if sent.acknowledged == 0 => Err(Error::AnswerLost { operation: change(&table) }),
            None => {
                self.commits = self.commits.wrapping_add(1);
                Ok(())
            }
        }
    }

    /// How many transactions were committed through this connection.
    #[must_use]
    pub fn commits(&self) -> u32 {
        self.commits
    }

    /// A number that every transaction in this network namespace raises by one, whoever makes it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let request = |sequence| {
            let mut writer = Writer::default();
            writer.message(msg::GETGEN, NLM_F_REQUEST | NLM_F_ACK, sequence, (0, 0), |_| {});
            writer
        };
        let found = self.socket.dump("the generation of nftables", request, |message, found| {
            found.extend(message.attributes().be32(generation::ID));
        })?;
        found.first().copied().ok_or(Error::Malformed("no generation"))
    }

    /// Asks the kernel whether it would apply a transaction, and changes nothing: its last operation is one that is
    /// always refused. What the kernel finds only while it commits, such as a loop of chains, stays unknown.
    ///
    /// # Errors
    /// As [`Nftables::commit`].
    pub fn rehearse(&mut self, mut batch: Batch) -> Result<(), Error> {
        let table = batch.table().clone();
        let bound_to_fail = batch.spoil();
        let sent = self.exchange(batch)?;
        match sent.refusals.iter().find(|refusal| refusal.sequence != bound_to_fail) {
            Some(refusal) => Err(sent.refused(refusal, &table)),
            None if sent.refusals.is_empty() => Err(Error::AnswerLost { operation: change(&table) }),
            None => Ok(()),
        }
    }

    /// Sends a transaction and takes the kernel's answers.
    fn exchange(&mut self, batch: Batch) -> Result<Sent, Error> {
        let table = batch.table().clone();
        let (bytes, limit) = (batch.bytes(), self.batch_limit());
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        let batch = batch.finish();
        self.socket.send(batch.bytes()).map_err(|source| {
            match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMSGSIZE) => Error::TooLarge { bytes, limit },
                Some(errno) => Error::from_errno(change(&table), errno, None),
                None => Error::io(change(&table), source),
            }
        })?;
        let (acknowledged, refusals) = self.socket.drain_answers().map_err(|source| {
            match source.raw_os_error().map(Errno::from_raw) {
                Some(errno) => Error::from_errno(change(&table), errno, None),
                None => Error::io(change(&table), source),
            }
        })?;
        Ok(Sent { batch, acknowledged, refusals })
    }

    /// All tables.
    ///
    /// # Errors
    /// When the kernel has no nf_tables or cannot be read.
    pub fn tables(&mut self) -> Result<Vec<Table>, Error> {
        let request = |sequence| dump_request(msg::GETTABLE, 0, sequence, |_| {});
        self.socket.dump("tables", request, |message, found| found.extend(read::table(message))).map_err(
            |error| match error {
                Error::Refused { errno: Errno::EINVAL | Errno::EOPNOTSUPP, .. } => {
                    Error::Unsupported { what: "nf_tables" }
                }
                error => error,
            },
        )
    }

    /// The chains of a table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn chains(&mut self, table: &Table) -> Result<Vec<Chain>, Error> {
        let family = table.family.number();
        let request =
            |sequence| dump_request(msg::GETCHAIN, family, sequence, |w| w.string(chain::TABLE, &table.name));
        self.socket.dump(&format!("chains of table {table}"), request, |message, found| {
            found.extend(read::chain(message, table));
        })
    }

    /// The chains of a table, with what their ends do.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn listed_chains(&mut self, table: &Table) -> Result<Vec<ListedChain>, Error> {
        let family = table.family.number();
        let request =
            |sequence| dump_request(msg::GETCHAIN, family, sequence, |w| w.string(chain::TABLE, &table.name));
        self.socket.dump(&format!("chains of table {table}"), request, |message, found| {
            found.extend(read::listed_chain(message, table));
        })
    }

    /// What the rules of a chain do, in order; none if there is no such chain.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn listed_rules(&mut self, table: &Table, chain: &str) -> Result<Vec<ListedRule>, Error> {
        let request = |sequence| {
            dump_request(msg::GETRULE, table.family.number(), sequence, |w| {
                w.string(rule::TABLE, &table.name);
                w.string(rule::CHAIN, chain);
            })
        };
        self.socket.dump(&format!("rules of chain {table} {chain}"), request, |message, found| {
            found.extend(read::listed_rule(message, table));
        })
    }

    /// The rules of a table, in their chains' order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rules(&mut self, table: &Table) -> Result<Vec<InstalledRule>, Error> {
        let family = table.family.number();
        let request =
            |sequence| dump_request(msg::GETRULE, family, sequence, |w| w.string(rule::TABLE, &table.name));
        self.socket.dump(&format!("rules of table {table}"), request, |message, found| {
            found.extend(read::rule(message, table));
        })
    }

    /// What the rules of a table have counted, in their chains' order; those without a counter are left out.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn counted_rules(&mut self, table: &Table) -> Result<Vec<CountedRule>, Error> {
        let family = table.family.number();
        let request =
            |sequence| dump_request(msg::GETRULE, family, sequence, |w| w.string(rule::TABLE, &table.name));
        self.socket.dump(&format!("counters of table {table}"), request, |message, found| {
            found.extend(read::counted_rule(message, table));
        })
    }

    /// What the kernel answers to a question about one object.
    pub(super) fn one<T>(
        &mut self,
        (kind, what): (u16, &str),
        family: u8,
        body: impl Fn(&mut Writer),
        decode: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let request = |sequence| {
            let mut writer = Writer::default();
            writer.message(kind, NLM_F_REQUEST | NLM_F_ACK, sequence, (family, 0), &body);
            writer
        };
        let found = self.socket.dump(what, request, |message, found| found.extend(decode(message)));
        match found {
            Ok(found) => Ok(found.into_iter().next()),
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The sets and maps of a table, anonymous ones left out.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sets(&mut self, table: &Table) -> Result<Vec<InstalledSet>, Error> {
        let family = table.family.number();
        let request =
            |sequence| dump_request(msg::GETSET, family, sequence, |w| w.string(set::TABLE, &table.name));
        self.socket.dump(&format!("sets of table {table}"), request, |message, found| {
            found.extend(read::set(message, table));
        })
    }

    /// The element of a set with this key, if there is one. Not for sets of ranges.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn element(&mut self, table: &Table, set: &str, key: &[u8]) -> Result<Option<Element>, Error> {
        let header = (table.family.number(), 0);
        let request = |sequence| {
            let mut writer = Writer::default();
            writer.message(msg::GETSETELEM, NLM_F_REQUEST | NLM_F_ACK, sequence, header, |w| {
                w.string(element::LIST_TABLE, &table.name);
                w.string(element::LIST_SET, set);
                w.nest(element::LIST_ELEMENTS, |w| {
                    w.nest(LIST_ELEM, |w| w.nest(element::KEY, |w| w.attribute(data::VALUE, key)));
                });
            });
            writer
        };
        let what = format!("an element of set {table} {set}");
        match self.socket.dump(&what, request, read::elements) {
            Ok(found) => Ok(found.into_iter().next()),
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The elements of a set, in no order.
    ///
    /// After many were added, the kernel's hash table goes on growing for a while, and what is listed meanwhile holds
    /// some elements twice and others not at all. It is then listed again.
    ///
    /// # Errors
    /// When it cannot be read, or does not come to rest.
    pub fn elements(&mut self, table: &Table, set: &str) -> Result<Vec<Element>, Error> {
        for _ in 0..REHASH_TRIES {
            let found = self.list_elements(table, set)?;
            if all_differ(&found) {
                return Ok(found);
            }
            thread::sleep(REHASH_WAIT);
        }
        Err(Error::KeepsChanging { what: format!("elements of set {table} {set}") })
    }

    fn list_elements(&mut self, table: &Table, set: &str) -> Result<Vec<Element>, Error> {
        let family = table.family.number();
        let request = |sequence| {
            dump_request(msg::GETSETELEM, family, sequence, |w| {
                w.string(element::LIST_TABLE, &table.name);
                w.string(element::LIST_SET, set);
            })
        };
        self.socket.dump(&format!("elements of set {table} {set}"), request, read::elements)
    }
}

/// A transaction and what the kernel answered.
struct Sent {
    batch: Writer,
    acknowledged: usize,
    refusals: Vec<Refusal>,
}

impl Sent {
    /// Names the operation that was refused.
    fn refused(&self, refusal: &Refusal, table: &Table) -> Error {
        let message = messages(self.batch.bytes()).find(|message| message.sequence == refusal.sequence);
        let operation = message.map_or_else(|| change(table), |message| read::describe(&message, table));
        Error::from_errno(operation, refusal.errno, refusal.extended.clone())
    }
}

/// What a transaction does, when no operation of it can be named.
fn change(table: &Table) -> String {
    format!("change table {table}")
}

/// Whether no element is there twice. Compares hashes: a false alarm costs another listing.
fn all_differ(elements: &[Element]) -> bool {
    let hasher = RandomState::new();
    let hash = |element: &Element| hasher.hash_one((&element.key, &element.key_end, element.interval_end));
    let mut hashes: Vec<u64> = elements.iter().map(hash).collect();
    hashes.sort_unstable();
    hashes.windows(2).all(|pair| pair[0] != pair[1])
}

fn dump_request(kind: u16, family: u8, sequence: u32, body: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::default();
    writer.message(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, (family, 0), body);
    writer
}
