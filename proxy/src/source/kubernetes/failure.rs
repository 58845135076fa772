//! What can go wrong between us and the API server, and what it means for the next attempt.

use std::error::Error;
use std::time::Duration;

use kube::core::Status;

/// No server may silence us for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why a list or a watch ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The configuration cannot be used.
    #[error("{0:#}")]
    Access(anyhow::Error),
    /// The request could not be made or sent, or the server not be reached or trusted.
    #[error("{}", told(.0))]
    Connection(#[source] kube::Error),
    /// The connection broke while the answer came in.
    #[error("the connection broke: {}", told(.0))]
    Broken(#[source] kube::Error),
    /// The server said no.
    #[error("the API server answered {}{}", .status.code, answer(.status))]
    Refused {
        /// In its words.
        status: Box<Status>,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is not what an API server says.
    #[error("the API server's answer makes no sense: {0}")]
    Garbage(#[source] serde_json::Error),
    /// The answer stopped in the middle.
    #[error("the API server's answer ended too early")]
    Truncated,
    /// Nothing came.
    #[error("nothing was heard from the API server for {0:?}")]
    Silent(Duration),
    /// An answer or an object larger than anything a server should send.
    #[error("the API server's answer goes on after {0} bytes")]
    TooLarge(usize),
}

impl Failure {
    /// A word for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Access(_) => "configuration",
            Self::Connection(_) => "connection",
            Self::Broken(_) | Self::Truncated => "broken",
            Self::Refused { status, .. } => match status.code {
                401 => "unauthorized",
                403 => "forbidden",
                404 => "not_found",
                410 => "expired",
                429 => "too_many_requests",
                _ => "refused",
            },
            Self::Garbage(_) => "garbage",
            Self::Silent(_) => "silent",
            Self::TooLarge(_) => "too_large",
        }
    }

    /// Whether the server cannot take up the watch where it ended: either it has forgotten that place, or never knew
    /// it, since it was restored from older state. Everything must be listed again.
    pub(super) fn lost_its_place(&self) -> bool {
        let Self::Refused { status, .. } = self else { return false };
        let ahead_of_server = || {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
                || status.message.contains("Too large resource version")
        };
        status.code == 410 || ahead_of_server()
    }

    /// Whether a server that knows no streaming lists may answer so when asked for one.
    pub(super) fn may_be_for_streaming(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if matches!(status.code, 400 | 422))
    }

    /// Whether the server does not know the kind at all.
    pub(super) fn is_unknown_kind(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code == 404)
    }

    /// How long the server asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let Self::Refused { retry_after, .. } = self else { return None };
        retry_after.map(|wait| wait.min(LONGEST_RETRY_AFTER))
    }

    /// What to do about it, where that is known; `when_forbidden` if the server says that we may not.
    pub(super) fn advice(&self, when_forbidden: &str) -> String {
        match self {
            Self::Refused { status, .. } if status.code == 401 => {
                " (is the token or client certificate still valid?)".to_owned()
            }
            Self::Refused { status, .. } if status.code == 403 => format!(" ({when_forbidden})"),
            _ => String::new(),
        }
    }
}

fn answer(status: &Status) -> String {
    let words = [&status.reason, &status.message].map(String::as_str);
    words.into_iter().filter(|word| !word.is_empty()).map(|word| format!(" {}", excerpt(word))).collect()
}

/// Text from outside, short enough for a log line.
fn excerpt(text: &str) -> String {
    const MOST: usize = 200;
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MOST).filter(|c| !c.is_control()).collect()
}

/// What went wrong, without the name that `kube` gives to all of it.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Service(inner) => with_causes(inner.as_ref()),
        _ => with_causes(error),
    }
}

/// An error and its causes, each said once: `kube`'s errors repeat some of them and keep others to themselves.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}
