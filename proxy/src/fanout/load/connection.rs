//! One connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use kernel::socket::Event;
use socket2::Socket;

use crate::fanout::failure::Cause;
use crate::fanout::socket::QUESTION;

/// What a server may say in a line; the rest is another line.
const LONGEST_LINE: usize = 512;

/// A connection that is under way.
pub(super) struct Connection {
    pub(super) socket: Socket,
    /// Its address and port here.
    pub(super) local: SocketAddr,
    /// When it was begun.
    pub(super) since: Instant,
    /// When it asked last.
    pub(super) asked: Instant,
    /// What it waits for has this number.
    pub(super) serial: u64,
    pub(super) stage: Stage,
    /// The number of who answers, once that is known.
    pub(super) endpoint: Option<usize>,
    /// What was said so far.
    pub(super) line: Vec<u8>,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be there.
    Connecting,
    /// The first line.
    Greeting,
    /// A reply to a request.
    Asking,
}

/// What comes of listening.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing more for now.
    Nothing,
    /// A line, which is in [`Connection::line`].
    Line,
    /// There will be no more.
    End(Cause),
}

impl Connection {
    pub(super) fn new(socket: Socket, local: SocketAddr, serial: u64) -> Self {
        let now = Instant::now();
        let (stage, endpoint, line) = (Stage::Connecting, None, Vec::new());
        Self { socket, local, since: now, asked: now, serial, stage, endpoint, line }
    }

    /// Why it did not come about, if it did not.
    pub(super) fn refusal(&self, event: Event) -> Option<Cause> {
        match self.socket.take_error() {
            Ok(Some(error)) | Err(error) => Some(Cause::of(&error)),
            Ok(None) => (event.failed && !event.writable).then_some(Cause::Reset),
        }
    }

    /// Says what is to be answered with a line.
    pub(super) fn ask(&mut self) -> io::Result<()> {
        self.line.clear();
        self.asked = Instant::now();
        match (&self.socket).write(QUESTION)? {
            length if length == QUESTION.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }

    /// Reads until a line is whole. A datagram is one.
    pub(super) fn listen(&mut self, udp: bool) -> Heard {
        let mut buffer = [0; LONGEST_LINE];
        loop {
            // No more than there is room for.
            let room = LONGEST_LINE.saturating_sub(self.line.len()).max(1);
            let length = match (&self.socket).read(&mut buffer[..room.min(LONGEST_LINE)]) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Heard::End(Cause::of(&error)),
            };
            self.line.extend_from_slice(&buffer[..length]);
            let whole = udp || self.line.last() == Some(&b'\n') || self.line.len() >= LONGEST_LINE;
            match (length, self.line.is_empty()) {
                (0, true) if !udp => return Heard::End(Cause::Closed),
                // The end of what was said ends the line too.
                (0, false) => return Heard::Line,
                _ if whole => return Heard::Line,
                _ => {}
            }
        }
    }

    /// What it means that its time is over.
    pub(super) fn overdue(&self, udp: bool) -> Cause {
        if self.stage == Stage::Greeting && !udp { Cause::NoAnswer } else { Cause::TimedOut }
    }
}
