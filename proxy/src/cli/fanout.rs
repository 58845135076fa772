//! `pointsman fanout` and `pointsman respond`.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Output, duration};

const TARGET: &str = "Where to connect to: ADDRESS:PORT, or [namespace/]service[:port] as the pointsman that runs on this \
                      machine knows it";

/// What `pointsman fanout` is told.
#[derive(Clone, Debug, Args)]
pub struct FanoutFlags {
    /// Where to connect to: an address and port, or a Service and its port.
    #[arg(help = TARGET, value_name = "TARGET")]
    pub target: String,

    /// Connections under way at once.
    #[arg(short, long, value_name = "N", default_value = "16")]
    pub concurrency: NonZeroUsize,

    /// How many connections to open; with --kept-alive, how many requests to send [default: 1000].
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "duration")]
    pub connections: Option<NonZeroU64>,

    /// For how long to open connections instead; a number is seconds.
    #[arg(short, long, value_name = "TIME", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Keep as many connections as --concurrency says, and send requests over them: shows that requests go where their
    /// connection went. Takes servers that greet with a line and answer each line with one, as `pointsman respond`
    /// does.
    #[arg(long)]
    pub kept_alive: bool,

    /// Addresses of this host to connect from, in turn: each is a client of its own.
    #[arg(long, value_name = "IPS", value_delimiter = ',')]
    pub from: Vec<IpAddr>,

    /// Send datagrams, each from a port of its own, to a server that answers them.
    #[arg(long)]
    pub udp: bool,

    /// How to learn which endpoint answered.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub by: By,

    /// How a connection ends. After a FIN its local port is taken for a minute (TIME_WAIT), so there can be some 28,000
    /// in a minute; a reset leaves nothing behind, but servers may log it.
    #[arg(long, value_name = "HOW", default_value = "reset")]
    pub close: Close,

    /// After how long without an answer a connection has failed.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = seconds)]
    pub timeout: Duration,

    /// How to print the report.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,

    /// Draw the report too, as an .svg or .png.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// Words of `--by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// By conntrack where it can tell, else by what the server says
    Auto,
    /// By the kernel's connection tracking, whatever the server is: on the node, with CAP_NET_ADMIN
    Conntrack,
    /// By the line that the server greets with, as `pointsman respond` does
    Responder,
}

/// Words of `--close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Close {
    /// Abruptly
    Reset,
    /// As most clients do
    Fin,
}

/// What `pointsman respond` is told.
#[derive(Clone, Debug, Args)]
pub struct RespondFlags {
    /// Where to listen, over TCP and UDP.
    #[arg(long, value_name = "ADDRESS:PORT", value_delimiter = ',', default_value = "[::]:8080")]
    pub listen: Vec<SocketAddr>,

    /// What to be called [default: $POD_NAME, else the host's name].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// A length of time as Go writes it, or a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(number) if number > 0 => duration(&format!("{number}s")),
        _ => duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_seconds() {
        assert_eq!(seconds("10"), Ok(Duration::from_secs(10)));
        assert_eq!(seconds("1m30s"), Ok(Duration::from_secs(90)));
        assert!(seconds("0").is_err() && seconds("soon").is_err());
    }
}
