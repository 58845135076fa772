//! Hearing of changes that others make to nftables.

use std::fmt;

use super::types::{Family, Table};
use super::uapi::{SUBSYSTEM, generation, msg};
use crate::Error;
use crate::netlink::{Message, Notifications};

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;

/// Listens for changes of tables that are not made through a connection of our own.
pub struct Monitor {
    notifications: Notifications,
    tables: Vec<Table>,
    /// Which table the transaction that is being told changed.
    touched: Option<Table>,
}

/// What the monitor heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Somebody changed a table.
    By {
        /// Which.
        table: Table,
        /// Process id, in the process namespace of the one who listens, if the kernel tells.
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
        Ok(Self { notifications: Notifications::open(GROUP, own_port)?, tables, touched: None })
    }

    /// Waits until somebody has changed one of the tables.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    pub fn next_disturbance(&mut self) -> Result<Disturbance, Error> {
        loop {
            let (tables, touched) = (&self.tables, &mut self.touched);
            let mut found = None;
            let complete = self.notifications.receive("changes of nftables", |message| {
                found = found.take().or_else(|| take_in(message, tables, touched));
            })?;
            if !complete {
                *touched = None;
                return Ok(Disturbance::Unknown);
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }
}

/// The messages of a transaction are followed by the one of its generation, which says who made it.
fn take_in(message: &Message<'_>, tables: &[Table], touched: &mut Option<Table>) -> Option<Disturbance> {
    /// The table's name is the first attribute of every kind of object.
    const TABLE: u16 = 1;
    if message.kind >> 8 != SUBSYSTEM {
        return None;
    }
    let attributes = message.attributes();
    if message.kind != msg::NEWGEN {
        let is_meant = |table: &&Table| {
            Family::from_number(message.family()) == Some(table.family)
                && attributes.string(TABLE) == Some(&table.name)
        };
        *touched = touched.take().or_else(|| tables.iter().find(is_meant).cloned());
        return None;
    }
    touched.take().map(|table| Disturbance::By {
        table,
        pid: attributes.be32(generation::PROC_PID),
        program: attributes.string(generation::PROC_NAME).map(str::to_owned),
    })
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
