//! How fast bytes go.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::Namespace;

/// What goes at once at first is not counted.
const WARM_UP: Duration = Duration::from_millis(250);
const MEASURED: Duration = Duration::from_millis(750);

/// Bits a second that one TCP connection carries.
pub(crate) fn measure(from: &Namespace, to: &Namespace, at: IpAddr) -> Result<f64> {
    let listener = to.run(|| TcpListener::bind((at, 0)))??;
    let address = listener.local_addr()?;
    let stream = from.run(|| TcpStream::connect(address))?.context("cannot connect")?;
    let (mut received, _) = listener.accept()?;
    let sender = thread::spawn(move || send(stream));
    let mut buffer = vec![0; 64 << 10];
    let mut count = |until: Instant| -> Result<u64> {
        let mut bytes = 0_u64;
        while Instant::now() < until {
            bytes += u64::try_from(received.read(&mut buffer)?)?;
        }
        Ok(bytes)
    };
    count(Instant::now() + WARM_UP)?;
    let start = Instant::now();
    let bytes = count(start + MEASURED)?;
    let rate = bytes as f64 * 8.0 / start.elapsed().as_secs_f64();
    drop(received);
    // It ends when nobody listens any more.
    sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(rate)
}

fn send(mut stream: TcpStream) -> Result<()> {
    let buffer = vec![0; 16 << 10];
    loop {
        match stream.write(&buffer) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
