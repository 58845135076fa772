//! Connections that were used and say nothing any more.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

/// Opens so many, and exchanges a byte over each.
pub(crate) fn hold(to: SocketAddr, connections: usize) -> Result<Vec<TcpStream>> {
    let open = |number| -> Result<TcpStream> {
        let context = || format!("connection {number} of {connections} to {to} failed");
        let mut stream = TcpStream::connect(to).with_context(context)?;
        stream.write_all(b"?").with_context(context)?;
        stream.read_exact(&mut [0]).with_context(context)?;
        Ok(stream)
    };
    (1..=connections).map(open).collect()
}
