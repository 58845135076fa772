//! The request, which is in the environment.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Arguments, Code, Error};

/// Longer than any runtime's names of containers, and short enough for the name of a file with an interface's beside it.
const LONGEST_CONTAINER: usize = 200;
/// The kernel's bound, without the byte that ends a name.
const LONGEST_INTERFACE: usize = 15;

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Join a container to the network.
    Add,
    /// Take it out of the network, as often as asked.
    Del,
    /// Look whether all that `ADD` made is still there.
    Check,
    /// Remove what belongs to containers that are no more.
    Gc,
    /// Say whether `ADD` would work.
    Status,
    /// Say which versions of the specification are spoken.
    Version,
}

impl Command {
    /// As it is written in the environment.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn of(text: &str) -> Option<Self> {
        let all = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];
        all.into_iter().find(|command| command.as_str() == text)
    }
}

/// One interface of one container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The runtime's name of the container.
    #[serde(rename = "containerID")]
    pub container: String,
    /// The interface's name in it.
    #[serde(rename = "ifname")]
    pub interface: String,
}

impl Attachment {
    /// The attachment, if its names obey the specification.
    ///
    /// # Errors
    /// When they do not; names the variable.
    pub fn new(container: &str, interface: &str) -> Result<Self, Error> {
        let refused = |variable: &str, why: String| {
            Err(Error::new(Code::ENVIRONMENT, format!("{variable} makes no sense")).with(why))
        };
        if container.len() > LONGEST_CONTAINER {
            return refused("CNI_CONTAINERID", format!("longer than {LONGEST_CONTAINER} bytes"));
        }
        if !is_identifier(container) {
            let why = "it must begin with a letter or digit, and go on with letters, digits, _, . and -";
            return refused("CNI_CONTAINERID", format!("{container:?}: {why}"));
        }
        if let Some(why) = interface_mistake(interface) {
            return refused("CNI_IFNAME", format!("{:?}: {why}", shortened(interface)));
        }
        Ok(Self { container: container.to_owned(), interface: interface.to_owned() })
    }

    /// A name for a file about it, different for each attachment: an interface's name never has a colon.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}", self.container, self.interface.replace('-', ":"))
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.interface)
    }
}

/// The names that the specification gives networks and containers.
pub(crate) fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// What is wrong with a name of an interface, if anything is.
pub(crate) fn interface_mistake(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it must not be empty")
    } else if name.len() > LONGEST_INTERFACE {
        Some("it must be shorter than 16 bytes")
    } else if matches!(name, "." | "..") {
        Some("the kernel does not allow it")
    } else if name.chars().any(|c| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control()) {
        Some("it must not contain /, :, %, white space or control characters")
    } else {
        None
    }
}

/// The beginning of what somebody else wrote, for a message.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The container's network namespace, by path.
pub type Namespace = PathBuf;

/// A request, as far as the environment has it.
#[derive(Clone, Debug)]
pub struct Environment {
    /// What to do.
    pub command: Command,
    /// For whom: there for `ADD`, `DEL` and `CHECK`.
    pub attachment: Option<Attachment>,
    /// The container's network namespace: there for `ADD` and `CHECK`, and for `DEL` if it has one still.
    pub netns: Option<Namespace>,
    /// What else the runtime says of the container.
    pub arguments: Arguments,
    /// Folders where plugins are.
    pub path: Vec<PathBuf>,
}

impl Environment {
    /// The request that `get` has the variables of.
    ///
    /// # Errors
    /// When a variable that the command needs is missing or makes no sense; names it.
    pub fn of(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let text = |name: &str| match get(name).map(OsString::into_string) {
            None => Ok(String::new()),
            Some(Ok(text)) => Ok(text),
            Some(Err(_)) => Err(Error::new(Code::ENVIRONMENT, format!("{name} is not UTF-8"))),
        };
        let command = text("CNI_COMMAND")?;
        if command.is_empty() {
            return Err(missing("CNI_COMMAND"));
        }
        let Some(command) = Command::of(&command) else {
            let why = format!("{:?}: it must be ADD, DEL, CHECK, GC, STATUS or VERSION", shortened(&command));
            return Err(Error::new(Code::ENVIRONMENT, "CNI_COMMAND is unknown").with(why));
        };
        let path = text("CNI_PATH")?;
        let path: Vec<_> = path.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from).collect();
        if command == Command::Gc && path.is_empty() {
            return Err(missing("CNI_PATH"));
        }
        let mut environment =
            Self { command, attachment: None, netns: None, arguments: Arguments::default(), path };
        if matches!(command, Command::Add | Command::Del | Command::Check) {
            environment.complete(&text)?;
        }
        Ok(environment)
    }

    /// Takes what is said of a container.
    fn complete(&mut self, text: &dyn Fn(&str) -> Result<String, Error>) -> Result<(), Error> {
        let (container, interface) = (text("CNI_CONTAINERID")?, text("CNI_IFNAME")?);
        let netns = Some(text("CNI_NETNS")?).filter(|netns| !netns.is_empty());
        let needs_netns = self.command != Command::Del;
        let variables = [
            ("CNI_CONTAINERID", container.is_empty()),
            ("CNI_NETNS", needs_netns && netns.is_none()),
            ("CNI_IFNAME", interface.is_empty()),
        ];
        let names: Vec<_> = variables.iter().filter(|(_, empty)| *empty).map(|(name, _)| *name).collect();
        if !names.is_empty() {
            return Err(missing(&names.join(", ")));
        }
        self.attachment = Some(Attachment::new(&container, &interface)?);
        self.netns = netns.map(PathBuf::from);
        if needs_netns && !self.netns.as_deref().is_some_and(Path::is_absolute) {
            return Err(Error::new(Code::ENVIRONMENT, "CNI_NETNS makes no sense").with("it must be a path"));
        }
        self.arguments = Arguments::parse(&text("CNI_ARGS")?)?;
        Ok(())
    }
}

fn missing(names: &str) -> Error {
    Error::new(Code::ENVIRONMENT, format!("the environment lacks {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a1.b_c-d"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "K8S_POD_NAME=a"),
        ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni:"),
    ];

    fn with(changes: &[(&str, &str)]) -> Result<Environment, Error> {
        let find = |all: &[(&str, &str)], name: &str| {
            all.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        Environment::of(|name| find(changes, name).or_else(|| find(GOOD, name)))
    }

    #[test]
    fn a_request_is_taken_apart() {
        let environment = with(&[]).unwrap();
        assert_eq!(environment.command, Command::Add);
        assert_eq!(environment.attachment.unwrap().to_string(), "a1.b_c-d/eth0");
        assert_eq!(environment.path, [PathBuf::from("/opt/cni/bin"), "/usr/lib/cni".into()]);
        assert_eq!(environment.arguments.get("K8S_POD_NAME"), Some("a"));
    }

    #[test]
    fn each_command_needs_its_variables() {
        for (command, name, needed) in [
            ("ADD", "CNI_CONTAINERID", true),
            ("ADD", "CNI_NETNS", true),
            ("ADD", "CNI_IFNAME", true),
            ("ADD", "CNI_PATH", false),
            ("CHECK", "CNI_NETNS", true),
            ("DEL", "CNI_CONTAINERID", true),
            ("DEL", "CNI_IFNAME", true),
            ("DEL", "CNI_NETNS", false),
            ("GC", "CNI_PATH", true),
            ("GC", "CNI_CONTAINERID", false),
            ("STATUS", "CNI_PATH", false),
            ("STATUS", "CNI_NETNS", false),
            ("VERSION", "CNI_IFNAME", false),
        ] {
            let result = with(&[("CNI_COMMAND", command), (name, "")]);
            assert_eq!(result.is_err(), needed, "{command} without {name}");
            if let Err(error) = result {
                assert_eq!(error.code, Code::ENVIRONMENT);
                assert!(error.msg.contains(name), "{error}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_variable() {
        let long = "a".repeat(201);
        for (name, value) in [
            ("CNI_COMMAND", "add"),
            ("CNI_COMMAND", "UPDATE"),
            ("CNI_CONTAINERID", "-a"),
            ("CNI_CONTAINERID", "a/b"),
            ("CNI_CONTAINERID", "../a"),
            ("CNI_CONTAINERID", "ü"),
            ("CNI_CONTAINERID", &long),
            ("CNI_IFNAME", "sixteen-bytes-xx"),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "."),
            ("CNI_IFNAME", "a b"),
            ("CNI_IFNAME", "a:b"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "eth%d"),
            ("CNI_NETNS", "netns/a"),
            ("CNI_ARGS", "nonsense"),
        ] {
            let error = with(&[(name, value)]).unwrap_err();
            assert_eq!(error.code, Code::ENVIRONMENT, "{name}={value}");
            assert!(error.msg.contains(name), "{error}");
        }
    }

    #[test]
    fn attachments_have_files_of_their_own() {
        let name =
            |container: &str, interface: &str| Attachment::new(container, interface).unwrap().file_name();
        assert_eq!(name("abc", "eth0"), "abc-eth0");
        assert_ne!(name("a-b", "c"), name("a", "b-c"));
        assert!(name(&"a".repeat(200), "interface-names").len() + ".json".len() <= 255);
    }
}
