//! Where new pods wait until their policies are in force: the daemon's end of [`cni::gate`].

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use cni::gate::{Answer, Question, receive, send};

use crate::policy::{Desk, Newcomer};
use crate::telemetry::{Network, Socket};

/// Pods that may wait at once; a node starts a hundred or so.
const MOST: usize = 256;
/// How long a question, and the answer, may be on their way.
const EXCHANGED_WITHIN: Duration = Duration::from_secs(2);
/// How long a pod may wait, if it has the time.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Who answers.
#[derive(Clone, Debug)]
struct Keeper {
    /// Where policies are asked; nobody if they are not enforced here.
    policies: Option<Arc<Desk>>,
    telemetry: Arc<Network>,
    waiting: Arc<AtomicUsize>,
}

/// Opens it. It is open as long as what is returned is kept.
///
/// # Errors
/// When the socket cannot be had.
pub(super) fn open(
    path: &Path,
    policies: Option<Arc<Desk>>,
    telemetry: Arc<Network>,
) -> anyhow::Result<Socket> {
    let (socket, listener) = Socket::bind(path).context("new pods cannot be answered")?;
    let keeper = Keeper { policies, telemetry, waiting: Arc::default() };
    let work = move || {
        for stream in listener.incoming().flatten() {
            keeper.take(stream);
        }
    };
    thread::Builder::new().name("gate".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(socket)
}

impl Keeper {
    /// Answers on a thread of its own, unless too many wait.
    fn take(&self, stream: UnixStream) {
        let keeper = self.clone();
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST {
            keeper.answer(&stream, &Answer::not_ready("too many pods wait already"));
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let work = move || {
            keeper.serve(&stream);
            keeper.waiting.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = thread::Builder::new().name("gate-pod".to_owned()).spawn(work) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("a new pod is not answered: {error}");
        }
    }

    fn serve(&self, stream: &UnixStream) {
        let asked = receive::<Question>(stream, Instant::now() + EXCHANGED_WITHIN);
        let question = match asked.map_err(|error| error.to_string()).and_then(checked) {
            Ok(question) => question,
            Err(why) => return self.answer(stream, &Answer::not_ready(why)),
        };
        let started = Instant::now();
        let admitted = self.admit(&question, started + LONGEST_WAIT);
        let waited_ms = started.elapsed().as_millis();
        let Question { pod, addresses, .. } = &question;
        match admitted {
            Ok(()) => {
                tracing::debug!(%pod, ?addresses, waited_ms, "a new pod's policies are in force");
                self.answer(stream, &Answer::ready());
            }
            Err(why) => {
                tracing::warn!(%pod, ?addresses, waited_ms, "a new pod's policies are not in force: {why}");
                self.answer(stream, &Answer::not_ready(why));
            }
        }
    }

    fn admit(&self, question: &Question, until: Instant) -> Result<(), String> {
        match &self.policies {
            Some(desk) => {
                let Question { pod, uid, addresses, .. } = question.clone();
                desk.admit(Newcomer { pod, uid, addresses }, until)
            }
            None => Ok(()),
        }
    }

    fn answer(&self, stream: &UnixStream, answer: &Answer) {
        self.telemetry.gate_answered(answer.ready);
        // Whoever asked may have gone.
        let _ = send(stream, answer, Instant::now() + EXCHANGED_WITHIN);
    }
}

fn checked(question: Question) -> Result<Question, String> {
    question.check().map(|()| question)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use endpoint_cache::object::ObjectName;

    use super::*;

    fn question() -> Question {
        Question {
            pod: ObjectName::new("shop", "web"),
            uid: None,
            addresses: vec!["10.244.1.7".parse().unwrap()],
            container: "c1".to_owned(),
        }
    }

    #[test]
    fn without_policies_a_pod_goes_on_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/cni.sock");
        let telemetry: Arc<Network> = Arc::default();
        let socket = open(&path, None, Arc::clone(&telemetry)).unwrap();
        cni::gate::wait(&path, &question(), Duration::from_secs(20)).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn with_policies_it_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni.sock");
        let _socket = open(&path, Some(Arc::default()), Arc::default()).unwrap();
        let refused = cni::gate::wait(&path, &question(), Duration::from_secs(20)).unwrap_err();
        assert!(refused.to_string().contains("only beginning"), "{refused}");
    }

    #[test]
    fn what_makes_no_sense_is_answered_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni.sock");
        let _socket = open(&path, None, Arc::default()).unwrap();
        let long = vec![b'x'; 5000];
        for line in [&b"what?\n"[..], b"{\"pod\":\"a/b\",\"addresses\":[]}\n", &long, b"\xff\n"] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(line).unwrap();
            let mut answer = String::new();
            // A line that was not read to its end resets the connection, after the answer.
            let _ = stream.read_to_string(&mut answer);
            assert!(answer.starts_with("{\"ready\":false,\"why\":\""), "{answer}");
        }
    }
}
