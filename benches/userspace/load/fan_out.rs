//! How evenly the connections of one client are spread.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

/// Connects, one connection after the other. Returns how many more than the least used endpoint the most used one got.
pub(crate) fn spread(to: SocketAddr, endpoints: u8) -> Result<usize> {
    let mut counts: BTreeMap<u8, usize> = (1..=endpoints).map(|number| (number, 0)).collect();
    // Not a multiple of the number of endpoints.
    for _ in 0..10 * usize::from(endpoints) + 1 {
        let mut stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
        let mut name = [0];
        stream.write_all(b"?")?;
        stream.read_exact(&mut name)?;
        *counts
            .get_mut(&name[0])
            .with_context(|| format!("{to} leads to unknown endpoint {}", name[0]))? += 1;
        // Until the server has closed it.
        stream.read_to_end(&mut Vec::new())?;
    }
    let (most, least) = (counts.values().max(), counts.values().min());
    Ok(most.copied().unwrap_or_default() - least.copied().unwrap_or_default())
}
