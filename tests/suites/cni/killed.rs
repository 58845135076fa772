//! ADD is interrupted, or cannot go on: what it made until then goes.

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount, umount};
use testbed::cni::{Call, Pod, There, refused};
use testbed::scenarios;

use crate::scene::{Scene, configuration_of};

scenarios! { Scene:
    what_was_killed_at_any_step_is_detached,
    what_was_killed_at_any_step_is_collected,
    who_was_killed_may_try_again,
    a_disk_that_is_full_is_an_error_that_leaves_nothing,
}

/// Kills ADD at every step in turn, and has something be done about it.
fn at_every_step(s: &Scene, before: &There, then: impl Fn(&Scene, &Pod) -> Result<()>) -> Result<()> {
    let mut struck = 0;
    for step in cni::fault::STEPS {
        let pod = Pod::new(&format!("killed-{step}"))?;
        let inside = There::on(&pod.namespace)?;
        if !kill_at(s, &pod, step)? {
            // Steps that some pods have not, as with a second address.
            s.detach(&pod)?;
            s.must_be_as(before)?;
            continue;
        }
        struck += 1;
        then(s, &pod).with_context(|| format!("killed at {step}"))?;
        s.must_be_as(before).with_context(|| format!("killed at {step}"))?;
        There::on(&pod.namespace)?.must_be_as(&inside).with_context(|| format!("killed at {step}"))?;
    }
    ensure!(struck + 2 >= cni::fault::STEPS.len(), "only {struck} steps were taken");
    Ok(())
}

/// Whether ADD got to a step, where it was killed.
fn kill_at(s: &Scene, pod: &Pod, step: &str) -> Result<bool> {
    let runtime = s.runtime.with(cni::fault::VARIABLE, step)?;
    let input = configuration_of(s);
    let answer = runtime.call("pointsman-cni", &Call::about("ADD", &pod.attachment), &input)?;
    let killed = std::os::unix::process::ExitStatusExt::signal(&answer.status) == Some(9);
    ensure!(killed || answer.status.success(), "{step}: {answer:?}");
    Ok(killed)
}

fn what_was_killed_at_any_step_is_detached(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    at_every_step(s, &before, Scene::detach)
}

fn what_was_killed_at_any_step_is_collected(s: &mut Scene) -> Result<()> {
    s.list = s.newest();
    let before = s.ground()?;
    at_every_step(s, &before, |s, _| s.runtime.gc(&s.list, &[]))
}

fn who_was_killed_may_try_again(s: &mut Scene) -> Result<()> {
    let before = s.ground()?;
    for step in cni::fault::STEPS {
        let mut pod = Pod::new(&format!("killed-{step}"))?;
        kill_at(s, &pod, step)?;
        s.detach(&pod)?;
        s.attach(&mut pod).with_context(|| format!("killed at {step}"))?;
        s.runtime.check(&s.list, &pod.attachment)?;
        s.detach(&pod)?;
        s.must_be_as(&before)?;
    }
    Ok(())
}

fn a_disk_that_is_full_is_an_error_that_leaves_nothing(s: &mut Scene) -> Result<()> {
    s.ground()?;
    // Some blocks are left at first, so that it gets further each time.
    for blocks in 0..8 {
        let folder = "/var/lib/cni";
        let options = format!("size={}", (blocks + 2) * 4096);
        s.node.run(|| -> Result<()> {
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
            std::fs::create_dir_all("/var/lib/cni/results")?;
            std::fs::write("/var/lib/cni/filler", vec![1; 4096])?;
            Ok(())
        })??;
        let before = s.there()?;
        let pod = Pod::new(&format!("pod-{blocks}"))?;
        let input = configuration_of(s);
        let answer = s.runtime.call("pointsman-cni", &Call::about("ADD", &pod.attachment), &input)?;
        if answer.status.success() {
            ensure!(blocks > 0, "a full disk was no hindrance");
        } else {
            let refusal = refused(answer.result())?;
            ensure!(refusal.text().contains("space"), "{refusal}");
            let left = s.there()?.without("/lock").without("last_reserved_ip");
            left.must_be_as(&before.without("/lock").without("last_reserved_ip"))?;
        }
        s.detach(&pod)?;
        let left = s.there()?.without("/lock").without("last_reserved_ip");
        left.must_be_as(&before.without("/lock").without("last_reserved_ip"))?;
        s.node.run(|| umount(folder))??;
    }
    Ok(())
}
