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

/// Triggers that no delta has told of yet.
#[derive(Debug, Default)]
pub(crate) struct Triggers(HashMap<ObjectName, Vec<Trigger>>);

impl Triggers {
    /// A slice of a Service has changed.
    pub(crate) fn add(&mut self, service: &ObjectName, family: Family, slice: &EndpointSlice) {
        if let Some(time) = slice.metadata.annotations.get(ANNOTATION) {
            let trigger = Trigger { family, time: time.as_str().into() };
            self.0.entry(service.clone()).or_default().push(trigger);
        }
    }

    /// A slice of a Service is gone: the times at hand are of its earlier changes, and so are lost, as in kube-proxy.
    pub(crate) fn forget(&mut self, service: &ObjectName, family: Family) {
        if let Some(triggers) = self.0.get_mut(service) {
            triggers.retain(|trigger| trigger.family != family);
        }
    }

    /// Hands all of them out.
    pub(crate) fn take(&mut self) -> Vec<Trigger> {
        std::mem::take(&mut self.0).into_values().flatten().collect()
    }
}
