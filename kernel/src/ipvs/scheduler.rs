//! How a virtual server picks a destination.

use std::fmt;
use std::str::FromStr;

use super::uapi::flag;

/// `IP_VS_SCHEDNAME_MAXLEN` less the terminating NUL.
const LONGEST: usize = 15;
/// What the kernel calls it when a virtual server has no scheduler: it drops what is new.
const NONE: &str = "none";
/// Bits of a virtual server's flags that are not about scheduling.
const NOT_OURS: u32 = flag::PERSISTENT | flag::HASHED;

/// A scheduler by its name, as in the module `ip_vs_<name>`, with its options.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scheduler {
    /// Filled up with NUL.
    name: [u8; LONGEST],
    /// `IP_VS_SVC_F_*` but for [`NOT_OURS`].
    flags: u32,
}

impl Scheduler {
    /// The names of the kernel's own schedulers.
    pub const KNOWN: [&'static str; 14] =
        ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh", "fo", "ovf", "twos"];

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(LONGEST);
        std::str::from_utf8(&self.name[..end]).unwrap_or_default()
    }

    /// The same that takes the client's port into account too, not its address alone: `sh` and `mh` have that option
    /// (`ipvsadm -b sh-port`, `-b mh-port`). `IP_VS_SVC_F_SCHED_SH_PORT` and `IP_VS_SVC_F_SCHED_MH_PORT` are one bit.
    #[must_use]
    pub fn hashing_ports(self) -> Self {
        Self { flags: self.flags | flag::SCHED2, ..self }
    }

    /// The same that takes another destination where the one that it comes to gets nothing: `sh` and `mh` have that
    /// option, and refuse otherwise (`ipvsadm -b sh-fallback`, `-b mh-fallback`). `IP_VS_SVC_F_SCHED_SH_FALLBACK` and
    /// `IP_VS_SVC_F_SCHED_MH_FALLBACK` are one bit.
    #[must_use]
    pub fn falling_back(self) -> Self {
        Self { flags: self.flags | flag::SCHED1, ..self }
    }

    /// As the kernel tells it. Anything may be in there: what cannot be shown is replaced, and the result is like no
    /// scheduler that can be asked for.
    pub(super) fn told(name: &[u8], flags: u32) -> Self {
        let mut shown = [0; LONGEST];
        let printable = name.iter().map(|byte| if byte.is_ascii_graphic() { *byte } else { b'?' });
        shown.iter_mut().zip(printable).for_each(|(to, from)| *to = from);
        Self { name: shown, flags: flags & !NOT_OURS }
    }

    /// `IP_VS_SVC_F_*`
    pub(super) fn flags(self) -> u32 {
        self.flags
    }
}

/// Round robin, as kube-proxy has it.
impl Default for Scheduler {
    fn default() -> Self {
        Self::told(b"rr", 0)
    }
}

/// A name that cannot be a scheduler's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of a scheduler: one is a short word of lower-case letters, digits and _, such as rr"
)]
pub struct InvalidScheduler(String);

impl FromStr for Scheduler {
    type Err = InvalidScheduler;

    fn from_str(name: &str) -> Result<Self, InvalidScheduler> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let valid = (1..=LONGEST).contains(&name.len()) && name.bytes().all(fits) && name != NONE;
        if valid { Ok(Self::told(name.as_bytes(), 0)) } else { Err(InvalidScheduler(name.to_owned())) }
    }
}

/// Its name, and what options it has in the words of `ipvsadm -b`.
impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OPTIONS: [(u32, &str); 4] = [
            (flag::ONEPACKET, "ops"),
            (flag::SCHED1, "flag-1"),
            (flag::SCHED2, "flag-2"),
            (flag::SCHED3, "flag-3"),
        ];
        f.write_str(self.as_str())?;
        OPTIONS.iter().filter(|(bit, _)| self.flags & bit != 0).try_for_each(|(_, text)| write!(f, " {text}"))
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduler({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_are_names() {
        for name in Scheduler::KNOWN {
            let scheduler: Scheduler = name.parse().unwrap();
            assert_eq!((scheduler.as_str(), scheduler.to_string().as_str()), (name, name));
        }
        assert_eq!(Scheduler::default().as_str(), "rr");
        assert_eq!("fifteen_letters".parse::<Scheduler>().unwrap().as_str(), "fifteen_letters");
    }

    #[test]
    fn what_cannot_be_one_is_refused() {
        for name in ["", "none", "RR", "r r", "rr\0", "rr-2", "../rr", "sixteen_letters_", "rö"] {
            let error = name.parse::<Scheduler>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn options_make_another_scheduler_of_the_same_name() {
        let plain: Scheduler = "mh".parse().unwrap();
        let hashing = plain.hashing_ports();
        assert_ne!(plain, hashing);
        assert_eq!((hashing.as_str(), hashing.to_string().as_str()), ("mh", "mh flag-2"));
    }

    #[test]
    fn what_the_kernel_tells_is_shown_whatever_it_is() {
        let told =
            Scheduler::told(b"a name\xff that goes on", flag::PERSISTENT | flag::HASHED | flag::ONEPACKET);
        assert_eq!(told.to_string(), "a?name??that?go ops");
    }
}
