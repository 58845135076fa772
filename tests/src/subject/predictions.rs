//! What `pointsman trace` predicts is held against what packets did.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Subject, Who};
use crate::place::{Outcome, Protocol};
use crate::suite::Circumstances;
use crate::trace;
use crate::vm;

/// How many connections of a scenario are held against predictions: each takes a process, and the machine is slow.
fn most() -> usize {
    if vm::is_guest() { 1 } else { 2 }
}

/// Connections that were held against predictions: whence, whither, and by what.
#[derive(Debug, Default)]
pub(super) struct Predictions(Mutex<BTreeSet<(String, SocketAddr, &'static str)>>);

/// What packets did.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reality<'a> {
    /// Exactly this came about.
    Outcomes(&'a BTreeSet<Outcome>),
    /// No pod answered.
    Unanswered,
}

/// What is predicted: outcomes, with the address that a pod sees where that is told.
type Prediction = BTreeSet<(Predicted, Option<IpAddr>)>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Predicted {
    /// A pod, or the address of somebody who is none.
    Goes(String),
    Refused,
    Dropped,
}

impl Subject {
    /// As [`Subject::prepare`], for scenarios in which trace is to predict what packets do.
    ///
    /// # Errors
    /// As [`Subject::prepare`].
    pub fn prepare_with_predictions(circumstances: Circumstances) -> Result<Self> {
        Ok(Self { predictions: Some(Predictions::default()), ..Self::prepare(circumstances)? })
    }

    /// Has trace predict what has just been seen, if this is one of the first such connections of the scenario.
    pub(super) fn hold_against_trace(
        &self,
        protocol: Protocol,
        who: Who<'_>,
        to: SocketAddr,
        reality: Reality<'_>,
    ) -> Result<()> {
        let Some(predictions) = &self.predictions else { return Ok(()) };
        {
            let mut held = predictions.0.lock().unwrap_or_else(PoisonError::into_inner);
            let this = (format!("{} {}", who.place.namespace.name(), who.ip), to, protocol.name());
            if held.len() >= most() || !held.insert(this) {
                return Ok(());
            }
        }
        let is_node = who.place.namespace.name() == "node" && who.place.source.is_none();
        let source = if is_node { "node".to_owned() } else { who.ip.to_string() };
        let destination = trace::destination(to, protocol);
        let traces = trace::ask(&self.bed.node, &source, &destination, &[])?;
        let told = traces.first().context("nothing was traced")?;
        let predicted = self.prediction(told)?;
        ensure!(
            self.comes_true(&predicted, reality),
            "trace -s {source} {destination} predicts {predicted:?}, and it came to {reality:?}: {told:#}"
        );
        Ok(())
    }

    fn prediction(&self, told: &Value) -> Result<Prediction> {
        let destination = told["destination"].as_str().context("no destination")?;
        let ways = told["ways"].as_array().context("no ways")?;
        // Without rules everything goes where it is addressed to.
        let untranslated = (Predicted::Goes(self.who_has(destination)?), None);
        let mut predicted = Prediction::new();
        for way in ways {
            let seen_as = way["seenAs"].as_str().map(str::parse).transpose()?;
            predicted.insert(match way["outcome"].as_str() {
                Some("rejected") => (Predicted::Refused, None),
                Some("dropped") => (Predicted::Dropped, None),
                Some("untranslated") => (untranslated.0.clone(), seen_as),
                _ => {
                    let endpoint = way["endpoint"].as_str().context("a way without an end")?;
                    (Predicted::Goes(self.who_has(endpoint)?), seen_as)
                }
            });
        }
        if predicted.is_empty() {
            predicted.insert(untranslated);
        }
        Ok(predicted)
    }

    /// The name of the pod with an address, or the address.
    fn who_has(&self, address: &str) -> Result<String> {
        let address: SocketAddr = address.parse().with_context(|| format!("{address} is no address"))?;
        let pods = self.bed.all_pods();
        let pod = pods.iter().find(|pod| pod.ip(self.family()) == address.ip());
        Ok(pod.map_or_else(|| address.to_string(), |pod| pod.name.clone()))
    }

    /// Whether what is predicted is what came about.
    fn comes_true(&self, predicted: &Prediction, reality: Reality<'_>) -> bool {
        let is_pod = |name: &String| self.bed.all_pods().iter().any(|pod| pod.name == *name);
        let reaches_pod =
            |(end, _): &(Predicted, Option<IpAddr>)| matches!(end, Predicted::Goes(name) if is_pod(name));
        let outcomes = match reality {
            Reality::Outcomes(outcomes) => outcomes,
            // A pod that is addressed itself at a port where nobody listens is not spoken for by rules.
            Reality::Unanswered => return !predicted.iter().any(reaches_pod),
        };
        let of = |(end, seen_as): &(Predicted, Option<IpAddr>), outcome: &Outcome| match (end, outcome) {
            // In userspace mode the process decides whose address it takes: trace does not say.
            (Predicted::Goes(name), Outcome::Answered { by, seen_as: seen }) => {
                name == by && seen_as.is_none_or(|seen_as| seen_as == *seen)
            }
            (Predicted::Refused, Outcome::Refused) | (Predicted::Dropped, Outcome::Silence) => true,
            // What no rule translates is the affair of whoever has the address, if anybody has.
            (Predicted::Goes(name), outcome) => !is_pod(name) && !matches!(outcome, Outcome::Answered { .. }),
            _ => false,
        };
        predicted.iter().all(|one| outcomes.iter().any(|outcome| of(one, outcome)))
            && outcomes.iter().all(|outcome| predicted.iter().any(|one| of(one, outcome)))
    }
}
