//! The lists of addresses that the extension `recent` keeps, which is how session affinity works in iptables.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_getres, clock_gettime};

use crate::Error;

/// Where the kernel shows them.
const FOLDER: &str = "/proc/net/xt_recent";

/// How much of a list is read, in bytes. An address with its time stamps takes a few hundred at most, and the kernel
/// keeps a hundred addresses in a list unless it is told otherwise.
const MOST: u64 = 64 << 20;

/// How long ago an address was last put on a list; `None` if it is not on it, or there is no such list.
///
/// # Errors
/// When the list cannot be read.
pub fn last_seen(list: &str, address: IpAddr) -> Result<Option<Duration>, Error> {
    // A name comes out of a rule, and must not lead elsewhere.
    if list.is_empty() || list.starts_with('.') || list.contains(['/', '\0']) {
        return Ok(None);
    }
    let path = Path::new(FOLDER).join(list);
    let failed = |cause: io::Error| Error::io(format!("read {}", path.display()), cause);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let now = Jiffies::now().map_err(failed)?;
    let seen = find(BufReader::new(file.take(MOST)), address).map_err(failed)?;
    Ok(seen.map(|seen| now.since(seen)))
}

/// Looks an address up in a listing; returns the time of its last entry in jiffies.
fn find(listing: impl BufRead, address: IpAddr) -> io::Result<Option<u64>> {
    for line in listing.lines() {
        let line = line?;
        if let Some((_, seen)) = entry(&line).filter(|(found, _)| *found == address) {
            return Ok(Some(seen));
        }
    }
    Ok(None)
}

/// Reads `src=10.0.0.1 ttl: 64 last_seen: 4313398330 oldest_pkt: 1 4313398330`.
fn entry(line: &str) -> Option<(IpAddr, u64)> {
    let mut words = line.split_ascii_whitespace();
    let address = words.next()?.strip_prefix("src=")?.parse().ok()?;
    let seen = words.skip_while(|word| *word != "last_seen:").nth(1)?;
    Some((address, seen.parse().ok()?))
}

/// The kernel's count of ticks.
struct Jiffies {
    count: u64,
    per_second: u64,
}

impl Jiffies {
    /// The count starts five minutes before 2^32, and the coarse clocks tell how long a tick is.
    fn now() -> io::Result<Self> {
        const FIVE_MINUTES: u64 = 300;
        let tick = Duration::from(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?);
        let running = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let per_second = (1.0 / tick.as_secs_f64()).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 24 to 1200")]
        let per_second = per_second.clamp(1.0, 1e6) as u64;
        let ticks = running.as_secs() * per_second + u64::from(running.subsec_millis()) * per_second / 1000;
        Ok(Self { count: (1 << u32::BITS) - FIVE_MINUTES * per_second + ticks, per_second })
    }

    fn since(&self, earlier: u64) -> Duration {
        Duration::from_millis(self.count.saturating_sub(earlier).saturating_mul(1000) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
src=10.0.0.1 ttl: 64 last_seen: 4313398330 oldest_pkt: 2 4313398000, 4313398330
src=fd00:0000:0000:0000:0000:0000:0000:0001 ttl: 64 last_seen: 7 oldest_pkt: 1 7
src= last_seen:
";

    #[test]
    fn addresses_are_found_with_their_time() {
        let seen = |address: &str| find(LISTING.as_bytes(), address.parse().unwrap()).unwrap();
        assert_eq!(seen("10.0.0.1"), Some(4_313_398_330));
        assert_eq!(seen("fd00::1"), Some(7));
        assert_eq!(seen("10.0.0.2"), None);
    }

    #[test]
    fn ticks_become_time() {
        let now = Jiffies { count: 10_000, per_second: 250 };
        assert_eq!(now.since(9_750), Duration::from_secs(1));
        assert_eq!(now.since(10_001), Duration::ZERO);
        let now = Jiffies::now().unwrap();
        assert!((24..=1200).contains(&now.per_second) && now.count > 4_000_000_000, "{}", now.count);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["", ".", "../net", "a/b", "a\0b", "there-is-no-such-list"] {
            assert_eq!(last_seen(name, [10, 0, 0, 1].into()).unwrap(), None, "{name:?}");
        }
    }
}
