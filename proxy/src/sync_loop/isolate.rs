//! Finding what the kernel refuses: one bad service port must not keep the others from being programmed.

use std::collections::HashSet;
use std::sync::Arc;

use endpoint_cache::{Desired, Family, ServicePort, ServicePortName};
use modes::{Error, Mode};

/// A service port in one family.
pub(super) type Key = (Arc<ServicePortName>, Family);

/// Which service port of which family this is.
pub(super) fn key(service: &ServicePort) -> Key {
    (Arc::clone(&service.name), service.family)
}

/// How often the kernel is asked: enough for some bad ones among a hundred thousand.
const QUESTIONS: usize = 128;

/// The service ports among `suspects` without which the kernel would take the rest; empty when they are not at fault,
/// or that cannot be told.
///
/// The kernel is only asked, by halves of halves; nothing is changed meanwhile. When it has been asked for long enough,
/// what is still in doubt counts as refused.
pub(super) fn refused(mode: &mut dyn Mode, desired: &Desired, suspects: &HashSet<Key>) -> Vec<Key> {
    let (suspected, innocent): (Vec<_>, Vec<_>) =
        desired.service_ports.iter().cloned().partition(|service| suspects.contains(&key(service)));
    let taken = Desired { service_ports: innocent, ..desired.clone() };
    let mut search = Search { mode, taken, refused: Vec::new(), questions: QUESTIONS };
    if suspected.is_empty() || !matches!(search.takes(&[]), Ok(true)) {
        return Vec::new();
    }
    match search.halve(&suspected) {
        Ok(()) => search.refused.iter().map(|service| key(service)).collect(),
        Err(_) => Vec::new(),
    }
}

struct Search<'a> {
    mode: &'a mut dyn Mode,
    /// What the kernel takes.
    taken: Desired,
    refused: Vec<Arc<ServicePort>>,
    questions: usize,
}

impl Search<'_> {
    /// Sorts these into what is taken and what is refused.
    fn halve(&mut self, suspects: &[Arc<ServicePort>]) -> Result<(), Error> {
        if self.questions > 0 && self.takes(suspects)? {
            self.taken.service_ports.extend_from_slice(suspects);
        } else if suspects.len() == 1 || self.questions == 0 {
            self.refused.extend_from_slice(suspects);
        } else {
            let (first, second) = suspects.split_at(suspects.len() / 2);
            self.halve(first)?;
            self.halve(second)?;
        }
        Ok(())
    }

    /// Whether the kernel would take these with what it takes already.
    fn takes(&mut self, suspects: &[Arc<ServicePort>]) -> Result<bool, Error> {
        self.questions = self.questions.saturating_sub(1);
        let mut asked = self.taken.clone();
        asked.service_ports.extend_from_slice(suspects);
        match self.mode.rehearse(&asked) {
            Ok(()) => Ok(true),
            Err(error) if error.blames_the_request() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
