//! rr and wrr: one after the other.

use anyhow::{Result, ensure};
use testbed::Subject;
use testbed::subject::Seen::AsItself;

use crate::{PODS, serve};

testbed::scenarios![
    Subject:
    rr_takes_turns,
    wrr_takes_turns_among_equals,
];

fn rr_takes_turns(s: &mut Subject) -> Result<()> {
    takes_turns(s, "rr")
}

/// Endpoints weigh the same in Kubernetes.
fn wrr_takes_turns_among_equals(s: &mut Subject) -> Result<()> {
    takes_turns(s, "wrr")
}

fn takes_turns(s: &mut Subject, scheduler: &str) -> Result<()> {
    serve(s, scheduler, 0)?;
    let counts = s.reaches(s.pod(3), s.web_address(), &PODS, AsItself)?;
    let (most, fewest) = (counts.values().max(), counts.values().min());
    ensure!(most.zip(fewest).is_some_and(|(most, fewest)| most - fewest <= 1), "not even: {counts:?}");
    Ok(())
}
