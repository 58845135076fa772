//! Pipes at hand.

use kernel::socket::Pipe;

use super::bounds::Bounds;

/// Empty pipes that a thread keeps for the next time.
const KEPT: usize = 16;
/// Pipes of a thread at most. Directions whose sink is slow keep theirs.
const MOST: usize = 256;
/// Descriptors of a pipe.
const DESCRIPTORS: usize = 2;

/// The pipes of a thread.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    empty: Vec<Pipe>,
    /// How many there are, in use or not.
    count: usize,
}

impl Pipes {
    /// An empty pipe, if there is to be one more.
    pub(super) fn take(&mut self, bounds: &Bounds) -> Option<Pipe> {
        if let Some(pipe) = self.empty.pop() {
            return Some(pipe);
        }
        if self.count >= MOST || !bounds.descriptors.take(DESCRIPTORS) {
            return None;
        }
        match Pipe::new() {
            Ok(pipe) => {
                self.count += 1;
                Some(pipe)
            }
            Err(_) => {
                bounds.descriptors.give_back(DESCRIPTORS);
                None
            }
        }
    }

    /// Takes a pipe back. One that holds bytes is closed.
    pub(super) fn put_back(&mut self, pipe: Pipe, bounds: &Bounds) {
        if pipe.held() == 0 && self.empty.len() < KEPT {
            return self.empty.push(pipe);
        }
        drop(pipe);
        self.count -= 1;
        bounds.descriptors.give_back(DESCRIPTORS);
    }
}
