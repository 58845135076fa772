//! Connections without pause.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

use crate::place::{Place, Protocol};
use crate::subject::answerer;

/// Connections before and after something is done, at least.
const ENOUGH: usize = 10;

/// Connects without pause while something else is done.
///
/// # Errors
/// When that fails, or a connection is not answered by a pod.
pub fn under_traffic(place: Place<'_>, to: SocketAddr, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let (done, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    let await_connections = |traffic: &thread::ScopedJoinHandle<'_, Result<()>>, count| {
        while connections.load(Ordering::Relaxed) < count && !traffic.is_finished() {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let outcome = place.connect(Protocol::Tcp, to)?;
                answerer(&outcome)?;
                connections.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        // The traffic is on before anything is done.
        await_connections(&traffic, ENOUGH);
        let result = meanwhile();
        await_connections(&traffic, connections.load(Ordering::Relaxed) + ENOUGH);
        done.store(true, Ordering::Relaxed);
        let traffic = traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.and(traffic.context("a connection failed"))
    })
}
