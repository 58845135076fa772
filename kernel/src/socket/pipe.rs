//! Pipes between streams.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;

use super::Stream;

/// A pipe that bytes go through from one stream to another without being copied to this process (`splice(2)`).
#[derive(Debug)]
pub struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    held: usize,
}

impl Pipe {
    /// A pipe of the system's usual size, 64 KiB in most cases.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (output, input) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { output, input, held: 0 })
    }

    /// Bytes that were taken in and not given out yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes in up to `most` bytes that a stream has received. 0 when it has ended.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to take, or the pipe is full. `InvalidInput` when the kernel cannot do it.
    pub fn take_from(&mut self, stream: &Stream, most: usize) -> io::Result<usize> {
        let count = splice(stream, None, &self.input, None, most, flags())?;
        self.held += count;
        Ok(count)
    }

    /// Gives out what is held, as much as the stream takes.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now.
    pub fn give_to(&mut self, stream: &Stream) -> io::Result<usize> {
        let count = splice(&self.output, None, stream, None, self.held, flags())?;
        self.held -= count;
        Ok(count)
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}
