//! When what led to a change of endpoints happened, by the word of whoever wrote the EndpointSlice.

use std::collections::HashMap;

use crate::Family;
use crate::object::{EndpointSlice, ObjectName};

/// The annotation by which the EndpointSlice controller tells it.
const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// When something happened that changed a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The family of the endpoints.
    pub family: Family,
    /// The time, as the slice has it: RFC 3339, if whoever wrote it keeps to the rules.
    pub time: Box<str>,
}

/// The longest text that is taken for a time: RFC 3339 takes some 35 bytes, and anybody may write more.
const LONGEST_TIME: usize = 64;

/// Triggers remembered while no delta is taken; further ones are lost.
const REMEMBERED: usize = 1 << 16;

/// Triggers that no delta has told of yet.
#[derive(Debug, Default)]
pub(crate) struct Triggers {
    of_services: HashMap<ObjectName, Vec<Trigger>>,
    /// How many there are in all.
    count: usize,
}

impl Triggers {
    /// A slice of a Service has changed.
    pub(crate) fn add(&mut self, service: &ObjectName, family: Family, slice: &EndpointSlice) {
        if let Some(time) = slice.metadata.annotations.get(ANNOTATION)
            && time.len() <= LONGEST_TIME
            && self.count < REMEMBERED
        {
            let trigger = Trigger { family, time: time.as_str().into() };
            self.of_services.entry(service.clone()).or_default().push(trigger);
            self.count += 1;
        }
    }

    /// A slice of a Service is gone: the times at hand are of its earlier changes, and so are lost, as in kube-proxy.
    pub(crate) fn forget(&mut self, service: &ObjectName, family: Family) {
        let Some(triggers) = self.of_services.get_mut(service) else { return };
        let before = triggers.len();
        triggers.retain(|trigger| trigger.family != family);
        self.count -= before - triggers.len();
        if triggers.is_empty() {
            self.of_services.remove(service);
        }
    }

    /// Hands all of them out.
    pub(crate) fn take(&mut self) -> Vec<Trigger> {
        std::mem::take(self).of_services.into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(time: &str) -> EndpointSlice {
        let mut slice = EndpointSlice::default();
        slice.metadata.annotations.insert(ANNOTATION.into(), time.into());
        slice
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut triggers = Triggers::default();
        let (web, dns) = (ObjectName::new("shop", "web"), ObjectName::new("shop", "dns"));
        let slice = slice("2026-01-02T03:04:05Z");
        triggers.add(&dns, Family::V4, &slice);
        for _ in 0..=REMEMBERED {
            triggers.add(&web, Family::V6, &slice);
        }
        assert_eq!(triggers.count, REMEMBERED);
        triggers.forget(&web, Family::V4);
        assert_eq!(triggers.count, REMEMBERED);
        triggers.forget(&web, Family::V6);
        triggers.add(&web, Family::V4, &slice);
        assert_eq!(triggers.take().len(), 2);
        assert_eq!((triggers.count, triggers.take()), (0, Vec::new()));
    }

    #[test]
    fn what_is_too_long_is_no_time() {
        let mut triggers = Triggers::default();
        let web = ObjectName::new("shop", "web");
        triggers.add(&web, Family::V4, &slice(&"2".repeat(LONGEST_TIME + 1)));
        assert_eq!(triggers.take(), []);
        triggers.add(&web, Family::V4, &slice(&"2".repeat(LONGEST_TIME)));
        assert_eq!(triggers.take().len(), 1);
    }
}
