//! Kernel parameters that this mode needs: kube-proxy's.
//!
//! In a container without privileges they cannot be written, but somebody may have set them before: `--init-only` does.

use std::sync::Once;

use kernel::sysctl;

use crate::Error;

/// Name, value, and why.
type Parameter = (&'static str, &'static str, &'static str);

/// What the mode does not work without.
const NEEDED: [Parameter; 2] = [
    ("net.ipv4.vs.conntrack", "1", "so that what IPVS translates can be masqueraded"),
    ("net.ipv4.ip_forward", "1", "so that packets are passed on to pods"),
];

/// What it works better with.
const WANTED: [Parameter; 2] = [
    ("net.ipv4.vs.expire_nodest_conn", "1", "so that connections to an endpoint that is gone end"),
    ("net.ipv4.vs.expire_quiescent_template", "1", "so that session affinity leaves an endpoint that drains"),
];

/// Addresses on our device must not be asked for on other links (`--ipvs-strict-arp`).
const STRICT_ARP: [Parameter; 2] = [
    ("net.ipv4.conf.all.arp_ignore", "1", "for --ipvs-strict-arp"),
    ("net.ipv4.conf.all.arp_announce", "2", "for --ipvs-strict-arp"),
];

/// Kernels from 4.1 to 5.8 lose a second of every connection that reuses a port, unless this is off.
const REUSE: Parameter = ("net.ipv4.vs.conn_reuse_mode", "0", "so that a reused port costs no second");
const REUSE_NEEDED: std::ops::Range<(u32, u32)> = (4, 1)..(5, 9);

/// Sets them where they are otherwise. What is only wanted and cannot be set is said once.
pub(super) fn set(strict_arp: bool) -> Result<(), Error> {
    static TOLD: Once = Once::new();
    let strict = STRICT_ARP.iter().filter(|_| strict_arp);
    NEEDED.iter().chain(strict).try_for_each(set_one)?;
    let reuse = kernel_version().is_some_and(|version| REUSE_NEEDED.contains(&version)).then_some(&REUSE);
    let refused: Vec<_> =
        WANTED.iter().chain(reuse).filter_map(|wanted| Some((set_one(wanted).err()?, wanted.2))).collect();
    if !refused.is_empty() {
        TOLD.call_once(|| {
            for (error, why) in &refused {
                tracing::warn!("{error}; it is wanted {why}");
            }
        });
    }
    Ok(())
}

fn set_one((name, value, why): &Parameter) -> Result<(), Error> {
    if sysctl::set(name, value)? {
        tracing::info!(name, value, "set, {why}");
    }
    Ok(())
}

fn kernel_version() -> Option<(u32, u32)> {
    version(&sysctl::get("kernel.osrelease").ok()?)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (release, expected) in [
            ("6.1.0-32-cloud-amd64", Some((6, 1))),
            ("5.8.18", Some((5, 8))),
            ("4.19+", Some((4, 19))),
            ("x", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!(REUSE_NEEDED.contains(&(4, 1)) && REUSE_NEEDED.contains(&(5, 8)));
        assert!(!REUSE_NEEDED.contains(&(5, 9)) && !REUSE_NEEDED.contains(&(6, 1)));
    }
}
