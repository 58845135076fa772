//! Which parameters are to be written, from what is asked for and what is there. Pure.

use std::fmt;
use std::time::Duration;

use super::Conntrack;

/// More connections than this are tracked only if the lower bound asks for it: entries take memory that the kernel never
/// gives to anybody else. kube-proxy's figure.
const MOST_BY_CORES: u64 = 1 << 20;
/// Connections for each bucket of the hash table, at most. kube-proxy's figure.
const CONNECTIONS_PER_BUCKET: u64 = 4;

/// A parameter of conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// How many connections are tracked at most. Of the machine: network namespaces see it, and one sets it.
    Max,
    /// Buckets of the hash table. Of the machine.
    HashSize,
    /// Seconds that an idle TCP connection is remembered.
    TcpEstablished,
    /// Seconds that a half-closed TCP connection is remembered.
    TcpCloseWait,
    /// Whether TCP packets outside the window pass.
    TcpBeLiberal,
    /// Seconds that a UDP flow is remembered which was seen in one direction.
    Udp,
    /// Seconds that a UDP flow is remembered which was seen in both.
    UdpStream,
}

impl Parameter {
    /// Its dotted name; `None` for the one that is a parameter of the module.
    pub(super) fn sysctl(self) -> Option<&'static str> {
        match self {
            Self::Max => Some("net.netfilter.nf_conntrack_max"),
            Self::HashSize => None,
            Self::TcpEstablished => Some("net.netfilter.nf_conntrack_tcp_timeout_established"),
            Self::TcpCloseWait => Some("net.netfilter.nf_conntrack_tcp_timeout_close_wait"),
            Self::TcpBeLiberal => Some("net.netfilter.nf_conntrack_tcp_be_liberal"),
            Self::Udp => Some("net.netfilter.nf_conntrack_udp_timeout"),
            Self::UdpStream => Some("net.netfilter.nf_conntrack_udp_timeout_stream"),
        }
    }

    /// Whether only the machine's own network namespace can set it.
    pub(super) fn is_of_the_machine(self) -> bool {
        matches!(self, Self::Max | Self::HashSize)
    }

    /// Whether a value is as good as the one that is wanted. What an administrator made roomier stays so.
    fn is_met(self, there: u64, wanted: u64) -> bool {
        if self.is_of_the_machine() { there >= wanted } else { there == wanted }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sysctl().unwrap_or("nf_conntrack.hashsize"))
    }
}

/// A parameter that is to have another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub parameter: Parameter,
    /// Its value now; `None` if it cannot be read.
    pub there: Option<u64>,
    /// The value that it is to have.
    pub wanted: u64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.parameter, self.wanted)
    }
}

/// What is to be written on a machine with so many processors, in this order. `read` tells a parameter's value of now.
pub(super) fn plan(
    asked: &Conntrack,
    processors: u32,
    read: impl Fn(Parameter) -> Option<u64>,
) -> Vec<Change> {
    let changes =
        wanted(asked, processors).into_iter().map(|(parameter, wanted)| (parameter, read(parameter), wanted));
    changes
        .filter(|(parameter, there, wanted)| !there.is_some_and(|there| parameter.is_met(there, *wanted)))
        .map(|(parameter, there, wanted)| Change { parameter, there, wanted })
        .collect()
}

/// All that is asked for.
fn wanted(asked: &Conntrack, processors: u32) -> Vec<(Parameter, u64)> {
    let max = most(asked, processors);
    let timeouts = [
        (Parameter::TcpEstablished, asked.tcp_established),
        (Parameter::TcpCloseWait, asked.tcp_close_wait),
        (Parameter::Udp, asked.udp),
        (Parameter::UdpStream, asked.udp_stream),
    ];
    let timeouts =
        timeouts.into_iter().filter_map(|(parameter, timeout)| Some((parameter, seconds(timeout)?)));
    let liberal = asked.tcp_be_liberal.then_some((Parameter::TcpBeLiberal, 1));
    let sizes = max.map(|max| [(Parameter::Max, max), (Parameter::HashSize, max / CONNECTIONS_PER_BUCKET)]);
    sizes.into_iter().flatten().chain(timeouts).chain(liberal).collect()
}

/// How many connections are to be tracked at most, if that is asked for.
fn most(asked: &Conntrack, processors: u32) -> Option<u64> {
    if asked.max_per_core == 0 {
        return None;
    }
    let by_cores = (u64::from(asked.max_per_core) * u64::from(processors)).min(MOST_BY_CORES);
    // kube-proxy lets the cap win, and so gives a large machine less than what it was told is the least.
    Some(by_cores.max(asked.min.into()))
}

/// Whole seconds, `None` if none is asked for. Zero would mean to remember nothing.
fn seconds(timeout: Duration) -> Option<u64> {
    (!timeout.is_zero()).then(|| timeout.as_secs().max(1))
}

/// How many processors a list such as `0-3,6` names.
pub(super) fn count(list: &str) -> Option<u32> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    list.split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let length = number(last)?.checked_sub(number(first)?)?.checked_add(1)?;
        sum.checked_add(length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Conntrack = Conntrack {
        max_per_core: 0,
        min: 0,
        tcp_established: Duration::ZERO,
        tcp_close_wait: Duration::ZERO,
        tcp_be_liberal: false,
        udp: Duration::ZERO,
        udp_stream: Duration::ZERO,
    };

    /// A node as it comes: two processors and a small table.
    fn fresh(parameter: Parameter) -> Option<u64> {
        Some(match parameter {
            Parameter::Max | Parameter::HashSize => 65_536,
            Parameter::TcpEstablished => 432_000,
            Parameter::TcpCloseWait => 60,
            Parameter::TcpBeLiberal => 0,
            Parameter::Udp => 30,
            Parameter::UdpStream => 120,
        })
    }

    fn planned(asked: &Conntrack, processors: u32) -> Vec<String> {
        plan(asked, processors, fresh)
            .iter()
            .map(|change| change.to_string().replace("net.netfilter.", ""))
            .collect()
    }

    fn maximum(max_per_core: u32, min: u32, processors: u32) -> Option<u64> {
        most(&Conntrack { max_per_core, min, ..NOTHING }, processors)
    }

    #[test]
    fn the_defaults_are_kube_proxys() {
        let expected = [
            "nf_conntrack_max=131072",
            "nf_conntrack_tcp_timeout_established=86400",
            "nf_conntrack_tcp_timeout_close_wait=3600",
        ];
        assert_eq!(planned(&Conntrack::default(), 2), expected);
    }

    #[test]
    fn everything_can_be_asked_for() {
        let asked = Conntrack {
            tcp_be_liberal: true,
            udp: Duration::from_secs(10),
            udp_stream: Duration::from_secs(180),
            ..Conntrack::default()
        };
        let expected = [
            "nf_conntrack_max=524288",
            "nf_conntrack.hashsize=131072",
            "nf_conntrack_tcp_timeout_established=86400",
            "nf_conntrack_tcp_timeout_close_wait=3600",
            "nf_conntrack_udp_timeout=10",
            "nf_conntrack_udp_timeout_stream=180",
            "nf_conntrack_tcp_be_liberal=1",
        ];
        assert_eq!(planned(&asked, 16), expected);
    }

    #[test]
    fn nothing_asked_for_is_nothing_written() {
        assert_eq!(planned(&NOTHING, 64), [""; 0]);
        assert_eq!(planned(&Conntrack { min: 131_072, ..NOTHING }, 64), [""; 0]);
    }

    #[test]
    fn the_table_grows_with_the_processors_between_bounds() {
        assert_eq!(maximum(32_768, 131_072, 1), Some(131_072));
        assert_eq!(maximum(32_768, 131_072, 4), Some(131_072));
        assert_eq!(maximum(32_768, 131_072, 16), Some(524_288));
        assert_eq!(maximum(32_768, 131_072, 64), Some(1_048_576));
        assert_eq!(maximum(u32::MAX, 0, u32::MAX), Some(1_048_576));
        // The least is what was asked for, also of machines that reach the cap.
        assert_eq!(maximum(32_768, 2_000_000, 64), Some(2_000_000));
    }

    #[test]
    fn what_is_roomier_stays_and_other_timeouts_do_not() {
        let roomy = |parameter: Parameter| match parameter {
            Parameter::Max | Parameter::HashSize => Some(10_000_000),
            other => fresh(other),
        };
        let changes = plan(&Conntrack::default(), 2, roomy);
        assert!(changes.iter().all(|change| !change.parameter.is_of_the_machine()), "{changes:?}");
        assert_eq!(changes[0].there, Some(432_000), "a longer timeout is shortened, as kube-proxy does");
    }

    #[test]
    fn what_is_right_or_cannot_be_read() {
        let right = |parameter: Parameter| match parameter {
            Parameter::TcpEstablished => Some(86_400),
            Parameter::TcpCloseWait => Some(3_600),
            _ => Some(131_072),
        };
        assert_eq!(plan(&Conntrack::default(), 2, right), []);
        let unreadable = plan(&Conntrack::default(), 2, |_| None);
        assert_eq!(unreadable.len(), 4);
    }

    #[test]
    fn less_than_a_second_is_a_second() {
        assert_eq!(seconds(Duration::from_millis(20)), Some(1));
        assert_eq!(seconds(Duration::from_millis(1_900)), Some(1));
    }

    #[test]
    fn processors_are_counted() {
        let cases = [("0", Some(1)), ("0-1\n", Some(2)), ("0-3,6,8-15", Some(13)), ("", None), ("3-1", None)];
        for (list, expected) in cases {
            assert_eq!(count(list), expected, "{list}");
        }
    }
}
