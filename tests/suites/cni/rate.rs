//! Whether bytes go as fast as they may.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use testbed::Namespace;

/// What goes at once at first is not counted.
const WARM_UP: Duration = Duration::from_millis(150);
const MEASURED: Duration = Duration::from_millis(300);
/// How often it is measured: on a machine that is busy, whoever sends does not always get the time to send enough.
const TIMES: usize = 20;
/// Shares of the rate that are near enough.
const NEAR: Range<f64> = 0.8..1.2;
/// What a datagram carries, and what is around it: UDP, IPv4 and Ethernet, which is what rates count.
const PAYLOAD: usize = 1200;
const HEADERS: usize = 42;

/// Sends twice as many bits a second as may pass, until so many arrive as may. (Over TCP it would depend on how that takes
/// losses.)
pub(crate) fn must_be_kept(from: &Namespace, to: &Namespace, at: IpAddr, rate: u64) -> Result<()> {
    let receiver = to.run(|| UdpSocket::bind((at, 0)))??;
    receiver.set_read_timeout(Some(Duration::from_millis(20)))?;
    let any: IpAddr = if at.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let sender = from.run(|| UdpSocket::bind((any, 0)))??;
    sender.connect(receiver.local_addr()?)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(&sender, rate * 2, &done));
        let count = |time: Duration| -> Result<usize> {
            let (mut bytes, end) = (0, Instant::now() + time);
            while Instant::now() < end {
                match receiver.recv(&mut [0; 2 * PAYLOAD]) {
                    Ok(length) => bytes += length + HEADERS,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(bytes)
        };
        let is_kept = || {
            count(WARM_UP)?;
            let mut shares = Vec::new();
            for _ in 0..TIMES {
                let start = Instant::now();
                let arrived = count(MEASURED)? as f64 * 8.0 / start.elapsed().as_secs_f64();
                shares.push(arrived / rate as f64);
                if shares.last().is_some_and(|share| NEAR.contains(share)) {
                    return Ok(());
                }
            }
            bail!("never near {rate} bit/s, but {shares:.2?} of it");
        };
        let kept = is_kept();
        done.store(true, Ordering::Relaxed);
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        kept
    })
}

/// Sends so many bits a second.
fn send(socket: &UdpSocket, rate: u64, done: &AtomicBool) -> Result<()> {
    let (start, mut sent) = (Instant::now(), 0.0);
    while !done.load(Ordering::Relaxed) {
        let due = start.elapsed().as_secs_f64() * rate as f64;
        while sent < due {
            match socket.send(&[0; PAYLOAD]) {
                Ok(_) => {}
                // A queue is full, which is what this is about.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
            sent += ((PAYLOAD + HEADERS) * 8) as f64;
        }
        // Not to take the time of whoever counts.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
