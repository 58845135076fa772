//! `pointsman trace`.

use clap::Args;

use super::{LiveFlags, Output};

const EXAMPLE: &str = "\
Examples: from a pod of this node, given by its address, to the cluster's DNS;
from outside to a node port; and from this node to a Service by name, for which
the pointsman that runs here is asked:

  pointsman trace -s 10.244.1.7 10.96.0.10:53/udp
  pointsman trace -s outside 192.168.0.2:30080
  pointsman trace default/web:http

Nothing is sent, and nothing changed.

Example: follow the next ten connections of that pod to the cluster's DNS:

  pointsman trace --live -s 10.244.1.7 10.96.0.10:53/udp";

const WHERE_TO: &str = "Where to: ADDRESS:PORT, [ADDRESS]:PORT or NAMESPACE/SERVICE[:PORT] with a port's name or \
                        number; with /tcp, /udp or /sctp after it [default: /tcp, or what the Service's port has]";

/// What `pointsman trace` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct TraceFlags {
    /// Who connects: an address (of a pod, or of a client elsewhere), `node` for this node itself, or `outside` for
    /// anybody who comes in by the default route [default: node, or all with --live].
    #[arg(short, long, value_name = "SRC")]
    pub source: Option<String>,

    /// An address and port, or a Service and its port, and a protocol.
    #[arg(help = WHERE_TO, value_name = "DST:PORT[/PROTO]", required_unless_present = "live")]
    pub destination: Option<String>,

    /// Of a Service, take its node port at this node's address.
    #[arg(long, conflicts_with = "external")]
    pub node_port: bool,

    /// Of a Service, take its external and load-balancer addresses.
    #[arg(long)]
    pub external: bool,

    /// What only following real packets takes.
    #[command(flatten)]
    pub live: LiveFlags,

    /// How to print it; `json` with --live is an object a line.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}
