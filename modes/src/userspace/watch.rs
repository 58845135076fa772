//! Noticing what others do to what the captured entry has besides frontends. The kernel tells of rules; whether addresses
//! are here and answers led back, we ask it every second, by four questions.

use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use endpoint_cache::Family;
use kernel::nft::Monitor;

use super::return_path::Probe;
use crate::news::{spawn, tell};
use crate::{Disturbance, Error, Watch};

/// How often we ask.
const OFTEN: Duration = Duration::from_secs(1);

/// What the last sync left.
#[derive(Clone, Debug, Default)]
pub(super) struct InPlace(Arc<Mutex<Known>>);

#[derive(Clone, Debug, Default)]
struct Known {
    /// What the forwarder listens on.
    here: Vec<(Family, IpAddr)>,
    led_back: Vec<Family>,
}

impl InPlace {
    pub(super) fn set(&self, here: Vec<(Family, IpAddr)>, led_back: Vec<Family>) {
        *self.known() = Known { here, led_back };
    }

    /// The address that the forwarder listens on.
    pub(super) fn address(&self, family: Family) -> Option<IpAddr> {
        self.known().here.iter().find(|(of, _)| *of == family).map(|(_, address)| *address)
    }

    /// Whether the forwarder has an address.
    pub(super) fn is_anything(&self) -> bool {
        !self.known().here.is_empty()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the first that has something to tell.
pub(super) struct News(Receiver<Result<Disturbance, Error>>);

/// Starts to listen and to ask.
pub(super) fn start(
    mut frontends: Box<dyn Watch>,
    rules: Option<Monitor>,
    in_place: InPlace,
) -> Result<News, Error> {
    let (sender, news) = mpsc::channel();
    let mut probe = Probe::open()?;
    spawn("frontends", tell(sender.clone(), move || frontends.next_disturbance().map(Some)))?;
    if let Some(mut rules) = rules {
        let next = move || Ok(Some(Disturbance::Damage(rules.next_disturbance()?.to_string())));
        spawn("return path", tell(sender.clone(), next))?;
    }
    spawn(
        "addresses",
        tell(sender, move || {
            thread::sleep(OFTEN);
            let known = in_place.known().clone();
            Ok(difference(&known, &mut probe)?.map(Disturbance::Damage))
        }),
    )?;
    Ok(News(news))
}

impl Watch for News {
    fn next_disturbance(&mut self) -> Result<Disturbance, Error> {
        let gone = |_| Error::NoThread("all that listened have ended".to_owned());
        self.0.recv().map_err(gone)?
    }
}

/// In words, what is no longer as it was left.
fn difference(known: &Known, probe: &mut Probe) -> Result<Option<String>, Error> {
    for (_, address) in &known.here {
        if !probe.is_here(*address)? {
            return Ok(Some(format!("somebody took {address} off lo")));
        }
    }
    for family in &known.led_back {
        if !probe.is_led_back(*family)? {
            return Ok(Some(format!(
                "somebody changed the rule or route that leads answers back ({family})"
            )));
        }
    }
    Ok(None)
}
