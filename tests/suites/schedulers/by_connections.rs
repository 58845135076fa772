//! Those that go by how many connections endpoints have: lc, wlc, sed and nq.
//!
//! They look at connections that are established. lc and wlc look at those that have ended too, for as long as the kernel
//! remembers them, but 256 of them weigh no more than one that is established: so few as here only break ties.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use testbed::{Conversation, Subject};

use crate::{PODS, serve};

testbed::scenarios![
    Subject:
    lc_goes_where_the_fewest_connections_are,
    wlc_goes_where_the_fewest_connections_are_among_equals,
    sed_goes_where_the_fewest_connections_are_among_equals,
    nq_goes_where_no_connections_are_or_the_fewest,
];

fn lc_goes_where_the_fewest_connections_are(s: &mut Subject) -> Result<()> {
    goes_where_the_fewest_are(s, "lc")
}

fn wlc_goes_where_the_fewest_connections_are_among_equals(s: &mut Subject) -> Result<()> {
    goes_where_the_fewest_are(s, "wlc")
}

fn sed_goes_where_the_fewest_connections_are_among_equals(s: &mut Subject) -> Result<()> {
    goes_where_the_fewest_are(s, "sed")
}

fn nq_goes_where_no_connections_are_or_the_fewest(s: &mut Subject) -> Result<()> {
    goes_where_the_fewest_are(s, "nq")
}

/// Connections for each endpoint.
const EACH: usize = 4;

fn goes_where_the_fewest_are(s: &mut Subject, scheduler: &str) -> Result<()> {
    serve(s, scheduler, 0)?;
    // One greets first, so it is established before the next one comes.
    let open = || s.pod(3).place.open(s.web_address());
    let mut held: Vec<Conversation> = Vec::new();
    for _ in 0..EACH * PODS.len() {
        held.push(open()?);
        let counts = counts(&held);
        let (most, fewest) = (counts.values().max(), counts.values().min());
        let uneven = most.zip(fewest).is_none_or(|(most, fewest)| most - fewest > 1);
        ensure!(!uneven, "not where the fewest are: {counts:?}");
    }
    for pod in PODS {
        let (ending, kept): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| held.with == pod);
        ending.into_iter().try_for_each(Conversation::close)?;
        held = kept;
        for number in 1..=EACH {
            let next = open().with_context(|| format!("connection {number}"))?;
            ensure!(
                next.with == pod,
                "{} got a connection, and {pod} has fewer: {:?}",
                next.with,
                counts(&held)
            );
            held.push(next);
        }
    }
    Ok(())
}

/// How many each pod has.
fn counts(held: &[Conversation]) -> BTreeMap<&str, usize> {
    let mut counts: BTreeMap<&str, usize> = PODS.map(|pod| (pod, 0)).into();
    for conversation in held {
        *counts.entry(&conversation.with).or_default() += 1;
    }
    counts
}
