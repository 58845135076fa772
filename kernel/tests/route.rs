//! Rules and routes against the kernel: what is made is what `ip` shows and what packets follow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use kernel::link::{AddressEdit, Links};
use kernel::route::{
    AddressRoute, Change, Family, LocalRoute, MAIN, MarkRule, Route, RouteEdit, Routes, Scope, Way,
    source_towards,
};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use testbed::suite::{Test, run};

const MARK: u32 = 0x2000;
const TABLE: u32 = 7777;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn main() -> ExitCode {
    run(vec![
        Test::new("marked_packets_are_led_to_this_host", led),
        Test::new("what_is_there_is_not_made_twice", repeated),
        Test::new("what_is_not_ours_is_left", foreign),
        Test::new("ways_are_told_apart", ways),
        Test::new("a_refusal_names_what_was_refused", refusal),
        Test::new("an_address_may_be_local_and_not_taken_as_the_source", not_taken),
        Test::new("routes_are_listed_as_they_were_made", listed),
        Test::new("one_of_others_is_neither_removed_nor_made_twice", others),
        Test::new("a_route_that_is_replaced_is_never_missing", replaced),
        Test::new("refusals_are_told_one_by_one", one_by_one),
        Test::new("five_thousand_routes_take_no_time", many),
        Test::new("a_passive_address_is_local_and_never_chosen", passive),
    ])
}

fn ip(command: &str) -> Result<String> {
    let output = Command::new("ip").args(command.split(' ')).output().context("apt-get install iproute2")?;
    ensure!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn rule(family: Family) -> MarkRule {
    MarkRule { family, priority: 77, mark: MARK, mask: MARK, table: TABLE }
}

fn loopback() -> Result<u32> {
    ip("link set lo up")?;
    Ok(Links::open()?.find("lo")?.context("no loopback device")?.index)
}

fn route(family: Family) -> Result<LocalRoute> {
    Ok(LocalRoute { family, table: TABLE, link: loopback()? })
}

/// Addresses that no host has.
fn nobody(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

fn led() -> Result<()> {
    let mut routes = Routes::open()?;
    let here = Some(Way { local: true, gateway: false, link: loopback()? });
    for family in FAMILIES {
        ensure!(routes.way(nobody(family), MARK)? != here, "it is led here already");
        ensure!(routes.rule(Change::Add, &rule(family))?);
        ensure!(routes.local_route(Change::Add, &route(family)?)?);
        ensure!(routes.way(nobody(family), MARK | 1)? == here, "{family}: marked packets are not led here");
        ensure!(routes.way(nobody(family), 1)? != here, "{family}: other packets are led here");
        let flag = if family == Family::V4 { "-4" } else { "-6" };
        let rules = ip(&format!("{flag} rule"))?;
        ensure!(rules.contains("77:\tfrom all fwmark 0x2000/0x2000 lookup 7777"), "{rules}");
        ensure!(routes.rule(Change::Remove, &rule(family))?);
        ensure!(routes.way(nobody(family), MARK)? != here);
        ensure!(routes.local_route(Change::Remove, &route(family)?)?);
        ensure!(!ip(&format!("{flag} route show table all"))?.contains("7777"), "the route stays");
    }
    Ok(())
}

fn repeated() -> Result<()> {
    let mut routes = Routes::open()?;
    for family in FAMILIES {
        for first in [true, false] {
            ensure!(routes.rule(Change::Add, &rule(family))? == first, "{family}: made twice");
            ensure!(routes.local_route(Change::Add, &route(family)?)? == first, "{family}: made twice");
        }
        for first in [true, false] {
            ensure!(routes.rule(Change::Remove, &rule(family))? == first);
            ensure!(routes.local_route(Change::Remove, &route(family)?)? == first);
        }
    }
    Ok(())
}

fn foreign() -> Result<()> {
    let mut routes = Routes::open()?;
    ip("rule add fwmark 0x1/0x1 lookup 7777 priority 77")?;
    ip("rule add fwmark 0x2000/0x2000 lookup 7778 priority 77")?;
    let before = ip("rule")?;
    ensure!(routes.rule(Change::Add, &rule(Family::V4))?, "a rule of others was taken for it");
    ensure!(routes.rule(Change::Remove, &rule(Family::V4))?);
    ensure!(!routes.rule(Change::Remove, &rule(Family::V4))?, "a rule of others was removed");
    ensure!(ip("rule")? == before);
    Ok(())
}

fn ways() -> Result<()> {
    let mut routes = Routes::open()?;
    let loopback = loopback()?;
    ip("link add veth-a type veth peer name veth-b")?;
    ip("link set veth-a up")?;
    ip("link set veth-b up")?;
    ip("addr add 192.0.2.1/24 dev veth-a")?;
    ip("addr add 2001:db8::1/64 dev veth-a nodad")?;
    ip("route add default via 192.0.2.254 dev veth-a")?;
    ip("route add default via 2001:db8::fe dev veth-a")?;
    ip("route add 198.51.100.0/24 via inet6 2001:db8::fe dev veth-a")?;
    ip("route add unreachable 203.0.113.0/24")?;
    ip("route add prohibit 203.0.113.1/32")?;
    ip("route add blackhole 203.0.113.2/32")?;
    let veth = Links::open()?.find("veth-a")?.context("no veth-a")?.index;
    let (near, far) =
        (Way { local: false, gateway: false, link: veth }, Way { local: false, gateway: true, link: veth });
    for (to, wanted) in [
        ("192.0.2.1", Some(Way { local: true, gateway: false, link: loopback })),
        ("192.0.2.7", Some(near)),
        ("8.8.8.8", Some(far)),
        ("198.51.100.1", Some(far)),
        ("203.0.113.7", None),
        ("203.0.113.1", None),
        ("203.0.113.2", None),
        ("2001:db8::1", Some(Way { local: true, gateway: false, link: loopback })),
        ("2001:db8::7", Some(near)),
        ("2001:db8:1::1", Some(far)),
    ] {
        let way = routes.way(to.parse()?, 0)?;
        // IPv6 names the device that has the address.
        let way = way.map(|way| if way.local { Way { link: loopback, ..way } } else { way });
        ensure!(way == wanted, "{to}: {way:?}, not {wanted:?}");
    }
    Ok(())
}

fn refusal() -> Result<()> {
    let mut routes = Routes::open()?;
    let nowhere = LocalRoute { family: Family::V4, table: TABLE, link: 9999 };
    let error = routes.local_route(Change::Add, &nowhere).err().context("a route over no device was made")?;
    let message = error.to_string();
    ensure!(message.contains("table 7777") && message.contains("9999"), "{message}");
    Ok(())
}

fn not_taken() -> Result<()> {
    let (mut routes, mut links, loopback) = (Routes::open()?, Links::open()?, loopback()?);
    ip("link add veth-a type veth peer name veth-b")?;
    ip("addr add 192.0.2.1/32 dev veth-a")?;
    ip("link set veth-a up")?;
    ip("addr add 2001:db8::1/128 dev veth-a nodad")?;
    let down = links.find("veth-b")?.context("no veth-b")?.index;
    for (address, source) in [("198.51.100.7", "192.0.2.1"), ("fd70::7", "2001:db8::1")] {
        let (address, source): (IpAddr, IpAddr) = (address.parse()?, source.parse()?);
        let route = AddressRoute { address, link: loopback, source: Some(source) };
        let edit = |add| AddressEdit { link: down, add, address };
        links.run(&[edit(true)])?;
        ensure!(routes.address_route(Change::Add, &route)?, "{address}: no route was made");
        ensure!(!routes.address_route(Change::Add, &route)?, "{address}: made twice");
        await_source(address, address)?;
        let way = ip(&format!("route get {address}"))?;
        ensure!(way.contains(&format!("src {address}")), "an address of a device comes first: {way}");
        links.run(&[edit(false)])?;
        await_source(address, source)?;
        let way = ip(&format!("route get {address}"))?;
        ensure!(way.starts_with("local") && way.contains(&format!("src {source}")), "{way}");
        // Who has it as a source goes on.
        ip(&format!("route get {address} from {address}"))?;
        let removed = AddressRoute { source: None, ..route };
        ensure!(routes.address_route(Change::Remove, &removed)?, "{address}: it was not there");
        ensure!(!routes.address_route(Change::Remove, &removed)?, "{address}: removed twice");
        ensure!(!routes.way(address, 0)?.is_some_and(|way| way.local), "{address} stays");
    }
    Ok(())
}

/// The kernel makes and removes the routes of IPv6 addresses some time after it has answered.
fn await_source(address: IpAddr, source: IpAddr) -> Result<()> {
    testbed::await_that(&format!("{address} is reached from {source}"), || {
        Ok(source_towards(address) == Some(source))
    })
}

fn passive() -> Result<()> {
    let (mut routes, mut links, loopback) = (Routes::open()?, Links::open()?, loopback()?);
    let addresses: [IpAddr; 2] = ["169.254.112.77".parse()?, "fd70:6f69:6e74::1".parse()?];
    // Without an address of its own: the kernel looks for one on other devices, loopback first.
    ip("link add veth-a type veth peer name veth-b")?;
    ip("link set veth-a up")?;
    ip("route add 198.51.100.1 dev veth-a")?;
    ip("route add fd70::/32 dev veth-a")?;
    for address in addresses {
        ensure!(links.add_passive(loopback, address)?, "{address} was there");
        ensure!(!links.add_passive(loopback, address)?, "{address} is added twice");
        // That of an IPv6 address comes late.
        testbed::await_that(&format!("{address} is local"), || {
            Ok(routes.way(address, 0)?.is_some_and(|way| way.local))
        })?;
    }
    ip("addr add 192.0.2.1/32 dev veth-b")?;
    ip("addr add 2001:db8::1/128 dev veth-b nodad")?;
    let v4 = ip("route get 198.51.100.1")?;
    ensure!(v4.contains("src 192.0.2.1"), "{v4}");
    let v6 = ip("route get fd70::7")?;
    ensure!(v6.contains("src 2001:db8::1"), "{v6}");
    Ok(())
}

const PROTOCOL: u8 = 112;

/// A device with addresses, by which routes go.
fn veth() -> Result<u32> {
    ip("link add veth-a type veth peer name veth-b")?;
    for command in ["link set veth-b up", "link set veth-a up", "addr add 192.0.2.1/24 dev veth-a"] {
        ip(command)?;
    }
    ip("addr add 2001:db8::1/64 dev veth-a nodad")?;
    Ok(Links::open()?.find("veth-a")?.context("no veth-a")?.index)
}

fn via(link: u32, destination: &str, gateway: &str) -> Result<Route> {
    Ok(Route {
        destination: destination.parse()?,
        gateway: Some(gateway.parse()?),
        onlink: false,
        link,
        source: None,
        table: MAIN,
        protocol: PROTOCOL,
        scope: Scope::Universe,
        metric: None,
        mtu: None,
    })
}

fn run_all(routes: &mut Routes, edits: &[RouteEdit]) -> Result<()> {
    let refused = routes.run(edits)?;
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

fn listed() -> Result<()> {
    let (mut routes, link) = (Routes::open()?, veth()?);
    let plain = via(link, "10.244.1.0/24", "192.0.2.7")?;
    let made = [
        plain,
        Route { metric: Some(77), mtu: Some(1400), ..via(link, "10.244.1.0/24", "192.0.2.8")? },
        Route { onlink: true, ..via(link, "10.244.2.0/24", "10.244.2.0")? },
        Route {
            source: Some("192.0.2.1".parse()?),
            table: 11_200,
            ..via(link, "10.244.3.0/24", "192.0.2.7")?
        },
        Route { gateway: None, scope: Scope::Link, ..via(link, "10.244.4.7/32", "192.0.2.7")? },
        Route { gateway: None, link: 0, ..via(link, "10.244.0.0/24", "192.0.2.7")? },
        via(link, "10.244.5.0/24", "2001:db8::7")?,
        via(link, "0.0.0.0/0", "192.0.2.254")?,
        via(link, "fd00:1::/64", "2001:db8::7")?,
        Route { metric: Some(77), mtu: Some(1400), ..via(link, "fd00:1::/64", "2001:db8::8")? },
        Route { onlink: true, ..via(link, "fd00:2::/64", "fd00:2::")? },
        Route { gateway: None, ..via(link, "fd00:4::7/128", "2001:db8::7")? },
        Route { gateway: None, link: 0, ..via(link, "fd00::/64", "2001:db8::7")? },
    ];
    for edit in [RouteEdit::Add, RouteEdit::Add, RouteEdit::Replace] {
        run_all(&mut routes, &made.map(edit))?;
        let mut found = routes.list(None, Some(PROTOCOL))?;
        let mut wanted = made.to_vec();
        found.sort_by_key(ToString::to_string);
        wanted.sort_by_key(ToString::to_string);
        ensure!(found == wanted, "{found:#?}, not {wanted:#?}");
    }
    let v6 = routes.list(Some(Family::V6), Some(PROTOCOL))?;
    ensure!(v6.len() == 5, "{v6:?}");
    let shown = ip("route show proto 112")?;
    ensure!(shown.contains("10.244.2.0/24 via 10.244.2.0 dev veth-a onlink"), "{shown}");
    ensure!(shown.contains("unreachable 10.244.0.0/24"), "{shown}");
    for _ in 0..2 {
        run_all(&mut routes, &made.map(RouteEdit::Remove))?;
    }
    let left = routes.list(None, Some(PROTOCOL))?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn others() -> Result<()> {
    let (mut routes, link) = (Routes::open()?, veth()?);
    for (destination, gateway) in [("10.244.1.0/24", "192.0.2.7"), ("fd00:1::/64", "2001:db8::7")] {
        ip(&format!("route add {destination} via {gateway} proto static"))?;
        let route = via(link, destination, gateway)?;
        run_all(&mut routes, &[RouteEdit::Add(route), RouteEdit::Remove(route)])?;
        let refused = routes.run(&[RouteEdit::Create(route)])?;
        ensure!(matches!(&refused[..], [(0, _)]), "{refused:?}");
        let flag = if route.destination.addr().is_ipv4() { "-4" } else { "-6" };
        let shown = ip(&format!("{flag} route show {destination}"))?;
        ensure!(shown.contains("proto static"), "{shown}");
    }
    Ok(())
}

fn replaced() -> Result<()> {
    let (mut routes, link) = (Routes::open()?, veth()?);
    for (destination, first, second) in
        [("10.244.1.0/24", "192.0.2.7", "192.0.2.8"), ("fd00:1::/64", "2001:db8::7", "2001:db8::8")]
    {
        let to: IpAddr = destination.parse::<ipnet::IpNet>()?.addr();
        let ways = [via(link, destination, first)?, via(link, destination, second)?];
        run_all(&mut routes, &[RouteEdit::Create(ways[0])])?;
        while_asked(to, |await_use| {
            for round in 0..400 {
                let (old, new) = (ways[round % 2], ways[(round + 1) % 2]);
                // What IPv6 has never used on a processor may be missed there, see `RouteEdit::Replace`.
                await_use()?;
                match to {
                    IpAddr::V4(_) => run_all(&mut routes, &[RouteEdit::Append(new), RouteEdit::Remove(old)])?,
                    IpAddr::V6(_) => run_all(&mut routes, &[RouteEdit::Replace(new)])?,
                }
            }
            Ok(())
        })?;
        let left = routes.list(None, Some(PROTOCOL))?;
        ensure!(left == [ways[0]], "{left:?}");
        run_all(&mut routes, &[RouteEdit::Remove(ways[0])])?;
    }
    Ok(())
}

/// Does something while a process, on one processor, looks for its way to an address without pause, and must always find one.
/// What is done may wait until it has found one anew.
fn while_asked(to: IpAddr, doing: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()>) -> Result<()> {
    let (times, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| -> Result<()> {
            let own = Pid::from_raw(0);
            let mut one = CpuSet::new();
            let allowed = sched_getaffinity(own)?;
            one.set((0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).is_ok_and(|is| is)).unwrap_or(0))?;
            sched_setaffinity(own, &one)?;
            let local: IpAddr =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((local, 0))?;
            while !done.load(Ordering::Relaxed) {
                socket.connect((to, 9)).with_context(|| format!("{to}: no route for a moment"))?;
                times.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let await_use = || {
            // One that is under way may have begun before.
            let enough = times.load(Ordering::Relaxed) + 2;
            while times.load(Ordering::Relaxed) < enough {
                ensure!(!asking.is_finished(), "nobody asks any more");
                std::thread::yield_now();
            }
            Ok(())
        };
        let result = doing(&await_use);
        done.store(true, Ordering::Relaxed);
        asking.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        result
    })
}

fn one_by_one() -> Result<()> {
    let (mut routes, link) = (Routes::open()?, veth()?);
    let bad = via(link, "10.244.7.0/24", "203.0.113.7")?;
    let mut edits: Vec<_> = (0..600)
        .map(|n| Ok(RouteEdit::Add(via(link, &format!("10.{}.{}.0/24", n / 256, n % 256), "192.0.2.7")?)))
        .collect::<Result<_>>()?;
    edits[3] = RouteEdit::Add(bad);
    edits[555] = RouteEdit::Create(bad);
    let refused = routes.run(&edits)?;
    let places: Vec<_> = refused.iter().map(|(at, _)| *at).collect();
    ensure!(places == [3, 555], "{refused:?}");
    let message = refused[0].1.to_string();
    ensure!(message.contains("10.244.7.0/24") && message.contains("203.0.113.7"), "{message}");
    ensure!(routes.list(None, Some(PROTOCOL))?.len() == 598);
    Ok(())
}

fn many() -> Result<()> {
    let (mut routes, link) = (Routes::open()?, veth()?);
    let made: Vec<_> = (0..5000)
        .map(|n| via(link, &format!("10.{}.{}.0/24", n / 256, n % 256), "192.0.2.7"))
        .collect::<Result<_>>()?;
    let start = std::time::Instant::now();
    run_all(&mut routes, &made.iter().copied().map(RouteEdit::Create).collect::<Vec<_>>())?;
    let added = start.elapsed();
    let found = routes.list(Some(Family::V4), Some(PROTOCOL))?;
    let read = start.elapsed() - added;
    ensure!(found.len() == made.len(), "{} routes", found.len());
    println!("5000 routes: added in {added:?}, listed in {read:?}");
    // Far more than it takes; the machine may be busy.
    ensure!(added.as_millis() < 1000, "5000 routes took {added:?}");
    Ok(())
}
