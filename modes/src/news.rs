//! News of what others change: in nftables, for every mode whose rules are there, and from several sources at once.

use std::sync::mpsc::Sender;
use std::thread;

use kernel::nft::{Monitor, Nftables};

use crate::{Disturbance, Error, Watch};

/// What nftables was like when a full sync began. While somebody listens, the kernel writes a message for every element
/// of a full load, which takes as long as the load itself. So nobody does until then, and the generations tell whether
/// somebody came in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began {
    generation: u32,
    /// How many transactions we had made.
    commits: u32,
}

impl Began {
    /// Notes how things stand, before anything is read.
    pub(crate) fn now(connection: &mut Nftables, commits: u32) -> Result<Self, Error> {
        Ok(Self { generation: connection.generation()?, commits })
    }

    /// Whether there were transactions since that we did not make.
    fn others_since(self, connection: &mut Nftables, commits: u32) -> Result<bool, Error> {
        let now = connection.generation()?;
        Ok(now.wrapping_sub(self.generation) != commits.wrapping_sub(self.commits))
    }
}

/// Tells what the monitor hears, and whether others were there before anybody listened.
pub(crate) struct News {
    monitor: Monitor,
    others: bool,
}

impl News {
    /// To be made when the monitor listens already.
    pub(crate) fn new(
        monitor: Monitor,
        began: Option<Began>,
        connection: &mut Nftables,
        commits: u32,
    ) -> Result<Self, Error> {
        let others = match began {
            Some(began) => began.others_since(connection, commits)?,
            None => true,
        };
        Ok(Self { monitor, others })
    }
}

impl Watch for News {
    fn next_disturbance(&mut self) -> Result<Disturbance, Error> {
        if std::mem::take(&mut self.others) {
            return Ok(Disturbance::Damage("somebody changed nftables during the first sync".to_owned()));
        }
        Ok(Disturbance::Damage(self.monitor.next_disturbance()?.to_string()))
    }
}

/// Starts a thread that listens to one source of news.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|cause| Error::NoThread(cause.to_string()))
}

/// Passes on what one source has to tell, until it fails or nobody listens any more.
pub(crate) fn tell(
    to: Sender<Result<Disturbance, Error>>,
    mut next: impl FnMut() -> Result<Option<Disturbance>, Error> + Send,
) -> impl FnOnce() + Send {
    move || loop {
        let news = next();
        let failed = news.is_err();
        if news.transpose().is_some_and(|news| to.send(news).is_err()) || failed {
            return;
        }
    }
}
