//! Flags of userspace mode. Those that kube-proxy had for its own have its names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use modes::userspace::bound;
use modes::userspace::captured::{self, PORTS};
use modes::userspace::forward::{self, Balancing};

use super::duration;

const USERSPACE: &str = "In userspace mode";

/// What only userspace mode asks.
#[derive(Args, Clone, Debug)]
pub struct UserspaceFlags {
    /// How traffic comes to the process.
    #[arg(long, value_name = "ENTRY", default_value = "auto", help_heading = USERSPACE)]
    pub userspace_entry: Entry,

    /// How an endpoint is chosen for a new connection.
    #[arg(long, value_name = "WAY", default_value = "round-robin", help_heading = USERSPACE)]
    pub userspace_balancing: BalancingName,

    /// Threads that carry traffic [default: one for every two processors].
    #[arg(long, value_name = "N", help_heading = USERSPACE)]
    pub userspace_workers: Option<NonZeroUsize>,

    /// TCP connections under way at most; those beyond are closed at once [default: what the limit of file descriptors
    /// allows].
    #[arg(long, value_name = "N", help_heading = USERSPACE)]
    pub userspace_max_connections: Option<NonZeroUsize>,

    /// The same for each port of a Service, and each traffic policy [default: no bound].
    #[arg(long, value_name = "N", help_heading = USERSPACE)]
    pub userspace_max_connections_per_service: Option<NonZeroUsize>,

    /// After how long without a byte a TCP connection is closed.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, help_heading = USERSPACE)]
    pub userspace_tcp_idle_timeout: Duration,

    /// After how long without a datagram a client over UDP is forgotten.
    #[arg(long, alias = "udp-timeout", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    #[arg(help_heading = USERSPACE)]
    pub userspace_udp_timeout: Duration,

    /// Addresses that captured traffic is led to, one of a family, which nobody else uses; put on lo [default:
    /// 169.254.112.77,fd70:6f69:6e74::1].
    #[arg(long, value_name = "IPS", value_delimiter = ',', value_parser = capture_address)]
    #[arg(help_heading = USERSPACE)]
    pub userspace_capture_addresses: Vec<IpAddr>,

    /// Ports to listen on, from-to, the first and the last among them; empty for the default [default: 1024-65535].
    #[arg(long, value_name = "RANGE", default_value = "", hide_default_value = true, value_parser = port_range)]
    #[arg(help_heading = USERSPACE)]
    pub proxy_port_range: PortRange,

    /// In bound entry, the address to listen on, in place of its family's loopback address; may be given for each
    /// family.
    #[arg(long, value_name = "IP", value_delimiter = ',', help_heading = USERSPACE)]
    pub userspace_bound_address: Vec<IpAddr>,

    /// In bound entry, the file that keeps which local port each Service has; empty for none [default:
    /// pointsman/ports.json in $XDG_STATE_HOME or ~/.local/state].
    #[arg(long, value_name = "FILE", help_heading = USERSPACE)]
    pub userspace_ports_file: Option<String>,
}

/// How traffic comes to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Entry {
    /// captured where the process may program the kernel, else bound
    Auto,
    /// The kernel leads Services' traffic to the process: by nftables, or by iptables where there are no nftables or
    /// --iptables-backend asks for it
    Captured,
    /// A local port for each port of a Service; takes no privileges
    Bound,
}

/// Words of `--userspace-balancing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BalancingName {
    /// In turn
    RoundRobin,
    /// The one with the fewest connections under way
    LeastConnections,
}

/// A range of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

impl UserspaceFlags {
    /// What the forwarder is told.
    #[must_use]
    pub fn forward(&self) -> forward::Options {
        let default = forward::Options::default();
        forward::Options {
            workers: self.userspace_workers.unwrap_or(default.workers),
            balancing: match self.userspace_balancing {
                BalancingName::RoundRobin => Balancing::RoundRobin,
                BalancingName::LeastConnections => Balancing::LeastConnections,
            },
            max_connections: self.userspace_max_connections,
            max_connections_per_target: self.userspace_max_connections_per_service,
            tcp_idle: self.userspace_tcp_idle_timeout,
            udp_idle: self.userspace_udp_timeout,
            ..default
        }
    }

    /// What the captured entry is told.
    #[must_use]
    pub fn captured(&self) -> captured::Options {
        captured::Options {
            forward: self.forward(),
            addresses: self.userspace_capture_addresses.clone(),
            ports: self.proxy_port_range.0.clone(),
        }
    }
}

impl UserspaceFlags {
    /// What the bound entry is told.
    #[must_use]
    pub fn bound(&self) -> bound::Options {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let addresses = loopback.into_iter().chain(self.userspace_bound_address.iter().copied()).collect();
        let ports_file = match self.userspace_ports_file.as_deref() {
            Some("") => None,
            Some(path) => Some(path.into()),
            None => state_file(|name| std::env::var_os(name).map(PathBuf::from)),
        };
        bound::Options { addresses, ports_file }
    }
}

/// Where programs keep the user's state (XDG Base Directory Specification).
fn state_file(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let folder = |name| variable(name).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    state.map(|state| state.join("pointsman/ports.json"))
}

/// An address that packets to are delivered here, and only here.
fn capture_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.trim().parse().map_err(|_| format!("{text:?} is no address"))?;
    match address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        true => Err("it takes an address of its own, neither loopback nor multicast".to_owned()),
        false => Ok(address),
    }
}

/// A range as kube-proxy's flag has it: `from-to`, `from+more`, or a single port. `0-0` asks for the default.
fn port_range(text: &str) -> Result<PortRange, String> {
    let text = text.trim();
    if matches!(text, "" | "0" | "0-0") {
        return Ok(PortRange(PORTS));
    }
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let range = if let Some((from, to)) = text.split_once('-') {
        port(from).zip(port(to))
    } else if let Some((from, more)) = text.split_once('+') {
        let more: Option<u16> = more.trim().parse().ok();
        port(from).zip(more).and_then(|(from, more)| Some((from, from.checked_add(more)?)))
    } else {
        port(text).map(|port| (port, port))
    };
    let range = range.filter(|(from, to)| from <= to);
    let range = range.map(|(from, to)| PortRange(from..=to));
    range.ok_or_else(|| format!("{text:?} is no range of ports such as 1024-65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_where_users_keep_state() {
        let of = |variables: &[(&str, &str)]| {
            let get = |name: &str| variables.iter().find(|(known, _)| *known == name);
            state_file(|name| get(name).map(|(_, value)| PathBuf::from(value)))
        };
        let home = ("HOME", "/home/u");
        assert_eq!(of(&[home]), Some("/home/u/.local/state/pointsman/ports.json".into()));
        assert_eq!(of(&[home, ("XDG_STATE_HOME", "/s")]), Some("/s/pointsman/ports.json".into()));
        assert_eq!(of(&[("HOME", "")]), None);
    }
}
