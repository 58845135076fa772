//! The codec, beside what `ipvsadm` and the kernel say to each other, and on its own.

use std::net::IpAddr;

use proptest::prelude::*;

use super::fuzz::{decode, read_back};
use super::types::{Destination, Frontend, Operation, Persistence, Server, Target, Timeouts, Traffic};
use super::uapi::{attribute, command, destination as dest};
use super::write::{self, Requests};
use super::{Scheduler, read};
use crate::netlink::{Attributes, HEADER, Message, Writer};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// What a command of `ipvsadm` sent, and what the kernel answered.
struct Captured {
    sent: Vec<Vec<u8>>,
    received: Vec<Vec<u8>>,
}

/// What the commands with these arguments exchanged, in their order.
fn captured(arguments: &str) -> Vec<Captured> {
    let text = include_str!("fixtures/ipvsadm.txt");
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.strip_prefix("# ipvsadm ") != Some(arguments) {
            continue;
        }
        let mut exchange = Captured { sent: Vec::new(), received: Vec::new() };
        while let Some((side, hex)) =
            lines.next_if(|line| !line.is_empty()).and_then(|line| line.split_once(' '))
        {
            let bytes = hex.as_bytes().chunks(2).map(|digits| std::str::from_utf8(digits).unwrap());
            let bytes = bytes.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
            if side == ">" { exchange.sent.push(bytes) } else { exchange.received.push(bytes) }
        }
        found.push(exchange);
    }
    assert!(!found.is_empty(), "nothing was captured of {arguments}");
    found
}

fn sent(arguments: &str) -> Vec<u8> {
    captured(arguments).remove(0).sent.remove(0)
}

fn message(payload: &[u8]) -> Message<'_> {
    Message { kind: 0, flags: 0, sequence: 0, port: 0, payload }
}

fn encoded(operation: &Operation) -> Vec<u8> {
    let mut writer = Writer::default();
    Requests(0).operation(&mut writer, operation, 1);
    writer.bytes()[HEADER..].to_vec()
}

fn at(address: &str, protocol: u8, port: u16) -> Frontend {
    Frontend::Address { address: address.parse().unwrap(), protocol, port }
}

fn mark(ipv6: bool) -> Frontend {
    Frontend::Mark { ipv6, mark: 7 }
}

fn target(address: &str, port: u16) -> Target {
    Target { address: address.parse().unwrap(), port }
}

fn server(frontend: Frontend, scheduler: &str) -> Server {
    Server { frontend, scheduler: scheduler.parse().unwrap(), persistence: None }
}

fn persistent(server: Server, seconds: u32, prefix: u8) -> Server {
    Server { persistence: Some(Persistence { seconds, prefix }), ..server }
}

fn hashing() -> Server {
    let server = server(at("10.96.0.2", TCP, 443), "mh");
    persistent(Server { scheduler: server.scheduler.hashing_ports(), ..server }, 60, 24)
}

#[test]
fn servers_are_written_as_ipvsadm_writes_them() {
    let first = at("10.96.0.1", TCP, 80);
    let v6 = server(at("fd00::1", UDP, 53), "wrr");
    let commands = [
        (Operation::AddServer(server(first, "rr")), "-A -t 10.96.0.1:80 -s rr"),
        (Operation::AddServer(persistent(v6, 10_800, 128)), "-A -u [fd00::1]:53 -s wrr -p 10800"),
        (Operation::AddServer(hashing()), "-A -t 10.96.0.2:443 -s mh -b mh-port -p 60 -M 255.255.255.0"),
        (Operation::AddServer(server(mark(false), "rr")), "-A -f 7 -s rr"),
        (Operation::AddServer(server(mark(true), "lc")), "-A -f 7 -6 -s lc"),
        (
            Operation::AddServer(server(at("10.96.0.1", SCTP, 80), "rr")),
            "-A --sctp-service 10.96.0.1:80 -s rr",
        ),
        (Operation::SetServer(server(first, "wrr")), "-E -t 10.96.0.1:80 -s wrr"),
    ];
    for (operation, arguments) in commands {
        assert_eq!(encoded(&operation), sent(arguments), "{arguments}");
    }
}

/// The attributes within those of a type, by their types.
fn within(payload: &[u8], kind: u16) -> Vec<(u16, Vec<u8>)> {
    let nest = message(payload).attributes().nested(kind).unwrap();
    nest.into_iter().map(|(kind, payload)| (kind, payload.to_vec())).collect()
}

/// `ipvsadm` sends whole structures even where the kernel reads only what identifies something, and tells of tunnels.
#[test]
fn what_identifies_is_written_as_ipvsadm_writes_it_and_nothing_needless() {
    let (first, v6) = (at("10.96.0.1", TCP, 80), at("fd00::1", UDP, 53));
    let one = target("10.0.0.1", 8080);
    let tunnel = [13, 14, 15];
    let settings = [6, 7, 8, 9];
    let of_destination = [dest::FWD_METHOD, dest::WEIGHT, dest::U_THRESH, dest::L_THRESH, 13, 14, 15];
    let commands = [
        (
            Operation::AddDestination(first, one, 1),
            &tunnel[..],
            "-a -t 10.96.0.1:80 -r 10.0.0.1:8080 -m -w 1",
        ),
        (
            Operation::AddDestination(v6, target("fd00::2", 5353), 1),
            &tunnel,
            "-a -u [fd00::1]:53 -r [fd00::2]:5353 -m -w 1",
        ),
        (Operation::SetDestination(first, one, 3), &tunnel, "-e -t 10.96.0.1:80 -r 10.0.0.1:8080 -m -w 3"),
        (Operation::RemoveDestination(first, one), &of_destination, "-d -t 10.96.0.1:80 -r 10.0.0.1:8080"),
        (Operation::RemoveServer(first), &[], "-D -t 10.96.0.1:80"),
    ];
    for (operation, left_out, arguments) in commands {
        let (ours, theirs) = (encoded(&operation), sent(arguments));
        assert_eq!(ours[..4], theirs[..4], "command and version of {arguments}");
        let mut expected = within(&theirs, attribute::SERVICE);
        expected.retain(|(kind, _)| !settings.contains(kind));
        assert_eq!(within(&ours, attribute::SERVICE), expected, "{arguments}");
        if !matches!(operation, Operation::RemoveServer(_)) {
            let mut expected = within(&theirs, attribute::DEST);
            expected.retain(|(kind, _)| !left_out.contains(kind));
            assert_eq!(within(&ours, attribute::DEST), expected, "{arguments}");
        }
    }
}

#[test]
fn questions_and_settings_are_written_as_ipvsadm_writes_them() {
    let payload = |writer: Writer| writer.bytes()[HEADER..].to_vec();
    let requests = Requests(0);
    let listing = captured("-L -n").remove(0).sent;
    assert_eq!(payload(requests.list(command::GET_SERVICE, 1, |_| {})), listing[0]);
    // In the order that it was told of them.
    let frontends = [
        at("10.96.0.1", TCP, 80),
        at("10.96.0.2", TCP, 443),
        at("10.96.0.1", SCTP, 80),
        at("fd00::1", UDP, 53),
        mark(false),
        mark(true),
    ];
    assert_eq!(listing.len(), 1 + frontends.len());
    for (frontend, sent) in frontends.into_iter().zip(&listing[1..]) {
        let ours = requests.list(command::GET_DEST, 1, |w| write::identified(w, frontend));
        assert_eq!(payload(ours), *sent, "{frontend}");
    }
    let timeouts = Timeouts { tcp: 1000, tcp_fin: 0, udp: 20 };
    let ours = requests.ask(command::SET_CONFIG, 1, |w| write::timeouts(w, timeouts));
    assert_eq!(payload(ours), sent("--set 1000 0 20"));
    assert_eq!(payload(requests.ask(command::GET_CONFIG, 1, |_| {})), sent("-L --timeout"));
    assert_eq!(payload(requests.ask(command::FLUSH, 1, |_| {})), sent("-C"));
}

#[test]
fn what_the_kernel_lists_is_read() {
    let received = captured("-L -n").remove(0).received;
    let mut servers: Vec<_> = received.iter().filter_map(|payload| read::server(&message(payload))).collect();
    servers.sort_by_key(|server| server.frontend);
    let expected = [
        server(at("10.96.0.1", TCP, 80), "wrr"),
        server(at("10.96.0.1", SCTP, 80), "rr"),
        hashing(),
        persistent(server(at("fd00::1", UDP, 53), "wrr"), 10_800, 128),
        server(mark(false), "rr"),
        server(mark(true), "lc"),
    ];
    assert_eq!(servers, expected);
    let answers = received.iter().filter(|payload| payload[0] == command::NEW_DEST);
    let destinations: Vec<_> =
        answers.filter_map(|payload| read::destination(&message(payload), mark(false))).collect();
    let nothing = Destination {
        target: target("10.0.0.2", 80),
        weight: 2,
        active: 0,
        inactive: 0,
        persistent: 0,
        masquerades: false,
        upper_threshold: 20,
        lower_threshold: 10,
        connections: 0,
        incoming: Traffic::default(),
        outgoing: Traffic::default(),
    };
    let ours = Destination { masquerades: true, upper_threshold: 0, lower_threshold: 0, ..nothing };
    let expected = [
        nothing,
        Destination { target: target("10.0.0.1", 8080), weight: 3, ..ours },
        Destination { target: target("fd00::2", 5353), weight: 1, ..ours },
    ];
    assert_eq!(destinations, expected);
}

#[test]
fn timeouts_are_read() {
    let received = captured("-L --timeout").remove(0).received;
    let read = read::timeouts(&message(&received[0]));
    assert_eq!(read, Timeouts { tcp: 1000, tcp_fin: 120, udp: 20 });
    assert_eq!(read::timeouts(&message(&[0; 4])), Timeouts::default());
}

/// Writes the attributes of the only destination once more, but for one of a type, and reads them.
fn without(kind: u16, of: Frontend) -> Option<Destination> {
    let received = captured("-L -n").remove(1).received;
    let attributes = message(&received[1]).attributes().nested(attribute::DEST).unwrap();
    let mut writer = Writer::default();
    writer.message_with(0, 0, 0, [0; 4], |w| {
        w.nest(attribute::DEST, |w| {
            let kept = attributes.into_iter().filter(|(found, _)| *found != kind);
            kept.for_each(|(kind, payload)| w.attribute(kind, payload));
        });
    });
    read::destination(&message(&writer.bytes()[HEADER..]), of)
}

#[test]
fn counters_are_read_whole_or_cut_to_32_bits() {
    let expected = Destination {
        target: target("127.0.0.1", 8080),
        weight: 1,
        active: 0,
        inactive: 1,
        persistent: 1,
        masquerades: true,
        upper_threshold: 0,
        lower_threshold: 0,
        connections: 1,
        incoming: Traffic { packets: 6, bytes: 0x143 },
        outgoing: Traffic { packets: 5, bytes: 0x112 },
    };
    for kind in [dest::STATS, dest::STATS64] {
        assert_eq!(without(kind, mark(false)), Some(expected));
    }
}

#[test]
fn a_destination_that_does_not_say_its_family_has_its_servers() {
    let v4 = without(dest::ADDR_FAMILY, mark(false)).unwrap().target;
    let v6 = without(dest::ADDR_FAMILY, mark(true)).unwrap().target;
    assert_eq!((v4, v6), (target("127.0.0.1", 8080), target("7f00:1::", 8080)));
}

#[test]
fn what_identifies_must_be_there() {
    for kind in [dest::ADDR, dest::PORT, dest::WEIGHT, dest::FWD_METHOD] {
        assert_eq!(without(kind, mark(false)), None, "attribute {kind}");
    }
}

#[test]
fn every_cut_of_an_answer_is_read_or_not() {
    for exchange in captured("-L -n") {
        for payload in exchange.received {
            (0..payload.len()).for_each(|length| decode(&payload[..length]));
        }
    }
}

#[test]
fn things_are_shown_in_one_line() {
    let shown = [
        (at("10.96.0.1", TCP, 80).to_string(), "10.96.0.1:80/tcp"),
        (at("fd00::1", UDP, 53).to_string(), "[fd00::1]:53/udp"),
        (at("10.96.0.1", SCTP, 0).to_string(), "10.96.0.1:0/sctp"),
        (at("10.96.0.1", 47, 1).to_string(), "10.96.0.1:1/47"),
        (mark(false).to_string(), "IPv4 mark 7"),
        (mark(true).to_string(), "IPv6 mark 7"),
        (target("10.0.0.1", 8080).to_string(), "10.0.0.1:8080"),
        (target("fd00::2", 8080).to_string(), "[fd00::2]:8080"),
        (Operation::AddServer(hashing()).to_string(), "add virtual server 10.96.0.2:443/tcp mh flag-2"),
        (
            Operation::RemoveDestination(mark(true), target("fd00::2", 80)).to_string(),
            "remove destination [fd00::2]:80 from virtual server IPv6 mark 7",
        ),
    ];
    for (shown, expected) in shown {
        assert_eq!(shown, expected);
    }
}

fn any_frontend() -> impl Strategy<Value = Frontend> {
    let address = (any::<IpAddr>(), any::<u8>(), any::<u16>())
        .prop_map(|(address, protocol, port)| Frontend::Address { address, protocol, port });
    let mark = (any::<bool>(), any::<u32>()).prop_map(|(ipv6, mark)| Frontend::Mark { ipv6, mark });
    prop_oneof![address, mark]
}

fn any_server() -> impl Strategy<Value = Server> {
    let persistence = proptest::option::of((any::<u32>(), 0_u8..=128));
    (any_frontend(), "[a-z0-9_]{1,15}", any::<u32>(), persistence).prop_map(
        |(frontend, name, flags, persistence)| {
            let most = if frontend.is_ipv6() { 128 } else { 32 };
            let persistence =
                persistence.map(|(seconds, prefix)| Persistence { seconds, prefix: prefix.min(most) });
            Server { frontend, scheduler: Scheduler::told(name.as_bytes(), flags), persistence }
        },
    )
}

proptest! {
    #[test]
    fn servers_are_read_as_they_were_written(server in any_server()) {
        for operation in [Operation::AddServer(server), Operation::SetServer(server)] {
            prop_assert_eq!(read_back(operation, read::server), Some(server));
        }
        let removed = read_back(Operation::RemoveServer(server.frontend), |message| {
            Some(message.attributes().nested(attribute::SERVICE)?.0.len())
        });
        prop_assert_eq!(removed, Some(if matches!(server.frontend, Frontend::Mark { .. }) { 16 } else { 44 }));
    }

    #[test]
    fn destinations_are_read_as_they_were_written(
        of in any_frontend(), address in any::<IpAddr>(), port in any::<u16>(), weight in any::<u32>(),
    ) {
        let target = Target { address, port };
        for operation in [Operation::AddDestination(of, target, weight), Operation::SetDestination(of, target, weight)] {
            let found = read_back(operation, |message| read::destination(message, of)).unwrap();
            prop_assert_eq!((found.target, found.weight, found.masquerades), (target, weight, true));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        decode(&bytes);
    }

    #[test]
    fn damaged_answers_never_panic(which in 0_usize..9, at in 0_usize..360, to in any::<u8>(), end in 0_usize..400) {
        let received: Vec<_> = captured("-L -n").into_iter().flat_map(|exchange| exchange.received).collect();
        let mut payload = received[which % received.len()].clone();
        if let Some(byte) = payload.get_mut(at) {
            *byte = to;
        }
        payload.truncate(end);
        decode(&payload);
        let _ = Attributes(&payload).into_iter().count();
    }
}
