//! Hearing of what others change.

use super::applier::Error;

/// Hears of what others change that concerns the pod network. Waits on a thread of its own.
pub struct Monitor {
    _private: (),
}

/// What a [`Monitor`] heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something of ours was changed or removed, or that cannot be ruled out: [`Applier::resync`](super::Applier::resync)
    /// is due. Who or what, in words.
    Damage(String),
    /// A device or an address changed: [`Applier::uplinks`](super::Applier::uplinks) may have a new answer.
    Uplink,
    /// BIRD's table changed: [`Applier::learned`](super::Applier::learned) has a new answer.
    Learned,
}

impl Monitor {
    /// Waits for news.
    ///
    /// # Errors
    /// When the kernel cannot be listened to any longer.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and fails")]
    pub fn next(&mut self) -> Result<News, Error> {
        Err(Error::NotSynced)
    }
}
