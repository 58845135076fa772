//! Associations that are under way when services change.

use anyhow::{Result, ensure};
use testbed::{Protocol, Subject};

use crate::{address, hss, serve};

testbed::scenarios![
    Subject:
    an_association_survives_a_restart,
    an_association_stays_when_another_endpoint_goes,
    an_association_ends_with_its_endpoint,
];

const PODS: [&str; 3] = ["pod-1", "pod-2", "remote-1"];

fn without(gone: &str) -> Vec<&'static str> {
    PODS.into_iter().filter(|pod| *pod != gone).collect()
}

fn an_association_survives_a_restart(s: &mut Subject) -> Result<()> {
    serve(s, hss(s).node_port(30868), &PODS)?;
    let mut associations = Vec::new();
    for _ in 0..5 {
        associations.push(s.pod(3).place.open_over(Protocol::Sctp, address(s))?);
        let node_port = (s.family().node(), 30868).into();
        associations.push(s.client().place.open_over(Protocol::Sctp, node_port)?);
    }
    s.proxy()?.kill()?;
    associations.iter_mut().try_for_each(testbed::Conversation::echo)?;
    s.restart()?;
    associations.iter_mut().try_for_each(testbed::Conversation::echo)
}

fn an_association_stays_when_another_endpoint_goes(s: &mut Subject) -> Result<()> {
    serve(s, hss(s), &PODS)?;
    let mut association = s.pod(3).place.open_over(Protocol::Sctp, address(s))?;
    for other in without(&association.with) {
        let kept = without(other);
        serve(s, hss(s), &kept)?;
        association.echo()?;
    }
    Ok(())
}

/// As with UDP: nothing tells the client that its peer is gone, so the proxy has the kernel forget the flow.
fn an_association_ends_with_its_endpoint(s: &mut Subject) -> Result<()> {
    serve(s, hss(s), &PODS)?;
    let mut association = s.pod(3).place.open_over(Protocol::Sctp, address(s))?;
    association.echo()?;
    let kept = without(&association.with);
    serve(s, hss(s), &kept)?;
    ensure!(association.echo().is_err(), "{} is gone, and still answers", association.with);
    // Nobody takes the association up in its place, and new ones are none the worse.
    let again = s.pod(3).place.open_over(Protocol::Sctp, address(s))?;
    ensure!(kept.contains(&again.with.as_str()), "{} is gone, and was chosen", again.with);
    Ok(())
}
