use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;
use testbed::Protocol;

use super::{Limits, Running};
use crate::frontend;
use crate::place::Place;

/// Pipes are descriptors too, so that there are enough for the connections that carry bulk, not for all.
const SPLICE: (&str, &str) = ("maxpipes 64", "option splice-auto");

/// With or without splicing.
pub(crate) fn start(place: &Place, limits: Limits, splices: bool) -> Result<Running> {
    let path = std::env::temp_dir().join("haproxy.cfg");
    fs::write(&path, configuration(place, limits, splices)?)?;
    let mut command = Command::new("/usr/sbin/haproxy");
    // In the foreground, and without a word.
    command.args(["-db", "-q", "-f"]).arg(path);
    Running::program(place, command)
}

fn configuration(place: &Place, limits: Limits, splices: bool) -> Result<String> {
    let (pipes, option) = if splices { SPLICE } else { Default::default() };
    let (workers, connections) = (limits.workers, limits.most_connections());
    let mut text = format!(
        "global\n  nbthread {workers}\n  maxconn {connections}\n  {pipes}\n\
         defaults\n  mode tcp\n  balance roundrobin\n  maxconn {connections}\n  {option}\n  \
         timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
    );
    for frontend in frontend::all().filter(|frontend| frontend.protocol == Protocol::Tcp) {
        // `shards by-thread` makes no difference here.
        writeln!(text, "listen {}\n  bind {}:{}", frontend.name, place.node(), frontend.port)?;
        for (number, target) in frontend.targets().enumerate() {
            writeln!(text, "  server s{number} {target}")?;
        }
    }
    Ok(text)
}
