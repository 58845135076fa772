//! Which Service is where.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use testbed::{Family, Outcome, Place, Protocol, Responder, scenarios};

use crate::subject::{Subject, remove};

scenarios![Subject:
    tcp_and_udp_reach_the_endpoints_in_turn,
    a_service_is_at_its_own_port_if_that_is_free,
    ports_of_tcp_and_udp_are_apart,
    local_ports_are_the_same_after_a_restart,
    a_ports_file_that_makes_no_sense_is_replaced,
    without_a_ports_file_everything_works,
    a_port_that_another_program_has_is_left_to_it,
    a_port_that_another_program_has_in_one_family_is_left_in_both,
    endpoints_come_and_go,
    a_service_without_endpoints_keeps_its_port,
    a_removed_services_port_is_free,
    another_address_can_be_listened_on,
    connections_that_are_under_way_stay,
];

const PODS: [u8; 3] = [1, 2, 3];

fn tcp_and_udp_reach_the_endpoints_in_turn(s: &mut Subject) -> Result<()> {
    s.put("web", 1, Protocol::Tcp, 80, &PODS);
    s.put("dns", 2, Protocol::Udp, 53, &PODS);
    s.sync()?;
    s.check_leads_to("web", Protocol::Tcp, &PODS)?;
    s.check_leads_to("dns", Protocol::Udp, &PODS)?;
    let line = s.proxy()?.await_line_with("Services are to be reached on")?;
    ensure!(line.contains("127.0.0.1 and ::1") && line.contains("pointsman status"), "{line}");
    Ok(())
}

fn a_service_is_at_its_own_port_if_that_is_free(s: &mut Subject) -> Result<()> {
    s.put("a-db", 1, Protocol::Tcp, 5432, &[1]);
    s.put("b-db", 2, Protocol::Tcp, 5432, &[2]);
    s.put("web", 3, Protocol::Tcp, 80, &[3]);
    s.sync()?;
    ensure!(s.port("a-db", Protocol::Tcp)? == 5432);
    let others = [s.port("b-db", Protocol::Tcp)?, s.port("web", Protocol::Tcp)?];
    ensure!(others.iter().all(|port| (20_000..30_000).contains(port)), "{others:?}");
    s.check_leads_to("a-db", Protocol::Tcp, &[1])?;
    s.check_leads_to("b-db", Protocol::Tcp, &[2])?;
    s.check_leads_to("web", Protocol::Tcp, &[3])
}

fn ports_of_tcp_and_udp_are_apart(s: &mut Subject) -> Result<()> {
    s.put("tcp", 1, Protocol::Tcp, 5353, &[1]);
    s.put("udp", 2, Protocol::Udp, 5353, &[2]);
    s.sync()?;
    ensure!([s.port("tcp", Protocol::Tcp)?, s.port("udp", Protocol::Udp)?] == [5353; 2]);
    s.check_leads_to("tcp", Protocol::Tcp, &[1])?;
    s.check_leads_to("udp", Protocol::Udp, &[2])
}

fn local_ports_are_the_same_after_a_restart(s: &mut Subject) -> Result<()> {
    s.put("a-db", 1, Protocol::Tcp, 5432, &[1]);
    s.put("b-db", 2, Protocol::Tcp, 5432, &[2]);
    s.put("dns", 3, Protocol::Udp, 53, &[3]);
    s.sync()?;
    let before = s.mapping()?;
    s.restart(|_| {})?;
    ensure!(s.mapping()? == before, "{:?} were {before:?}", s.mapping()?);
    // It could have the port that it wanted at first; but people have got used to the other.
    let had = s.port("b-db", Protocol::Tcp)?;
    s.restart(|cluster| remove(cluster, "a-db"))?;
    ensure!(s.port("b-db", Protocol::Tcp)? == had);
    s.check_leads_to("b-db", Protocol::Tcp, &[2])
}

fn a_ports_file_that_makes_no_sense_is_replaced(s: &mut Subject) -> Result<()> {
    s.put("web", 1, Protocol::Tcp, 80, &[1]);
    s.sync()?;
    let file = s.file("state/pointsman/ports.json");
    let written = fs::read_to_string(&file)?;
    fs::write(&file, &written[..written.len() / 2])?;
    s.restart(|_| {})?;
    let line = s.proxy()?.await_line_with("is replaced")?;
    ensure!(line.contains("WARN") && line.contains("ports.json"), "{line}");
    s.check_leads_to("web", Protocol::Tcp, &[1])?;
    ensure!(fs::read_to_string(&file)? == written, "the port follows from the name");
    Ok(())
}

fn without_a_ports_file_everything_works(s: &mut Subject) -> Result<()> {
    s.args.push("--userspace-ports-file=/proc/ports.json".to_owned());
    s.put("web", 1, Protocol::Tcp, 80, &[1]);
    s.sync()?;
    let line = s.proxy()?.await_line_with("/proc/ports.json")?;
    ensure!(line.contains("WARN") && line.contains("--userspace-ports-file"), "{line}");
    s.check_leads_to("web", Protocol::Tcp, &[1])?;
    s.restart(|_| {})?;
    s.check_leads_to("web", Protocol::Tcp, &[1])
}

fn a_port_that_another_program_has_is_left_to_it(s: &mut Subject) -> Result<()> {
    let loopback = Family::BOTH.map(|family| SocketAddr::new(family.loopback(), 5432));
    let _others = loopback.map(|address| Responder::new(&s.bed.node, address, "another"));
    s.put("db", 1, Protocol::Tcp, 5432, &[1]);
    s.sync()?;
    moved_away(s)?;
    s.restart(|_| {})?;
    moved_away(s)
}

fn a_port_that_another_program_has_in_one_family_is_left_in_both(s: &mut Subject) -> Result<()> {
    let _other = Responder::new(&s.bed.node, SocketAddr::new(Family::V6.loopback(), 5432), "another")?;
    s.put("db", 1, Protocol::Tcp, 5432, &[1]);
    s.sync()?;
    moved_away(s)
}

/// `db` is at another port than its own, which has been said, and whoever has that still answers.
fn moved_away(s: &mut Subject) -> Result<()> {
    let port = s.port("db", Protocol::Tcp)?;
    ensure!(port != 5432);
    s.check_leads_to("db", Protocol::Tcp, &[1])?;
    let line = s.proxy()?.await_line_with("another program listens on")?;
    ensure!(
        line.contains(":5432") && line.contains("test/db:main") && line.contains(&port.to_string()),
        "{line}"
    );
    let taken = SocketAddr::new(Family::V6.loopback(), 5432);
    let outcome = Place::of(&s.bed.node).connect(Protocol::Tcp, taken)?;
    ensure!(matches!(&outcome, Outcome::Answered { by, .. } if by == "another"), "{outcome}");
    Ok(())
}

fn endpoints_come_and_go(s: &mut Subject) -> Result<()> {
    s.put("web", 1, Protocol::Tcp, 8080, &[1]);
    s.put("dns", 2, Protocol::Udp, 5353, &[1]);
    s.sync()?;
    s.check_leads_to("web", Protocol::Tcp, &[1])?;
    for pods in [&[1, 2][..], &[2, 3], &[3], &PODS] {
        s.put("web", 1, Protocol::Tcp, 8080, pods);
        s.put("dns", 2, Protocol::Udp, 5353, pods);
        s.sync()?;
        s.check_leads_to("web", Protocol::Tcp, pods)?;
        s.check_leads_to("dns", Protocol::Udp, pods)?;
    }
    Ok(())
}

fn a_service_without_endpoints_keeps_its_port(s: &mut Subject) -> Result<()> {
    s.put("db", 1, Protocol::Tcp, 5432, &[]);
    s.put("other", 2, Protocol::Tcp, 5432, &[2]);
    s.sync()?;
    s.check_refused(5432)?;
    s.check_leads_to("other", Protocol::Tcp, &[2])?;
    for _ in 0..3 {
        s.put("db", 1, Protocol::Tcp, 5432, &[1]);
        s.sync()?;
        ensure!(s.port("db", Protocol::Tcp)? == 5432);
        s.check_leads_to("db", Protocol::Tcp, &[1])?;
        s.put("db", 1, Protocol::Tcp, 5432, &[]);
        s.sync()?;
        s.check_refused(5432)?;
    }
    Ok(())
}

fn a_removed_services_port_is_free(s: &mut Subject) -> Result<()> {
    s.put("db", 1, Protocol::Tcp, 5432, &[1]);
    s.sync()?;
    s.remove("db");
    s.sync()?;
    s.check_refused(5432)?;
    s.put("other", 2, Protocol::Tcp, 5432, &[2]);
    s.sync()?;
    ensure!(s.port("other", Protocol::Tcp)? == 5432);
    s.check_leads_to("other", Protocol::Tcp, &[2])
}

fn another_address_can_be_listened_on(s: &mut Subject) -> Result<()> {
    s.args.push("--userspace-bound-address=0.0.0.0".to_owned());
    s.put("db", 1, Protocol::Tcp, 5432, &[1]);
    s.sync()?;
    let mapping = s.mapping()?;
    let expected: [SocketAddr; 2] = ["0.0.0.0:5432".parse()?, "[::1]:5432".parse()?];
    ensure!(mapping["test/db:main tcp"] == expected, "{mapping:?}");
    let to = SocketAddr::new(Family::V4.node(), 5432);
    let outcome = Place::of(&s.bed.client).connect(Protocol::Tcp, to)?;
    ensure!(matches!(&outcome, Outcome::Answered { by, .. } if by == "pod-1"), "{outcome}");
    Ok(())
}

fn connections_that_are_under_way_stay(s: &mut Subject) -> Result<()> {
    s.put("db", 1, Protocol::Tcp, 5432, &[1]);
    s.sync()?;
    let mut conversation = Place::of(&s.bed.node).open(SocketAddr::new(Family::V4.loopback(), 5432))?;
    for pods in [&[2][..], &[], &[1]] {
        s.put("db", 1, Protocol::Tcp, 5432, pods);
        s.sync()?;
        conversation.echo()?;
    }
    s.remove("db");
    s.sync()?;
    conversation.echo()?;
    conversation.close()
}
