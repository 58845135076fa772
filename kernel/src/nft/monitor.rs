//! Hearing of changes that others make to nftables.

use std::fmt;

use super::types::{Family, Table};
use super::uapi::{SUBSYSTEM, generation, msg};
use crate::Error;
use crate::iptables::OwnProcesses;
use crate::netlink::{Message, Notifications, Protocol};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;

/// Listens for changes of tables that are not our own.
pub struct Monitor {
    notifications: Notifications,
    interest: Interest,
}

/// What the monitor heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Somebody changed a table.
    By {
        /// Which.
        table: Table,
        /// Process id, in the machine's first process namespace whatever that of the one who listens, if the kernel
        /// tells.
        pid: Option<u32>,
        /// Name of the program, if the kernel tells.
        program: Option<String>,
    },
    /// The kernel had more to tell than there was room for: anything may have changed.
    Unknown,
}

impl Monitor {
    /// Starts to listen. Changes made through the connection whose port this is are not reported.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open(tables: Vec<Table>, own_port: u32) -> Result<Self, Error> {
        let interest = Interest { tables, mention: None, touched: None };
        Ok(Self {
            notifications: Notifications::open(Protocol::Netfilter, &[GROUP], Some(own_port))?,
            interest,
        })
    }

    /// Starts to listen for changes of tables that are shared with others. Of these, only what mentions `word`
    /// counts, be it the name of a chain or in a rule, and the removal of a table. Changes made by one of `own` are
    /// not reported.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open_for_mentions(
        tables: Vec<Table>,
        word: &'static str,
        own: OwnProcesses,
    ) -> Result<Self, Error> {
        let interest = Interest { tables, mention: Some(Mention { word, own }), touched: None };
        Ok(Self { notifications: Notifications::open(Protocol::Netfilter, &[GROUP], None)?, interest })
    }

    /// Waits until somebody has changed one of the tables.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    pub fn next_disturbance(&mut self) -> Result<Disturbance, Error> {
        loop {
            let (interest, mut found) = (&mut self.interest, None);
            let complete = self.notifications.receive("changes of nftables", |message| {
                let heard = interest.take_in(message);
                found = found.take().or(heard);
            })?;
            if !complete {
                interest.touched = None;
                return Ok(Disturbance::Unknown);
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }
}

/// What is listened for, and what was heard of it so far.
struct Interest {
    tables: Vec<Table>,
    /// What makes a change count, if not every change does.
    mention: Option<Mention>,
    /// Which table the transaction that is being told changed.
    touched: Option<Table>,
}

struct Mention {
    word: &'static str,
    own: OwnProcesses,
}

impl Interest {
    /// The messages of a transaction are followed by the one of its generation, which says who made it.
    fn take_in(&mut self, message: &Message<'_>) -> Option<Disturbance> {
        if message.kind >> 8 != SUBSYSTEM {
            return None;
        }
        if message.kind != msg::NEWGEN {
            if self.touched.is_none() && self.mention.as_ref().is_none_or(|mention| mention.is_in(message)) {
                self.touched = self.table_of(message).cloned();
            }
            return None;
        }
        let attributes = message.attributes();
        let pid = attributes.be32(generation::PROC_PID);
        let program = attributes.string(generation::PROC_NAME);
        let is_own = |mention: &Mention| mention.own.made(pid, message.port, program);
        let table = self.touched.take()?;
        let reported = !self.mention.as_ref().is_some_and(is_own);
        reported.then(|| Disturbance::By { table, pid, program: program.map(str::to_owned) })
    }

    fn table_of(&self, message: &Message<'_>) -> Option<&Table> {
        /// The table's name is the first attribute of every kind of object.
        const TABLE: u16 = 1;
        let name = message.attributes().string(TABLE)?;
        let family = Family::from_number(message.family())?;
        self.tables.iter().find(|table| (table.family, table.name.as_str()) == (family, name))
    }
}

impl Mention {
    fn is_in(&self, message: &Message<'_>) -> bool {
        let word = self.word.as_bytes();
        message.kind == msg::DELTABLE || message.payload.windows(word.len().max(1)).any(|part| part == word)
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By { table, pid, program } => {
                f.write_str(program.as_deref().unwrap_or("somebody"))?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                write!(f, " changed table {table}")
            }
            Self::Unknown => {
                f.write_str("so much changed in nftables that the kernel dropped the news of it")
            }
        }
    }
}
