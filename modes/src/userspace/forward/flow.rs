//! One direction of a TCP connection: from the socket where bytes come in, the *source*, to the one where they go
//! out, the *sink*.
//!
//! Nothing is received that the sink has no room for, as far as can be known: what it does not take after all is held,
//! and nothing more is received until that is gone. Large amounts go through a pipe, without being copied to this
//! process. When too much is held altogether, bytes are only peeked at, and received once the sink has taken them.

use std::io::{self, ErrorKind};

use kernel::socket::{Pipe, Stream};

use super::figures::{Counter, Counters};
use super::worker::Tools;

/// Bytes copied at a time, and so what a direction holds at most outside of a pipe.
pub(super) const CHUNK: usize = 16 << 10;
/// Bytes that go into a pipe at a time.
const PIPEFUL: usize = 256 << 10;
/// With less than this at a time a pipe does not pay.
const BULK: usize = 8 << 10;
/// How often a direction is served before others have their turn.
const ROUNDS: usize = 8;

/// What counts the bytes of a direction.
type CounterOf = fn(&Counters) -> &Counter;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The source may have bytes.
    pub(super) readable: bool,
    /// The sink may have room.
    pub(super) writable: bool,
    /// The source's end follows what can be received now.
    pub(super) ending: bool,
    /// The source has ended.
    pub(super) ended: bool,
    /// The sink was told of the end, or is gone.
    pub(super) finished: bool,
    /// There is so much that a pipe pays.
    bulk: bool,
    /// The kernel cannot do it with a pipe.
    unspliceable: bool,
    held: Held,
}

/// What was received and not sent yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Bytes {
        bytes: Box<[u8]>,
        sent: usize,
    },
    Pipe(Pipe),
}

/// How far a direction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for one of the sockets.
    Waiting,
    /// It would go on, but others are to have their turn.
    Interrupted,
    /// The source failed.
    SourceFailed,
    /// The sink failed: nothing more can be sent.
    SinkFailed,
}

/// What became of an attempt to move bytes.
enum Moved {
    /// Go on.
    Some,
    /// One of the sockets is not ready.
    NotNow,
    /// There is a reason to stop.
    Failed(Progress),
}

impl Flow {
    /// A direction that begins with bytes of our own.
    pub(super) fn beginning_with(bytes: Vec<u8>, tools: &Tools) -> Self {
        let mut flow = Self::default();
        flow.hold(bytes.into(), tools);
        flow
    }

    /// Moves what can be moved now.
    pub(super) fn pump(
        &mut self,
        source: &Stream,
        sink: &Stream,
        other_finished: bool,
        counter: CounterOf,
        tools: &mut Tools,
    ) -> Progress {
        for _ in 0..ROUNDS {
            if self.finished {
                return Progress::Waiting;
            }
            match self.send_held(sink, tools) {
                Moved::Some => {}
                Moved::NotNow => return Progress::Waiting,
                Moved::Failed(progress) => return progress,
            }
            if self.ended {
                self.finished = true;
                // If both directions are over, the sockets are closed at once.
                return if other_finished || sink.finish().is_ok() {
                    Progress::Waiting
                } else {
                    Progress::SinkFailed
                };
            }
            if !self.readable || !self.writable {
                return Progress::Waiting;
            }
            let moved = match self.bulk && !self.unspliceable {
                true => self.splice(source, sink, counter, tools),
                false => self.copy(source, sink, counter, tools),
            };
            match moved {
                Moved::Some => {}
                Moved::NotNow => return Progress::Waiting,
                Moved::Failed(progress) => return progress,
            }
        }
        Progress::Interrupted
    }

    /// Gives up the direction: nothing more will be sent.
    pub(super) fn abandon(&mut self, tools: &mut Tools) {
        (self.ended, self.finished) = (true, true);
        self.drop_held(tools);
    }

    /// Gives back what is held. To be called before the direction is dropped.
    pub(super) fn drop_held(&mut self, tools: &mut Tools) {
        match std::mem::take(&mut self.held) {
            Held::Nothing => {}
            Held::Bytes { bytes, .. } => tools.shared.bounds.held.give_back(bytes.len()),
            Held::Pipe(pipe) => tools.pipes.put_back(pipe, &tools.shared.bounds),
        }
    }

    fn hold(&mut self, bytes: Box<[u8]>, tools: &Tools) {
        // There was room for a whole chunk just now; if others were faster, the bound is passed by that much.
        tools.shared.bounds.held.take_anyway(bytes.len());
        self.held = Held::Bytes { bytes, sent: 0 };
    }

    fn send_held(&mut self, sink: &Stream, tools: &mut Tools) -> Moved {
        loop {
            let (result, left) = match &mut self.held {
                Held::Nothing => return Moved::Some,
                _ if !self.writable => return Moved::NotNow,
                Held::Bytes { bytes, sent } => {
                    let result = sink.send(&bytes[*sent..]);
                    *sent += *result.as_ref().unwrap_or(&0);
                    (result, bytes.len() - *sent)
                }
                Held::Pipe(pipe) => (pipe.give_to(sink), pipe.held()),
            };
            match result {
                Ok(_) if left == 0 => self.drop_held(tools),
                Ok(_) => {}
                Err(error) => return self.sink_refused(&error),
            }
        }
    }

    /// Receives into the thread's buffer and sends from there.
    fn copy(&mut self, source: &Stream, sink: &Stream, counter: CounterOf, tools: &mut Tools) -> Moved {
        let may_hold = tools.shared.bounds.held.has(CHUNK);
        let received = match may_hold {
            true => source.receive(&mut tools.buffer),
            false => source.peek(&mut tools.buffer),
        };
        let received = match received {
            Ok(0) => {
                self.ended = true;
                return Moved::Some;
            }
            Ok(count) => count,
            Err(error) => return self.source_refused(&error),
        };
        self.bulk = received == tools.buffer.len();
        let bytes = &tools.buffer[..received];
        let sent = match sink.send(bytes) {
            Ok(sent) => sent,
            Err(error) => match self.sink_refused(&error) {
                Moved::NotNow => 0,
                moved => return moved,
            },
        };
        counter(&tools.counters).add(sent);
        let all = sent == received;
        match (all, may_hold) {
            // More may have come meanwhile, but then the kernel will tell.
            (true, true) => self.readable = self.bulk || self.ending,
            (false, true) => {
                self.writable = false;
                counter(&tools.counters).add(received - sent);
                self.hold(bytes[sent..].into(), tools);
            }
            (_, false) => {
                self.writable = all;
                if sent > 0
                    && let Err(error) = source.discard(&mut tools.buffer[..sent])
                {
                    return self.source_refused(&error);
                }
            }
        }
        Moved::Some
    }

    /// Moves bytes through a pipe.
    fn splice(&mut self, source: &Stream, sink: &Stream, counter: CounterOf, tools: &mut Tools) -> Moved {
        let Some(mut pipe) = tools.pipes.take(&tools.shared.bounds) else {
            return self.copy(source, sink, counter, tools);
        };
        let taken = pipe.take_from(source, PIPEFUL);
        match taken {
            Ok(count) => {
                self.bulk = count >= BULK;
                self.ended = count == 0;
                counter(&tools.counters).add(count);
            }
            Err(error) => {
                tools.pipes.put_back(pipe, &tools.shared.bounds);
                if error.kind() == ErrorKind::InvalidInput {
                    self.unspliceable = true;
                    return Moved::Some;
                }
                return self.source_refused(&error);
            }
        }
        self.held = Held::Pipe(pipe);
        if self.ended {
            self.drop_held(tools);
        }
        Moved::Some
    }

    fn source_refused(&mut self, error: &io::Error) -> Moved {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.readable = false;
                self.bulk = false;
                Moved::NotNow
            }
            ErrorKind::Interrupted => Moved::Some,
            _ => Moved::Failed(Progress::SourceFailed),
        }
    }

    fn sink_refused(&mut self, error: &io::Error) -> Moved {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.writable = false;
                Moved::NotNow
            }
            ErrorKind::Interrupted => Moved::Some,
            _ => Moved::Failed(Progress::SinkFailed),
        }
    }
}
