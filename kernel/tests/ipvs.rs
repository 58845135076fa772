//! The IPVS layer against the kernel: what is written is in force, is read back the same, and `ipvsadm` lists it so.
//!
//! It takes a kernel with IPVS and root of the initial user namespace, and is run in the virtual machine of `tests/`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, ensure};
use kernel::Error;
use kernel::ipvs::{
    Destination, Frontend, Ipvs, Operation, Persistence, Refused, Scheduler, Server, Target, Timeouts,
};
use nix::errno::Errno;
use testbed::isolation::Privileges;
use testbed::suite::{Test, run};

use Operation::{AddDestination, AddServer, RemoveDestination, RemoveServer, SetDestination, SetServer};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

fn main() -> ExitCode {
    let test = |name: &str, run: fn() -> Result<()>| Test::new(name, run).with(Privileges::Machine);
    run(vec![
        test("every_kind_of_server_is_read_back_and_listed", every_kind_of_server),
        test("servers_change_and_go", servers_change),
        test("persistence_comes_changes_and_goes", persistence),
        test("destinations_come_change_and_go", destinations),
        test("destinations_of_every_kind_of_server_are_listed", every_kind_of_destination),
        test("what_others_set_is_seen", others),
        test("refusals_tell_what_was_wrong_and_stop_nothing", refusals),
        test("timeouts_are_set_one_by_one", timeouts),
        test("a_timeout_that_is_too_long_is_refused", long_timeout),
        test("schedulers_are_offered_or_not", schedulers),
        test("trying_a_scheduler_leaves_what_is_there", trying_beside_others),
        test("eleven_thousand_changes_all_arrive", many),
        test("the_count_is_of_ipv4", count),
        test("a_flush_leaves_nothing", flush),
        test("connections_are_counted", counters),
    ])
}

fn at(address: &str, protocol: u8, port: u16) -> Result<Frontend> {
    Ok(Frontend::Address { address: address.parse()?, protocol, port })
}

fn target(address: &str, port: u16) -> Result<Target> {
    Ok(Target { address: address.parse()?, port })
}

fn server(frontend: Frontend, scheduler: &str) -> Result<Server> {
    Ok(Server { frontend, scheduler: scheduler.parse()?, persistence: None })
}

/// Makes changes, all of which must succeed.
fn change(ipvs: &mut Ipvs, operations: &[Operation]) -> Result<()> {
    let refused = ipvs.run(operations)?;
    ensure!(refused.is_empty(), "{}", refused[0]);
    Ok(())
}

fn refusal(ipvs: &mut Ipvs, operation: Operation) -> Result<Refused> {
    ipvs.run(&[operation])?.pop().with_context(|| format!("nothing refused to {operation}"))
}

fn sorted(mut servers: Vec<Server>) -> Vec<Server> {
    servers.sort_by_key(|server| server.frontend);
    servers
}

fn ipvsadm(args: &[&str]) -> Result<String> {
    let output = Command::new("ipvsadm").args(args).output().context("apt-get install ipvsadm")?;
    ensure!(output.status.success(), "ipvsadm {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What `ipvsadm` would have to be told to make what there is.
fn saved() -> Result<BTreeSet<String>> {
    Ok(ipvsadm(&["--save", "--numeric"])?.lines().map(|line| line.trim().to_owned()).collect())
}

fn expect_saved(lines: &[&str]) -> Result<()> {
    let (found, wanted) = (saved()?, lines.iter().map(|line| (*line).to_owned()).collect());
    ensure!(found == wanted, "ipvsadm saves\n{found:#?}\ninstead of\n{wanted:#?}");
    Ok(())
}

fn every_kind_of_server() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let mark = |ipv6| Frontend::Mark { ipv6, mark: 0x7000_0001 };
    let mut servers = vec![
        server(at("10.96.0.1", TCP, 443)?, "rr")?,
        server(at("10.96.0.1", UDP, 443)?, "wrr")?,
        server(at("10.96.0.1", SCTP, 443)?, "lc")?,
        server(at("10.96.0.1", TCP, 0xff01)?, "wlc")?,
        server(at("fd00::1", TCP, 443)?, "sh")?,
        server(at("fd00::1", UDP, 443)?, "sed")?,
        server(at("fd00::1", SCTP, 443)?, "nq")?,
        server(mark(false), "dh")?,
        server(mark(true), "lblcr")?,
    ];
    servers.sort_by_key(|server| server.frontend);
    let additions: Vec<_> = servers.iter().copied().map(AddServer).collect();
    change(&mut ipvs, &additions)?;
    let found = sorted(ipvs.servers()?);
    ensure!(found == servers, "{found:?}");
    for server in &servers {
        let found = ipvs.server(server.frontend)?;
        ensure!(found == Some(*server), "{server:?} became {found:?}");
    }
    ensure!(ipvs.server(at("10.96.0.1", TCP, 80)?)?.is_none(), "one that does not exist is found");
    expect_saved(&[
        "-A -t 10.96.0.1:443 -s rr",
        "-A -u 10.96.0.1:443 -s wrr",
        "-A --sctp-service 10.96.0.1:443 -s lc",
        "-A -t 10.96.0.1:65281 -s wlc",
        "-A -t [fd00::1]:443 -s sh",
        "-A -u [fd00::1]:443 -s sed",
        "-A --sctp-service [fd00::1]:443 -s nq",
        "-A -f 1879048193 -s dh",
        "-A -f 1879048193 -6 -s lblcr",
    ])
}

fn servers_change() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let (v4, v6) = (at("10.96.0.1", TCP, 443)?, at("fd00::1", UDP, 53)?);
    let mark = Frontend::Mark { ipv6: false, mark: 7 };
    let one = target("10.0.0.1", 80)?;
    for frontend in [v4, v6, mark] {
        change(&mut ipvs, &[AddServer(server(frontend, "rr")?)])?;
    }
    change(&mut ipvs, &[AddDestination(v4, one, 1)])?;
    let hashing = "mh".parse::<Scheduler>()?.hashing_ports();
    for frontend in [v4, v6, mark] {
        let changed = Server { scheduler: hashing, ..server(frontend, "mh")? };
        change(&mut ipvs, &[SetServer(changed)])?;
        let found = ipvs.server(frontend)?;
        ensure!(found == Some(changed), "{changed:?} became {found:?}");
    }
    expect_saved(&[
        "-A -t 10.96.0.1:443 -s mh -b mh-port",
        "-a -t 10.96.0.1:443 -r 10.0.0.1:80 -m -w 1",
        "-A -u [fd00::1]:53 -s mh -b mh-port",
        "-A -f 7 -s mh -b mh-port",
    ])?;
    let plain = server(v4, "mh")?;
    change(&mut ipvs, &[SetServer(plain)])?;
    ensure!(ipvs.server(v4)? == Some(plain), "the option stays");
    for frontend in [v4, v6, mark] {
        change(&mut ipvs, &[RemoveServer(frontend)])?;
    }
    ensure!(ipvs.servers()?.is_empty(), "some stay");
    expect_saved(&[])
}

fn persistence() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let persistent = |frontend, seconds, prefix| -> Result<Server> {
        Ok(Server { persistence: Some(Persistence { seconds, prefix }), ..server(frontend, "rr")? })
    };
    let (v4, v6) = (at("10.96.0.1", TCP, 443)?, at("fd00::1", TCP, 443)?);
    let servers = [
        persistent(v4, 10_800, 32)?,
        persistent(at("10.96.0.2", TCP, 443)?, 1, 24)?,
        persistent(v6, 10_800, 128)?,
        persistent(at("fd00::2", TCP, 443)?, 86_400, 64)?,
    ];
    change(&mut ipvs, &servers.map(AddServer))?;
    let found = sorted(ipvs.servers()?);
    ensure!(found == servers, "{found:?}");
    expect_saved(&[
        "-A -t 10.96.0.1:443 -s rr -p 10800",
        "-A -t 10.96.0.2:443 -s rr -p 1 -M 255.255.255.0",
        "-A -t [fd00::1]:443 -s rr -p 10800",
        "-A -t [fd00::2]:443 -s rr -p 86400 -M 64",
    ])?;
    let changed = [persistent(v4, 60, 32)?, server(v6, "rr")?];
    change(&mut ipvs, &changed.map(SetServer))?;
    for changed in changed {
        let found = ipvs.server(changed.frontend)?;
        ensure!(found == Some(changed), "{changed:?} became {found:?}");
    }
    Ok(())
}

fn weights(found: &[Destination]) -> Vec<(Target, u32)> {
    let mut weights: Vec<_> = found.iter().map(|found| (found.target, found.weight)).collect();
    weights.sort_unstable();
    weights
}

fn destinations() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let frontend = at("10.96.0.1", TCP, 443)?;
    let (one, two, three) = (target("10.0.0.1", 80)?, target("10.0.0.1", 81)?, target("10.0.0.2", 80)?);
    change(
        &mut ipvs,
        &[
            AddServer(server(frontend, "wrr")?),
            AddDestination(frontend, one, 1),
            AddDestination(frontend, two, 0),
            AddDestination(frontend, three, 65_535),
        ],
    )?;
    let found = ipvs.destinations(frontend)?;
    ensure!(weights(&found) == [(one, 1), (two, 0), (three, 65_535)], "{found:?}");
    let at_rest = |found: &Destination| {
        let counts = (found.active, found.inactive, found.persistent, found.connections);
        found.masquerades && counts == (0, 0, 0, 0) && found.upper_threshold == 0
    };
    ensure!(found.iter().all(at_rest), "{found:?}");
    change(
        &mut ipvs,
        &[
            SetDestination(frontend, one, 0),
            RemoveDestination(frontend, two),
            SetDestination(frontend, three, 2),
        ],
    )?;
    let found = ipvs.destinations(frontend)?;
    ensure!(weights(&found) == [(one, 0), (three, 2)], "{found:?}");
    expect_saved(&[
        "-A -t 10.96.0.1:443 -s wrr",
        "-a -t 10.96.0.1:443 -r 10.0.0.1:80 -m -w 0",
        "-a -t 10.96.0.1:443 -r 10.0.0.2:80 -m -w 2",
    ])?;
    // One that was removed is kept aside for a minute, and comes back as new.
    change(&mut ipvs, &[AddDestination(frontend, two, 5)])?;
    let found = ipvs.destinations(frontend)?;
    ensure!(weights(&found) == [(one, 0), (two, 5), (three, 2)], "{found:?}");
    change(&mut ipvs, &[RemoveServer(frontend)])?;
    ensure!(ipvs.destinations(frontend)?.is_empty(), "one that does not exist has destinations");
    Ok(())
}

fn every_kind_of_destination() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let v6 = target("2001:db8::1:2", 8080)?;
    let v4 = target("10.0.0.1", 8080)?;
    let kinds = [
        (at("10.96.0.1", UDP, 53)?, v4),
        (at("10.96.0.1", SCTP, 53)?, v4),
        (at("10.96.0.1", TCP, 53)?, v4),
        (at("fd00::1", UDP, 53)?, v6),
        (at("fd00::1", SCTP, 53)?, v6),
        (at("fd00::1", TCP, 53)?, v6),
        (Frontend::Mark { ipv6: false, mark: 3 }, v4),
        (Frontend::Mark { ipv6: true, mark: 3 }, v6),
    ];
    for (frontend, target) in kinds {
        change(&mut ipvs, &[AddServer(server(frontend, "rr")?), AddDestination(frontend, target, 1)])?;
    }
    for (frontend, target) in kinds {
        let found = ipvs.destinations(frontend)?;
        ensure!(weights(&found) == [(target, 1)], "{frontend}: {found:?}");
    }
    expect_saved(&[
        "-A -u 10.96.0.1:53 -s rr",
        "-a -u 10.96.0.1:53 -r 10.0.0.1:8080 -m -w 1",
        "-A --sctp-service 10.96.0.1:53 -s rr",
        "-a --sctp-service 10.96.0.1:53 -r 10.0.0.1:8080 -m -w 1",
        "-A -t 10.96.0.1:53 -s rr",
        "-a -t 10.96.0.1:53 -r 10.0.0.1:8080 -m -w 1",
        "-A -u [fd00::1]:53 -s rr",
        "-a -u [fd00::1]:53 -r [2001:db8::1:2]:8080 -m -w 1",
        "-A --sctp-service [fd00::1]:53 -s rr",
        "-a --sctp-service [fd00::1]:53 -r [2001:db8::1:2]:8080 -m -w 1",
        "-A -t [fd00::1]:53 -s rr",
        "-a -t [fd00::1]:53 -r [2001:db8::1:2]:8080 -m -w 1",
        "-A -f 3 -s rr",
        "-a -f 3 -r 10.0.0.1:8080 -m -w 1",
        "-A -f 3 -6 -s rr",
        "-a -f 3 -6 -r [2001:db8::1:2]:8080 -m -w 1",
    ])
}

fn others() -> Result<()> {
    for line in [
        "-A -u 10.96.0.1:80 -s rr --ops",
        "-a -u 10.96.0.1:80 -r 10.0.0.1 -g -w 3",
        "-a -u 10.96.0.1:80 -r 10.0.0.2 -i",
        "-a -u 10.96.0.1:80 -r 10.0.0.3:8080 -m -x 20 -y 10",
        "-A -t [fd00::1]:80 -s sh -b sh-fallback,sh-port -p 7 -M 64",
    ] {
        ipvsadm(&line.split(' ').collect::<Vec<_>>())?;
    }
    let mut ipvs = Ipvs::open()?;
    let (v4, v6) = (at("10.96.0.1", UDP, 80)?, at("fd00::1", TCP, 80)?);
    let one_packet = ipvs.server(v4)?.context("no server")?;
    ensure!(one_packet != server(v4, "rr")?, "one-packet scheduling passes for none");
    let persistent = ipvs.server(v6)?.context("no server")?;
    ensure!(persistent.persistence == Some(Persistence { seconds: 7, prefix: 64 }), "{persistent:?}");
    ensure!(persistent.scheduler.as_str() == "sh", "{persistent:?}");
    ensure!(persistent.scheduler != "sh".parse()?, "the scheduler's options pass for none");
    let mut found = ipvs.destinations(v4)?;
    found.sort_by_key(|found| found.target);
    let seen: Vec<_> = found.iter().map(|found| (found.weight, found.masquerades)).collect();
    ensure!(seen == [(3, false), (1, false), (1, true)], "{found:?}");
    ensure!((found[2].upper_threshold, found[2].lower_threshold) == (20, 10), "{found:?}");
    // What is ours is made so again.
    let ours = target("10.0.0.3", 8080)?;
    change(&mut ipvs, &[SetServer(server(v4, "rr")?), SetDestination(v4, ours, 1)])?;
    ensure!(ipvs.server(v4)? == Some(server(v4, "rr")?), "one-packet scheduling stays");
    let found = ipvs.destinations(v4)?;
    let again = found.iter().find(|found| found.target == ours).context("no destination")?;
    ensure!((again.upper_threshold, again.lower_threshold) == (0, 0), "thresholds stay: {again:?}");
    Ok(())
}

fn refusals() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let (frontend, other) = (at("10.96.0.1", TCP, 80)?, at("10.96.0.9", TCP, 80)?);
    let one = target("10.0.0.1", 80)?;
    let (plain, unknown) = (server(frontend, "rr")?, server(other, "nosuch")?);
    let operations = [
        AddServer(plain),
        AddServer(plain),
        AddServer(unknown),
        AddDestination(frontend, one, 1),
        AddDestination(frontend, one, 1),
        AddDestination(other, one, 1),
        SetDestination(frontend, target("10.0.0.2", 80)?, 1),
        RemoveDestination(frontend, target("10.0.0.2", 80)?),
        RemoveDestination(other, one),
        RemoveServer(other),
        SetServer(server(other, "rr")?),
        SetServer(server(frontend, "nosuch")?),
        AddDestination(frontend, target("fd00::2", 80)?, 1),
        AddDestination(frontend, target("10.0.0.3", 80)?, u32::MAX),
        AddDestination(frontend, target("224.0.0.1", 80)?, 1),
        AddServer(server(at("fd00::1", TCP, 80)?, "rr")?),
    ];
    let refused = ipvs.run(&operations)?;
    let found: Vec<_> = refused.iter().map(|refused| (refused.operation, refused.errno)).collect();
    let expected = [
        (1, Errno::EEXIST),
        (2, Errno::ENOENT),
        (4, Errno::EEXIST),
        (5, Errno::ESRCH),
        (6, Errno::ENOENT),
        (7, Errno::ENOENT),
        (8, Errno::ESRCH),
        (9, Errno::ESRCH),
        (10, Errno::ESRCH),
        (11, Errno::ENOENT),
        (12, Errno::EINVAL),
        (13, Errno::ERANGE),
        (14, Errno::EINVAL),
    ];
    ensure!(found == expected, "{found:?}");
    let numbers = |of: fn(&Refused) -> bool| -> Vec<usize> {
        refused.iter().filter(|refused| of(refused)).map(|refused| refused.operation).collect()
    };
    ensure!(numbers(Refused::exists) == [1, 4], "exists: {:?}", numbers(Refused::exists));
    ensure!(numbers(Refused::missing) == [5, 6, 7, 8, 9, 10], "missing: {:?}", numbers(Refused::missing));
    ensure!(numbers(Refused::no_scheduler) == [2, 11], "{:?}", numbers(Refused::no_scheduler));
    let texts = [
        (0, "refused to add virtual server 10.96.0.1:80/tcp rr: EEXIST: File exists (there is one already)"),
        (
            1,
            "add virtual server 10.96.0.9:80/tcp nosuch: ENOENT: No such file or directory (the kernel has no scheduler nosuch: module ip_vs_nosuch)",
        ),
        (
            3,
            "add destination 10.0.0.1:80 of weight 1 to virtual server 10.96.0.9:80/tcp: ESRCH: No such process (there is no such virtual server)",
        ),
        (
            5,
            "remove destination 10.0.0.2:80 from virtual server 10.96.0.1:80/tcp: ENOENT: No such file or directory (there is no such destination)",
        ),
    ];
    for (index, text) in texts {
        let said = Error::from(refused[index].clone()).to_string();
        ensure!(said.contains(text), "{said}");
    }
    ensure!(ipvs.servers()?.len() == 2, "what came behind a refusal was not made");
    Ok(())
}

fn timeouts() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let usual = ipvs.timeouts()?;
    ensure!(usual == Timeouts { tcp: 900, tcp_fin: 120, udp: 300 }, "{usual:?}");
    let steps = [
        (Timeouts { tcp: 1000, ..Timeouts::default() }, Timeouts { tcp: 1000, tcp_fin: 120, udp: 300 }),
        (Timeouts { tcp_fin: 10, ..Timeouts::default() }, Timeouts { tcp: 1000, tcp_fin: 10, udp: 300 }),
        (Timeouts { udp: 20, ..Timeouts::default() }, Timeouts { tcp: 1000, tcp_fin: 10, udp: 20 }),
        (Timeouts::default(), Timeouts { tcp: 1000, tcp_fin: 10, udp: 20 }),
        (Timeouts { tcp: 1, tcp_fin: 2, udp: 3 }, Timeouts { tcp: 1, tcp_fin: 2, udp: 3 }),
    ];
    for (set, expected) in steps {
        ipvs.set_timeouts(set)?;
        let found = ipvs.timeouts()?;
        ensure!(found == expected, "{set:?} makes {found:?}");
    }
    let listed = ipvsadm(&["-L", "--timeout"])?;
    ensure!(listed.contains(": 1 2 3"), "{listed}");
    Ok(())
}

fn long_timeout() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let before = ipvs.timeouts()?;
    let refused = ipvs.set_timeouts(Timeouts { tcp: 5, tcp_fin: u32::MAX, udp: 5 });
    ensure!(matches!(refused, Err(Error::Refused { errno: Errno::EINVAL, .. })), "{refused:?}");
    ensure!(ipvs.timeouts()? == before, "half of it was set");
    Ok(())
}

fn schedulers() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let built = modules()?;
    for name in Scheduler::KNOWN {
        // Not every kernel is built with all of them: Debian's is without twos.
        let expected = built.contains(&format!("/ip_vs_{name}.ko"));
        ensure!(ipvs.offers(&name.parse()?)? == expected, "{name}: offered is not {expected}");
    }
    ensure!(ipvs.offers(&Scheduler::default())?, "the kernel has no rr");
    ensure!(!ipvs.offers(&"nosuch".parse()?)?, "the kernel has a scheduler nosuch");
    ensure!(ipvs.servers()?.is_empty(), "what was tried stays");
    Ok(())
}

/// Lists of the modules that the running kernel has, in files or built in.
fn modules() -> Result<String> {
    let folder = Path::new("/lib/modules").join(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    let lists = ["modules.dep", "modules.builtin"].map(|list| fs::read_to_string(folder.join(list)));
    Ok(lists.into_iter().filter_map(Result::ok).collect())
}

fn trying_beside_others() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let taken = [at("198.51.100.0", TCP, 20_000)?, at("198.51.100.0", TCP, 20_001)?];
    let taken = [server(taken[0], "lc")?, server(taken[1], "wlc")?];
    change(&mut ipvs, &taken.map(AddServer))?;
    ensure!(ipvs.offers(&"rr".parse()?)?, "no rr");
    let found = sorted(ipvs.servers()?);
    ensure!(found == taken, "{found:?}");
    Ok(())
}

/// The address of one of many.
fn nth(base: [u8; 2], index: usize) -> Result<IpAddr> {
    let [high, low] = u16::try_from(index)?.to_be_bytes();
    Ok(Ipv4Addr::new(base[0], base[1], high, low).into())
}

fn many() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let (mut additions, mut removals) = (Vec::new(), Vec::new());
    for index in 0..1000 {
        let frontend = Frontend::Address { address: nth([10, 96], index)?, protocol: TCP, port: 80 };
        additions.push(AddServer(server(frontend, "rr")?));
        for endpoint in 0..10 {
            let target = Target { address: nth([10, 1], index * 10 + endpoint)?, port: 8080 };
            additions.push(AddDestination(frontend, target, 1));
            removals.push(RemoveDestination(frontend, target));
        }
        removals.push(RemoveServer(frontend));
    }
    ensure!(additions.len() == 11_000);
    change(&mut ipvs, &additions)?;
    ensure!(ipvs.count()? == 1000, "there are {}", ipvs.count()?);
    let found: BTreeSet<_> = ipvs.servers()?.into_iter().map(|server| server.frontend).collect();
    ensure!(found.len() == 1000, "{} are listed", found.len());
    for frontend in found {
        let found = ipvs.destinations(frontend)?.len();
        ensure!(found == 10, "{frontend} has {found} destinations");
    }
    // Every one of them is refused, and every refusal arrives.
    let refused = ipvs.run(&additions)?;
    ensure!(refused.iter().all(Refused::exists), "some are not there");
    let numbers: Vec<_> = refused.iter().map(|refused| refused.operation).collect();
    ensure!(numbers == (0..11_000).collect::<Vec<_>>(), "{} refusals", numbers.len());
    change(&mut ipvs, &removals)?;
    ensure!(ipvs.count()? == 0 && saved()?.is_empty(), "some stay");
    Ok(())
}

fn count() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    ensure!(ipvs.count()? == 0, "there are {} to begin with", ipvs.count()?);
    let steps = [
        (at("10.96.0.1", TCP, 80)?, 1),
        (Frontend::Mark { ipv6: false, mark: 1 }, 2),
        (at("fd00::1", TCP, 80)?, 2),
        (Frontend::Mark { ipv6: true, mark: 1 }, 2),
    ];
    for (frontend, expected) in steps {
        change(&mut ipvs, &[AddServer(server(frontend, "rr")?)])?;
        let found = ipvs.count()?;
        ensure!(found == expected, "{found} with {frontend}, not {expected}");
    }
    ipvsadm(&["-C"])?;
    ensure!(ipvs.count()? == 0, "what others do is not noticed");
    Ok(())
}

fn flush() -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let frontends = [
        at("10.96.0.1", TCP, 80)?,
        at("fd00::1", TCP, 80)?,
        Frontend::Mark { ipv6: false, mark: 1 },
        Frontend::Mark { ipv6: true, mark: 1 },
    ];
    for frontend in frontends {
        change(&mut ipvs, &[AddServer(server(frontend, "rr")?)])?;
    }
    ipvs.flush()?;
    ensure!(ipvs.servers()?.is_empty(), "some stay");
    let refused = refusal(&mut ipvs, RemoveServer(frontends[0]))?;
    ensure!(refused.missing(), "{refused}");
    ipvs.flush().context("nothing to flush")
}

/// Through an address of this very network namespace, to a listener on loopback.
fn counters() -> Result<()> {
    let status = Command::new("ip").args(["addr", "add", "10.96.0.1/32", "dev", "lo"]).status()?;
    ensure!(status.success(), "cannot add an address");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = Target { address: Ipv4Addr::LOCALHOST.into(), port: listener.local_addr()?.port() };
    let frontend = at("10.96.0.1", TCP, 80)?;
    let persistent = Persistence { seconds: 60, prefix: 32 };
    let mut ipvs = Ipvs::open()?;
    let server = Server { persistence: Some(persistent), ..server(frontend, "rr")? };
    change(&mut ipvs, &[AddServer(server), AddDestination(frontend, one, 1)])?;
    let answering = thread::spawn(move || -> Result<Vec<TcpStream>> {
        let accept = |_| {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"hello")?;
            Ok(stream)
        };
        (0..3).map(accept).collect()
    });
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect("10.96.0.1:80")?;
        stream.read_exact(&mut [0; 5])?;
        clients.push(stream);
    }
    let servers = answering.join().map_err(|_| anyhow!("the listener panicked"))??;
    let found = counted(&mut ipvs, frontend, 3)?;
    ensure!(found.connections == 3 && found.persistent == 1, "{found:?}");
    ensure!((found.active, found.inactive) == (3, 0), "{found:?}");
    ensure!(found.incoming.packets >= 6 && found.outgoing.packets >= 6, "{found:?}");
    ensure!(found.incoming.bytes > 300 && found.outgoing.bytes > 300, "{found:?}");
    ensure!(found.masquerades, "a local destination counts as forwarded in another way");
    drop(servers);
    for mut client in clients {
        client.read_to_end(&mut Vec::new())?;
    }
    let found = counted(&mut ipvs, frontend, 3)?;
    ensure!((found.active, found.inactive) == (0, 3), "{found:?}");
    Ok(())
}

/// The only destination, once it has so many connections: the kernel adds up what its processors have counted every two
/// seconds, and tells nobody.
fn counted(ipvs: &mut Ipvs, frontend: Frontend, connections: u64) -> Result<Destination> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = ipvs.destinations(frontend)?;
        let found = found.first().context("no destination")?;
        if found.connections == connections {
            return Ok(*found);
        }
        ensure!(Instant::now() < deadline, "there never were {connections} connections: {found:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
