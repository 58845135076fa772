//! Where an attachment comes from, by which it is told later whether it can still be in use.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The kernel's name for the time since it started.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";
/// Clocks are set soon after a boot; what seems younger than it by less is taken for older only with this much room.
const ROOM: Duration = Duration::from_secs(60);

/// The time since the kernel started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    /// Different each time; empty if it cannot be told.
    pub id: String,
    /// When it began, if that can be told.
    pub began: Option<SystemTime>,
}

impl Boot {
    /// This one.
    pub(crate) fn current() -> Self {
        let id = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        let uptime = fs::read_to_string(UPTIME).unwrap_or_default();
        let seconds = uptime.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok());
        let began = seconds.and_then(|seconds| SystemTime::now().checked_sub(Duration::from_secs(seconds)));
        Self { id, began }
    }

    /// Whether something of that time is surely from before this boot.
    pub(super) fn is_after(&self, time: SystemTime) -> bool {
        self.began.and_then(|began| began.checked_sub(ROOM)).is_some_and(|began| time < began)
    }
}

/// Where an attachment comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Birth {
    /// The boot's name.
    pub boot: String,
    /// The container's network namespace, by path.
    pub netns: Option<PathBuf>,
    /// The same by the numbers that the kernel gives it: device and inode.
    pub namespace: Option<(u64, u64)>,
    /// The pod, as `NAMESPACE/NAME`.
    pub pod: Option<String>,
    /// The plugin that made it.
    pub plugin: String,
}

/// What is known of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its network namespace is there.
    Alive,
    /// The kernel has been started since.
    OlderBoot,
    /// Its network namespace is gone.
    NamespaceGone,
    /// Nothing.
    Unknown,
}

impl Fate {
    /// Whether nobody can be using it.
    pub(crate) fn is_gone(self) -> bool {
        matches!(self, Self::OlderBoot | Self::NamespaceGone)
    }
}

/// The kernel's numbers of a namespace: device and inode.
fn namespace_of(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Birth {
    /// Of an attachment that is being made.
    pub(crate) fn now(boot: &Boot, netns: Option<&Path>, pod: Option<String>, plugin: &str) -> Self {
        let namespace = netns.and_then(|path| namespace_of(path).ok());
        let netns = netns.map(Path::to_owned);
        Self { boot: boot.id.clone(), netns, namespace, pod, plugin: plugin.to_owned() }
    }

    /// What has become of it.
    pub(crate) fn fate(&self, boot: &Boot) -> Fate {
        if !self.boot.is_empty() && !boot.id.is_empty() && self.boot != boot.id {
            return Fate::OlderBoot;
        }
        let (Some(path), Some(namespace)) = (&self.netns, self.namespace) else { return Fate::Unknown };
        match namespace_of(path) {
            Ok(found) if found == namespace => Fate::Alive,
            // Another namespace by this name, or the file that it was mounted on.
            Ok(_) => Fate::NamespaceGone,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Fate::NamespaceGone,
            Err(_) => Fate::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_lives_as_long_as_its_boot_and_its_namespace() {
        let boot = Boot::current();
        assert!(!boot.id.is_empty());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netns");
        fs::write(&path, "").unwrap();
        let birth = Birth::now(&boot, Some(&path), None, "p");
        assert_eq!(birth.fate(&boot), Fate::Alive);
        let next = Boot { id: "another".into(), began: None };
        assert_eq!(birth.fate(&next), Fate::OlderBoot);
        let unknown = Boot { id: String::new(), began: None };
        assert_eq!(birth.fate(&unknown), Fate::Alive, "a boot that cannot be told condemns nobody");

        // Something else has the name: the old one is kept, so that its number stays in use.
        fs::rename(&path, folder.path().join("old")).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(birth.fate(&boot), Fate::NamespaceGone);
        fs::remove_file(&path).unwrap();
        assert_eq!(birth.fate(&boot), Fate::NamespaceGone);
        assert_eq!(Birth::default().fate(&boot), Fate::Unknown);
        assert_eq!(Birth::now(&boot, None, None, "p").fate(&boot), Fate::Unknown);
    }

    #[test]
    fn what_was_written_before_the_boot_is_told_by_its_time() {
        let boot = Boot::current();
        assert!(!boot.is_after(SystemTime::now()));
        assert!(boot.is_after(SystemTime::UNIX_EPOCH));
        let unknown = Boot { id: String::new(), began: None };
        assert!(!unknown.is_after(SystemTime::UNIX_EPOCH));
    }
}
