//! What can be wrong with a server.

use std::time::Duration;

/// What is wrong with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Connections are refused, and open ones were cut.
    Down,
    /// Like a stopped process: the kernel takes connections and what is sent on them, and nothing ever comes back.
    /// Open watches stay open and are silent. When it is over, everything goes on where it was.
    Hang,
    /// Everything that is sent trickles.
    SlowDrip {
        /// So many bytes of an answer...
        bytes: usize,
        /// ...in so much time.
        every: Duration,
    },
    /// What comes in answer is headers, one after the other, so often; the answer itself never begins. As fast as the
    /// client reads if that is zero. On new connections.
    EndlessHeaders {
        /// Between two headers.
        every: Duration,
    },
    /// Watches, open ones too, get a bookmark and end, as they should: nothing is wrong but that they are short.
    ShortWatches,
    /// Bytes that are no JSON: in answers, and at once in open watches.
    Garbage,
    /// Answers end in the middle, and at once so do open watches, in the middle of a line. The connection is closed
    /// without TLS saying so.
    Truncated,
    /// New connections see a certificate of another authority. Open ones were cut.
    WrongCertificate,
    /// Every request is answered with 429 and `Retry-After: 1`. Open watches are served on.
    TooManyRequests,
    /// Every request is answered with 500. Open watches are served on.
    InternalError,
}

/// What [`Fault::Garbage`] sends.
pub(crate) const GARBAGE: &[u8] = b"{\"kind\":<\x00\xff\xfe oops\n";
