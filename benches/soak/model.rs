//! What each service should lead to, and therefore which connections may fail. Pure.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use testbed::Outcome;

/// How long after a change what was before it may still be met with.
const LAG: Duration = Duration::from_secs(3);

/// Pods by name.
pub(crate) type Pods = BTreeSet<String>;

/// What a service should lead to, from each change on.
#[derive(Debug, Default)]
pub(crate) struct History {
    changes: Vec<(Instant, Pods)>,
}

impl History {
    /// From now on it leads to these pods; to none if there are none, or no such service.
    pub(crate) fn leads_to(&mut self, now: Instant, pods: Pods) {
        self.changes.push((now, pods));
    }

    /// Whether it should lead to something now.
    pub(crate) fn has_endpoints(&self) -> bool {
        self.changes.last().is_some_and(|(_, pods)| !pods.is_empty())
    }

    /// What is wrong with what became of a connection that began and ended then, if anything. What was before `since`
    /// can be met with too.
    pub(crate) fn complaint(&self, since: Instant, ended: Instant, outcome: &Outcome) -> Option<String> {
        let from = since.checked_sub(LAG).unwrap_or(since);
        let current = self.changes.iter().rposition(|(at, _)| *at <= from).unwrap_or(0);
        let met = || self.changes[current..].iter().filter(|(at, _)| *at <= ended).map(|(_, pods)| pods);
        match outcome {
            Outcome::Answered { by, .. } if met().any(|pods| pods.contains(by)) => None,
            Outcome::Answered { by, .. } => Some(format!("answered by {by}, which is none of its endpoints")),
            // A service that was not there yet has none.
            _ if met().any(BTreeSet::is_empty) || met().next().is_none() => None,
            failed => Some(format!("{failed}, though it has endpoints")),
        }
    }

    /// Forgets what no connection can meet with any more.
    pub(crate) fn forget_before(&mut self, then: Instant) {
        let then = then.checked_sub(LAG).unwrap_or(then);
        let current = self.changes.iter().rposition(|(at, _)| *at <= then).unwrap_or(0);
        self.changes.drain(..current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(by: &str) -> Outcome {
        Outcome::Answered { by: by.to_owned(), seen_as: [10, 0, 0, 1].into() }
    }

    fn pods(names: &[&str]) -> Pods {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_a_service_without_endpoints_may_fail() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        history.leads_to(at(0), pods(&["pod-1"]));
        history.leads_to(at(10), pods(&[]));
        history.leads_to(at(20), pods(&["pod-2"]));
        let complaint = |began, outcome: &Outcome| history.complaint(at(began), at(began), outcome);
        assert!(complaint(5, &Outcome::Refused).is_some());
        assert!(complaint(5, &answered("pod-1")).is_none());
        assert!(complaint(5, &answered("pod-2")).is_some());
        assert!(complaint(11, &Outcome::Silence).is_none());
        assert!(complaint(12, &answered("pod-1")).is_none(), "within the lag");
        assert!(complaint(15, &answered("pod-1")).is_some());
        assert!(complaint(22, &Outcome::Refused).is_none(), "within the lag");
        assert!(complaint(24, &Outcome::Refused).is_some());
    }

    #[test]
    fn what_is_forgotten_is_not_missed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        for second in 0..100 {
            history.leads_to(at(second), pods(&["pod-1"]));
        }
        history.forget_before(at(90));
        assert_eq!(history.changes.len(), 13);
        assert!(history.complaint(at(90), at(91), &answered("pod-1")).is_none());
        assert!(history.complaint(at(90), at(91), &Outcome::Silence).is_some());
    }
}
