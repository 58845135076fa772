//! Asking a page, as a probe would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Namespace;

const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for a page from within a namespace; returns the status and the body.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub fn get(from: &Namespace, to: SocketAddr, path: &str) -> Result<(u16, String)> {
    let (head, body) = get_accepting(from, to, path, "*/*")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?;
    Ok((status.parse().context("a status that is no number")?, body))
}

/// Asks for a page in a format; returns the head of the answer and the body.
///
/// # Errors
/// As [`get`].
pub fn get_accepting(from: &Namespace, to: SocketAddr, path: &str, accept: &str) -> Result<(String, String)> {
    let exchange = || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\naccept: {accept}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = from.run(exchange)?.with_context(|| format!("no answer from http://{to}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// The value of a metric, written with its labels, from a page of metrics; 0 if it is not there.
///
/// # Errors
/// As [`get`], and when the value is no number.
pub fn metric(from: &Namespace, to: SocketAddr, name: &str) -> Result<f64> {
    let (_, text) = get(from, to, "/metrics")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map(str::parse).transpose()?.unwrap_or_default())
}
