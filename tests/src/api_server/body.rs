//! What answers are made of.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::connection::Breaker;
use super::object::Object;
use super::registry::OpenWatch;

/// Answers are sent in pieces of about this size.
pub(crate) const PIECE: usize = 64 * 1024;

/// A part of a watch.
pub(crate) enum Piece {
    /// To be sent.
    Data(Bytes),
    /// The connection is to end once everything before is out.
    Break,
}

/// A list, put together while it is sent.
pub(crate) struct ListBody {
    head: Bytes,
    objects: vec::IntoIter<Arc<Object>>,
    first: bool,
    ended: bool,
}

impl ListBody {
    /// What stands before the objects, and they.
    pub(crate) fn new(head: Bytes, objects: Vec<Arc<Object>>) -> Self {
        Self { head, objects: objects.into_iter(), first: true, ended: false }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut piece = BytesMut::with_capacity(PIECE + PIECE / 4);
        if self.first {
            piece.extend_from_slice(&self.head);
        }
        while piece.len() < PIECE {
            let Some(object) = self.objects.next() else {
                piece.extend_from_slice(b"]}\n");
                self.ended = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                piece.extend_from_slice(b",");
            }
            object.write_item(&mut piece);
        }
        Some(piece.freeze())
    }
}

/// The body of any answer.
pub(crate) enum Body {
    /// One piece, known before.
    Whole(Option<Bytes>),
    /// A list.
    List(ListBody),
    /// A watch; counts as open for as long as this lives.
    Watch { pieces: mpsc::Receiver<Piece>, breaker: Arc<Breaker>, _open: OpenWatch },
    /// Half of the first piece of another; then the connection ends.
    Half { of: Box<Body>, breaker: Arc<Breaker> },
    /// Nothing more, for good.
    Stuck,
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let data = |bytes: Bytes| Ok(Frame::data(bytes));
        match this {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(data)),
            Self::List(list) => Poll::Ready(list.next_piece().map(data)),
            Self::Watch { pieces, breaker, .. } => match pieces.poll_recv(context) {
                Poll::Ready(Some(Piece::Data(bytes))) => Poll::Ready(Some(data(bytes))),
                Poll::Ready(Some(Piece::Break)) => {
                    breaker.break_off();
                    *this = Self::Stuck;
                    Poll::Pending
                }
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
            Self::Half { of, breaker } => {
                let first = match &mut **of {
                    Self::Whole(bytes) => bytes.take(),
                    Self::List(list) => list.next_piece(),
                    _ => None,
                };
                breaker.break_off();
                *this = Self::Stuck;
                first.map_or(Poll::Pending, |bytes| Poll::Ready(Some(data(bytes.slice(..bytes.len() / 2)))))
            }
            Self::Stuck => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            _ => SizeHint::default(),
        }
    }
}
