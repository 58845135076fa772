//! The monitor of devices, addresses, routes and neighbours against the kernel: it hears of what `ip` does.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use kernel::network::{NetworkMonitor, NetworkNews, Thing};
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("what_comes_and_goes_is_heard", heard),
        Test::new("a_device_that_changes_is_heard", changed),
    ])
}

fn run_program(program: &str, command: &str) -> Result<()> {
    let output = Command::new(program).args(command.split(' ')).output();
    let output = output.context("apt-get install iproute2")?;
    ensure!(output.status.success(), "{program} {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn ip(command: &str) -> Result<()> {
    run_program("ip", command)
}

/// Waits for something that is wanted; the test is bounded as a whole.
fn await_news(monitor: &mut NetworkMonitor, is_it: impl Fn(&NetworkNews) -> bool) -> Result<()> {
    loop {
        let news = monitor.next()?;
        ensure!(news != NetworkNews::Lost, "news were lost");
        if is_it(&news) {
            return Ok(());
        }
    }
}

fn heard() -> Result<()> {
    ip("link add eth0 type veth peer name eth1")?;
    ip("link set eth0 up")?;
    ip("link set eth1 up")?;
    ip("link add flannel.1 type vxlan id 1 dstport 8472 dev eth0 nolearning")?;
    ip("link set flannel.1 up")?;
    let mut monitor = NetworkMonitor::open()?;
    let is_route = |thing: &Thing, to: &str| matches!(thing, Thing::Route(route) if route.destination.to_string() == to && route.protocol == 112);
    let is_address = |thing: &Thing, is: &str| matches!(thing, Thing::Address { address, .. } if address.to_string() == is);
    let is_neighbour =
        |thing: &Thing, is: &str| matches!(thing, Thing::Neighbour(found) if found.address.to_string() == is);
    let is_forwarding =
        |thing: &Thing, to: &str| matches!(thing, Thing::Forwarding(found) if found.to.to_string() == to);
    type Is<'a> = Box<dyn Fn(&Thing) -> bool + 'a>;
    let cases: [(&str, &str, &str, Is<'_>); 6] = [
        ("ip", "addr VERB 192.0.2.1/24 dev eth0", "del", Box::new(|thing| is_address(thing, "192.0.2.1"))),
        (
            "ip",
            "addr VERB 2001:db8::1/64 dev eth0",
            "del",
            Box::new(|thing| is_address(thing, "2001:db8::1")),
        ),
        (
            "ip",
            "route VERB 10.1.0.0/24 dev eth0 proto 112",
            "del",
            Box::new(|thing| is_route(thing, "10.1.0.0/24")),
        ),
        (
            "ip",
            "-6 route VERB fd00:1::/64 dev eth0 proto 112",
            "del",
            Box::new(|thing| is_route(thing, "fd00:1::/64")),
        ),
        (
            "ip",
            "neigh VERB 10.1.0.0 lladdr 02:00:00:00:00:01 dev flannel.1",
            "del",
            Box::new(|thing| is_neighbour(thing, "10.1.0.0")),
        ),
        (
            "bridge",
            "fdb VERB 02:00:00:00:00:01 dst 192.0.2.9 dev flannel.1",
            "del",
            Box::new(|thing| is_forwarding(thing, "192.0.2.9")),
        ),
    ];
    for (program, command, undo, is_it) in cases {
        run_program(program, &command.replace("VERB", "add"))?;
        await_news(&mut monitor, |news| matches!(news, NetworkNews::Is(thing) if is_it(thing)))?;
        run_program(program, &command.replace("VERB", undo))?;
        await_news(&mut monitor, |news| matches!(news, NetworkNews::Gone(thing) if is_it(thing)))?;
    }
    Ok(())
}

fn changed() -> Result<()> {
    ip("link add eth0 type veth peer name eth1")?;
    let mut monitor = NetworkMonitor::open()?;
    ip("link set eth0 mtu 1400")?;
    let has = |news: &NetworkNews, test: &dyn Fn(&kernel::link::Link) -> bool| matches!(news, NetworkNews::Is(Thing::Link(link)) if link.name == "eth0" && test(link));
    await_news(&mut monitor, |news| has(news, &|link| link.mtu == 1400))?;
    ip("link set eth0 up")?;
    await_news(&mut monitor, |news| has(news, &|link| link.up))?;
    ip("link del eth0")?;
    await_news(
        &mut monitor,
        |news| matches!(news, NetworkNews::Gone(Thing::Link(link)) if link.name == "eth0"),
    )
}
