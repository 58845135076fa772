//! Where a new pod waits until the daemon has its policies in the kernel: a question over a unix socket.
//!
//! One line of JSON each way: [`Question`] and [`Answer`]. Nobody trusts the other: lines are bounded, and so is the time
//! for them. A daemon that is being restarted is waited for as long as the asker has time, and asked again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_cache::object::ObjectName;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of the longest line, its end included.
pub const LONGEST_LINE: usize = 4096;
/// Addresses of a pod that are taken.
pub const MOST_ADDRESSES: usize = 8;
/// Between attempts to reach a daemon that is not there.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);
/// The shortest time that a socket can be told to wait: none at all would mean for ever.
const SHORTEST: Duration = Duration::from_millis(1);

/// Is all that policies ask about this pod in force?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The pod, written `NAMESPACE/NAME`.
    #[serde(with = "pod_name")]
    pub pod: ObjectName,
    /// Its UID, by which it is told from another that had the same name, if the runtime says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The addresses it has been given, which nobody else knows yet.
    pub addresses: Vec<IpAddr>,
    /// The runtime's name of its container.
    #[serde(default)]
    pub container: String,
}

/// What the daemon says to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it is.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Answer {
    /// It is in force.
    #[must_use]
    pub fn ready() -> Self {
        Self { ready: true, why: None }
    }

    /// It is not.
    #[must_use]
    pub fn not_ready(why: impl Into<String>) -> Self {
        Self { ready: false, why: Some(why.into()) }
    }
}

/// Why a pod's policies are not known to be in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No daemon answers.
    #[error(
        "cannot ask at {}: {source}: does pointsman run on this node, with --pod-network?",
        path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It has not answered in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It says that they are not.
    #[error("{0}")]
    NotReady(String),
    /// What it says makes no sense.
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
}

/// Waits until the daemon says that the policies for a pod are in force, for `timeout` at most.
///
/// # Errors
/// When it does not.
pub fn wait(path: &Path, question: &Question, timeout: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + timeout;
    loop {
        let error = match ask(path, question, deadline) {
            Ok(Answer { ready: true, .. }) => return Ok(()),
            Ok(Answer { ready: false, why }) => {
                return Err(Error::NotReady(why.unwrap_or_else(|| "it does not say why".to_owned())));
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(Error::Nonsense(error.to_string()));
            }
            Err(error) if is_late(&error) => return Err(Error::Late(timeout)),
            Err(error) => error,
        };
        // It is not there, or has just ended: the next one may be on its way.
        if left(deadline) <= BETWEEN_ATTEMPTS {
            return Err(Error::Unreachable { path: path.to_owned(), source: error });
        }
        thread::sleep(BETWEEN_ATTEMPTS);
    }
}

fn ask(path: &Path, question: &Question, deadline: Instant) -> io::Result<Answer> {
    let stream = reach(path, deadline)?;
    send(&stream, question, deadline)?;
    receive(&stream, deadline)
}

/// Connects. While too many others wait there, it would take for ever.
fn reach(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let left = left(deadline).max(SHORTEST);
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&stream, SendTimeout, &TimeVal::new(seconds, i64::from(left.subsec_micros())))?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &address)?;
    Ok(UnixStream::from(stream))
}

/// Writes a message as one line.
///
/// # Errors
/// When it is not taken in time, or is too long.
pub fn send<T: Serialize>(mut stream: &UnixStream, message: &T, deadline: Instant) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > LONGEST_LINE {
        return Err(invalid(format!("a line of {} bytes is too long", line.len())));
    }
    stream.set_write_timeout(Some(left(deadline).max(SHORTEST)))?;
    stream.write_all(&line)
}

/// Reads one line as a message.
///
/// # Errors
/// When it does not come in time, is too long, or makes no sense ([`ErrorKind::InvalidData`]).
pub fn receive<T: DeserializeOwned>(mut stream: &UnixStream, deadline: Instant) -> io::Result<T> {
    let mut line = [0; LONGEST_LINE];
    let mut length = 0;
    loop {
        let left = left(deadline);
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left.max(SHORTEST)))?;
        let read = match stream.read(&mut line[length..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        if let Some(end) = line[length..length + read].iter().position(|byte| *byte == b'\n') {
            return serde_json::from_slice(&line[..length + end]).map_err(invalid);
        }
        length += read;
        if length == line.len() {
            return Err(invalid(format!("a line is longer than {LONGEST_LINE} bytes")));
        }
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Whether the time is over: sockets say so in two ways.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Question {
    /// Whether it can be answered at all.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        match self.addresses.len() {
            0 => Err("the pod has no address".to_owned()),
            1..=MOST_ADDRESSES => Ok(()),
            many => Err(format!("{many} addresses are more than {MOST_ADDRESSES}")),
        }
    }
}

/// A pod's name in a line.
mod pod_name {
    use std::borrow::Cow;

    use endpoint_cache::object::ObjectName;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &ObjectName, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectName, D::Error> {
        let text: Cow<'_, str> = Deserialize::deserialize(from)?;
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(ObjectName::new(namespace, name))
            }
            _ => Err(D::Error::custom(format!("{text:?} is no NAMESPACE/NAME of a pod"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn question() -> Question {
        Question {
            pod: ObjectName::new("shop", "web"),
            uid: None,
            addresses: vec!["10.244.1.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            container: "c1".to_owned(),
        }
    }

    /// A daemon that answers every question with these bytes, one after the other.
    fn daemon(listener: UnixListener, answers: Vec<&'static [u8]>) -> thread::JoinHandle<Vec<Question>> {
        thread::spawn(move || {
            let answer = |bytes: &[u8]| {
                let (mut stream, _) = listener.accept().unwrap();
                let question = receive(&stream, Instant::now() + SOON).unwrap();
                stream.write_all(bytes).unwrap();
                question
            };
            answers.into_iter().map(answer).collect()
        })
    }

    #[test]
    fn a_question_is_one_line_with_the_agreed_names() {
        let text = serde_json::to_string(&question()).unwrap();
        assert_eq!(text, r#"{"pod":"shop/web","addresses":["10.244.1.7","fd00::7"],"container":"c1"}"#);
        assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), question());
        assert_eq!(serde_json::to_string(&Answer::ready()).unwrap(), r#"{"ready":true}"#);
        let refused = serde_json::to_string(&Answer::not_ready("no")).unwrap();
        assert_eq!(refused, r#"{"ready":false,"why":"no"}"#);
    }

    #[test]
    fn a_name_has_a_namespace_and_a_name() {
        for name in ["web", "/web", "shop/", "a/b/c", ""] {
            let text = format!(r#"{{"pod":"{name}","addresses":[]}}"#);
            assert!(serde_json::from_str::<Question>(&text).is_err(), "{name}");
        }
    }

    #[test]
    fn a_question_is_about_some_addresses_and_not_too_many() {
        let with = |number| Question { addresses: vec!["::1".parse().unwrap(); number], ..question() };
        assert!(with(0).check().is_err() && with(MOST_ADDRESSES + 1).check().is_err());
        assert!(with(1).check().is_ok() && with(MOST_ADDRESSES).check().is_ok());
    }

    #[test]
    fn it_waits_for_a_daemon_and_asks_again_when_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate");
        let asker = {
            let path = path.clone();
            thread::spawn(move || wait(&path, &question(), SOON))
        };
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = daemon(listener, vec![b"", b"{\"ready\":true}\n"]);
        asker.join().unwrap().unwrap();
        assert_eq!(daemon.join().unwrap(), [question(), question()]);
    }

    #[test]
    fn what_comes_of_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate");
        let long = vec![b'x'; LONGEST_LINE].leak();
        let answers: Vec<&'static [u8]> = vec![b"{\"ready\":false,\"why\":\"not yet\"}\n", b"{}\n", long];
        let daemon = daemon(UnixListener::bind(&path).unwrap(), answers);
        assert!(matches!(wait(&path, &question(), SOON), Err(Error::NotReady(why)) if why == "not yet"));
        assert!(matches!(wait(&path, &question(), SOON), Err(Error::Nonsense(_))));
        assert!(matches!(wait(&path, &question(), SOON), Err(Error::Nonsense(_))));
        daemon.join().unwrap();
    }

    #[test]
    fn nobody_waits_longer_than_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate");
        let short = Duration::from_millis(60);
        assert!(matches!(wait(&path, &question(), short), Err(Error::Unreachable { .. })));
        // It listens, and never answers.
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(wait(&path, &question(), short), Err(Error::Late(_))));
    }
}
