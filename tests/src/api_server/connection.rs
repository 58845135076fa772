//! The server's end of a connection, below HTTP and above TLS: where it hangs, trickles or breaks.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::fault::Fault;

/// Lets an answer end its connection, once everything before is out.
#[derive(Debug, Default)]
pub(crate) struct Breaker(AtomicBool);

impl Breaker {
    /// Ends the connection at its next flush.
    pub(crate) fn break_off(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A TCP connection that ends with a reset if it was cut.
pub(crate) struct Socket {
    stream: TcpStream,
    cut: Arc<AtomicBool>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, cut: Arc<AtomicBool>) -> Self {
        Self { stream, cut }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.cut.load(Ordering::Relaxed) {
            // What cannot be reset is closed, which is what happens anyway.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Waits until the server does not hang.
pub(crate) async fn not_hanging(fault: &mut watch::Receiver<Option<Fault>>) {
    // An error means that the server ends, and this with it.
    let _ = fault.wait_for(|fault| *fault != Some(Fault::Hang)).await;
}

/// A connection whose writing is as slow and as broken as the fault of the moment wants.
pub(crate) struct Faulty<S> {
    inner: S,
    fault: watch::Receiver<Option<Fault>>,
    breaker: Arc<Breaker>,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S: AsyncWrite + Unpin> Faulty<S> {
    pub(crate) fn new(inner: S, fault: watch::Receiver<Option<Fault>>, breaker: Arc<Breaker>) -> Self {
        Self { inner, fault, breaker, pause: None }
    }

    /// Waits as long as nothing may be written; then tells how many bytes may.
    fn poll_allowed(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Duration)>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            let fault = *self.fault.borrow();
            match fault {
                Some(Fault::Hang) => {
                    let mut fault = self.fault.clone();
                    self.pause = Some(Box::pin(async move { not_hanging(&mut fault).await }));
                }
                Some(Fault::SlowDrip { bytes, every }) => return Poll::Ready(Some((bytes.max(1), every))),
                _ => return Poll::Ready(None),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Faulty<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Faulty<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some((most, every)) = ready!(self.poll_allowed(context)) else {
            return Pin::new(&mut self.inner).poll_write(context, bytes);
        };
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, &bytes[..most.min(bytes.len())]));
        let mut fault = self.fault.clone();
        self.pause = Some(Box::pin(async move {
            // The pause ends early if the fault does.
            let _ = tokio::time::timeout(
                every,
                fault.wait_for(|fault| !matches!(fault, Some(Fault::SlowDrip { .. }))),
            )
            .await;
        }));
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.pause.is_none() && matches!(*self.fault.borrow(), Some(Fault::Hang | Fault::SlowDrip { .. }))
            || self.pause.is_some()
        {
            let first = bytes.iter().find(|bytes| !bytes.is_empty()).map_or(&[][..], |bytes| bytes);
            return self.poll_write(context, first);
        }
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(context));
        if self.breaker.0.load(Ordering::Relaxed) {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
