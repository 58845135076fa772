//! Flags of bound entry to userspace mode.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use modes::userspace::bound;
use nix::unistd::geteuid;

use super::USERSPACE;

/// What only bound entry is told.
#[derive(Clone, Debug, Args)]
pub struct BoundFlags {
    /// How connections come in.
    #[arg(long, value_name = "ENTRY", value_enum, default_value_t = Entry::Auto, help_heading = USERSPACE)]
    pub userspace_entry: Entry,

    /// In bound entry, the address to listen on, in place of its family's loopback address; may be given for each
    /// family.
    #[arg(long, value_name = "IP", value_delimiter = ',', help_heading = USERSPACE)]
    pub userspace_bound_address: Vec<IpAddr>,

    /// In bound entry, the file that keeps which local port each Service has; empty for none [default:
    /// pointsman/ports.json in $XDG_STATE_HOME or ~/.local/state].
    #[arg(long, value_name = "FILE", help_heading = USERSPACE)]
    pub userspace_ports_file: Option<String>,
}

/// Words of `--userspace-entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Entry {
    /// Captured as root, bound as anybody else
    Auto,
    /// The kernel leads here what is sent to Services; takes root
    Captured,
    /// Each Service has a local port; takes no privileges
    Bound,
}

impl Entry {
    /// Whether it means bound entry, for whoever this process runs as.
    #[must_use]
    pub fn is_bound(self) -> bool {
        match self {
            Self::Auto => !geteuid().is_root(),
            Self::Captured => false,
            Self::Bound => true,
        }
    }
}

impl BoundFlags {
    /// What the mode is told.
    #[must_use]
    pub fn options(&self) -> bound::Options {
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
