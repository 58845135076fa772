//! The way to the kernel.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use nix::errno::Errno;

use super::types::{Destination, Frontend, Operation, Server, Timeouts};
use super::uapi::command;
use super::write::{self, Requests};
use super::{Refused, Scheduler, WHAT, info, read};
use crate::Error;
use crate::netlink::{Protocol, Refusal, Socket, Writer};

/// Changes sent at a time, so that their answers fit the receive buffer even where it may not be enlarged.
const PIPELINE: usize = 256;

/// How often virtual servers are listed once more, until a list is as the one before.
const LISTS: usize = 16;

/// Where schedulers are tried: an address for documentation (RFC 5737), as kube-proxy does.
const TRIED_AT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);
const TRIED_FROM: u16 = 20_000;

/// A connection to IPVS in the network namespace that the process is in. Every call takes `CAP_NET_ADMIN` in the
/// initial user namespace.
pub struct Ipvs {
    socket: Socket,
    requests: Requests,
}

impl Ipvs {
    /// Opens a connection. It may be kept for as long as the process lives. The kernel loads the module `ip_vs` if need
    /// be.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel has no IPVS; else when it refuses the socket.
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let requests = Requests(family(&mut socket)?);
        Ok(Self { socket, requests })
    }

    /// All virtual servers, in no order, each once. IPVS goes on by position while it lists, and what others add and
    /// remove meanwhile, in any network namespace, shifts that: what it lists counts when it lists it twice.
    ///
    /// Its module may have been unloaded, when there were none, and loaded again: it has another number then, and this
    /// is where we learn of it. Until then, everything else is refused.
    ///
    /// # Errors
    /// When they cannot be read. [`Error::KeepsChanging`] when no two lists agree. [`Error::Unsupported`] when IPVS was
    /// unloaded for good.
    pub fn servers(&mut self) -> Result<Vec<Server>, Error> {
        let mut before = match self.list_servers() {
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => {
                self.requests = Requests(family(&mut self.socket)?);
                self.list_servers()?
            }
            listed => listed?,
        };
        for _ in 0..LISTS {
            let listed = self.list_servers()?;
            if listed == before {
                return Ok(listed.into_values().collect());
            }
            before = listed;
        }
        Err(Error::KeepsChanging { what: "the list of virtual servers".to_owned() })
    }

    fn list_servers(&mut self) -> Result<HashMap<Frontend, Server>, Error> {
        let requests = self.requests;
        let request = |sequence| requests.list(command::GET_SERVICE, sequence, |_| {});
        self.socket.dump_into("virtual servers", request, |message, found: &mut HashMap<_, _>| {
            found.extend(read::server(message).map(|server| (server.frontend, server)));
        })
    }

    /// One virtual server, if it exists.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn server(&mut self, frontend: Frontend) -> Result<Option<Server>, Error> {
        let requests = self.requests;
        let request =
            |sequence| requests.ask(command::GET_SERVICE, sequence, |w| write::identified(w, frontend));
        let what = format!("virtual server {frontend}");
        let found = self
            .socket
            .dump(&what, request, |message, found: &mut Vec<_>| found.extend(read::server(message)));
        match found {
            Ok(found) => Ok(found.first().copied()),
            Err(Error::Refused { errno: Errno::ESRCH, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The destinations of a virtual server; none if it does not exist.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn destinations(&mut self, of: Frontend) -> Result<Vec<Destination>, Error> {
        let requests = self.requests;
        let request = |sequence| requests.list(command::GET_DEST, sequence, |w| write::identified(w, of));
        self.socket.dump(&format!("destinations of virtual server {of}"), request, |message, found| {
            found.extend(read::destination(message, of));
        })
    }

    /// Makes changes, one after the other, and says which were refused. IPVS has no transactions: those behind one that
    /// is refused are made nonetheless.
    ///
    /// # Errors
    /// [`Error::AnswerLost`] when it is unknown what came of some, and those behind were not made. Else when nothing
    /// may be changed or sent at all.
    pub fn run(&mut self, operations: &[Operation]) -> Result<Vec<Refused>, Error> {
        let mut refused = Vec::new();
        for (chunk, first) in operations.chunks(PIPELINE).zip((0..).step_by(PIPELINE)) {
            let refusals = self.run_chunk(chunk)?;
            refused.extend(
                refusals
                    .into_iter()
                    .map(|(index, refusal)| Refused::new(first + index, chunk[index], refusal)),
            );
        }
        Ok(refused)
    }

    /// The refusals of a chunk, each with its place in it.
    fn run_chunk(&mut self, operations: &[Operation]) -> Result<Vec<(usize, Refusal)>, Error> {
        let first = self.socket.next_sequence(u32::try_from(operations.len()).unwrap_or(u32::MAX));
        let mut writer = Writer::default();
        for (operation, sequence) in operations.iter().zip(first..) {
            self.requests.operation(&mut writer, operation, sequence);
        }
        let (acknowledged, refusals) = self.exchange("change virtual servers", &writer)?;
        let place = |refusal: &Refusal| {
            let index = usize::try_from(refusal.sequence.checked_sub(first)?).ok()?;
            (index < operations.len()).then_some(index)
        };
        let refusals: Vec<_> =
            refusals.into_iter().filter_map(|refusal| Some((place(&refusal)?, refusal))).collect();
        match refusals.iter().find(|(_, refusal)| refusal.errno == Errno::EPERM) {
            // That is not about the operation: it holds for all.
            Some((index, _)) => Err(Error::Permission { operation: operations[*index].to_string() }),
            None if acknowledged + refusals.len() < operations.len() => Err(lost("change virtual servers")),
            None => Ok(refusals),
        }
    }

    /// Sends requests that have no answers but acknowledgements, and takes these.
    fn exchange(&mut self, what: &str, writer: &Writer) -> Result<(usize, Vec<Refusal>), Error> {
        let sent = self.socket.send(writer.bytes()).and_then(|()| self.socket.drain_answers());
        sent.map_err(|source| {
            // What else is queued must not be taken for the answers to what is sent next.
            drop(self.socket.drain_answers());
            match source.raw_os_error().map(Errno::from_raw) {
                Some(errno) => Error::from_errno(what.to_owned(), errno, None),
                None => Error::io(what, source),
            }
        })
    }

    /// After how long connections are forgotten.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        let requests = self.requests;
        let request = |sequence| requests.ask(command::GET_CONFIG, sequence, |_| {});
        let found = self.socket.dump("the timeouts of IPVS", request, |message, found| {
            found.push(read::timeouts(message));
        })?;
        found.first().copied().ok_or(Error::Malformed("no timeouts"))
    }

    /// Sets after how long connections are forgotten; what is 0 stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses: one is too long, for example.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), Error> {
        self.command("set the timeouts of IPVS", command::SET_CONFIG, |w| write::timeouts(w, timeouts))
    }

    /// Removes all virtual servers, whoever added them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.command("remove all virtual servers", command::FLUSH, |_| {})
    }

    fn command(&mut self, what: &str, command: u8, body: impl FnOnce(&mut Writer)) -> Result<(), Error> {
        let sequence = self.socket.next_sequence(1);
        let (acknowledged, refusals) = self.exchange(what, &self.requests.ask(command, sequence, body))?;
        match refusals.into_iter().find(|refusal| refusal.sequence == sequence) {
            Some(refusal) => Err(Error::from_errno(what.to_owned(), refusal.errno, refusal.extended)),
            None if acknowledged == 0 => Err(lost(what)),
            None => Ok(()),
        }
    }

    /// Whether the kernel has a scheduler. It loads the module when first asked, so this tries: with a virtual server
    /// at an address for documentation, at a port where there is none, which is removed at once.
    ///
    /// # Errors
    /// When it cannot be tried.
    pub fn offers(&mut self, scheduler: &Scheduler) -> Result<bool, Error> {
        let protocol = u8::try_from(libc::IPPROTO_TCP).unwrap_or_default();
        for port in TRIED_FROM..=u16::MAX {
            let frontend = Frontend::Address { address: TRIED_AT.into(), protocol, port };
            let server = Server { frontend, scheduler: *scheduler, persistence: None };
            match self.run(&[Operation::AddServer(server)])?.pop() {
                None => {
                    // Nobody minds if others removed it.
                    return self.run(&[Operation::RemoveServer(frontend)]).map(|_| true);
                }
                Some(refused) if refused.exists() => {}
                Some(refused) if refused.no_scheduler() => return Ok(false),
                Some(refused) => return Err(refused.into()),
            }
        }
        Err(Error::KeepsChanging { what: format!("every port of {TRIED_AT}") })
    }

    /// How many virtual servers of IPv4 there are, those of marks included. Cheap, whatever their number. IPVS counts
    /// those of IPv6 too, but does not tell.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn count(&self) -> Result<u32, Error> {
        info::servers()
    }
}

/// The number that IPVS has. The kernel loads its module if need be.
fn family(socket: &mut Socket) -> Result<u16, Error> {
    let request = |sequence| {
        let mut writer = Writer::default();
        write::family(&mut writer, sequence);
        writer
    };
    let found = socket.dump("generic netlink families", request, |message, found| {
        found.extend(read::family(message));
    });
    match found {
        Ok(found) => found.first().copied().ok_or(Error::Malformed("a family without a number")),
        Err(Error::Refused { errno: Errno::ENOENT, .. }) => Err(Error::Unsupported { what: WHAT }),
        Err(error) => Err(error),
    }
}

fn lost(what: &str) -> Error {
    Error::AnswerLost { operation: what.to_owned() }
}
