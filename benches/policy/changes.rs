//! The changes that are measured: one of each sort and back, so that the cluster stays as it is.

use anyhow::Result;
use policy::Update;

use crate::report as row;
use crate::world;

/// The changes of a round, each in another place than in the round before.
pub(crate) fn of(round: u32) -> Result<Vec<(&'static str, Update)>> {
    let mut changes = Vec::new();
    relabel(world::remote(round), row::REMOTE_LABEL, &mut changes)?;
    let local = world::local(round % world::LOCAL_PODS);
    relabel(local, row::LOCAL_LABEL, &mut changes)?;
    let new_remote = world::new_remote(round % world::LOCAL_PODS);
    come_and_go(new_remote, [row::REMOTE_ADDED, row::REMOTE_GONE], &mut changes)?;
    let new_local = world::local(world::LOCAL_PODS + round % world::LOCAL_PODS);
    come_and_go(new_local, [row::LOCAL_ADDED, row::LOCAL_GONE], &mut changes)?;
    let policy = world::more(local, "more", 80);
    changes.push((row::POLICY_ADDED, world::update(policy.clone())?));
    changes.push((row::POLICY_CHANGED, world::update(world::more(local, "more", 81))?));
    changes.push((row::POLICY_GONE, world::gone(&policy)));
    let namespace = round % world::NAMESPACES;
    let stage = world::stage(namespace);
    for stage in [if stage == "test" { "production" } else { "test" }, stage] {
        changes.push((row::NAMESPACE_LABEL, world::update(world::namespace(namespace, stage))?));
    }
    Ok(changes)
}

/// Makes a pod one of another kind, and back.
fn relabel(pod: u32, sort: &'static str, changes: &mut Vec<(&'static str, Update)>) -> Result<()> {
    let app = world::app(pod);
    for app in [(app + 1) % world::APPS, app] {
        changes.push((sort, world::update(world::pod(pod, app))?));
    }
    Ok(())
}

fn come_and_go(
    pod: u32,
    [added, gone]: [&'static str; 2],
    changes: &mut Vec<(&'static str, Update)>,
) -> Result<()> {
    let object = world::pod(pod, world::app(pod));
    changes.push((added, world::update(object.clone())?));
    changes.push((gone, world::gone(&object)));
    Ok(())
}
