//! A server that speaks all the time, and whose clients need not say anything.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::Namespace;

/// How long it draws breath.
const BREATH: Duration = Duration::from_millis(10);

/// Speaks until it is dropped.
pub(crate) struct Talker(Arc<AtomicBool>);

impl Talker {
    pub(crate) fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = namespace.run(|| TcpListener::bind(address))?.context("cannot serve")?;
        let silent = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&silent);
        thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                talk(stream, &flag);
            }
        });
        Ok(Self(silent))
    }
}

fn talk(mut stream: TcpStream, silent: &AtomicBool) {
    while !silent.load(Ordering::Relaxed) && stream.write_all(b"and so on ").is_ok() {
        thread::sleep(BREATH);
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
