//! Logged packets against the kernel: what a rule drops is heard of, and by one listener only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use kernel::link::Links;
use kernel::nflog::{Headers, Heard, Listener, LoggedPacket, headers};
use kernel::nft::expr::{Action, Expr};
use kernel::nft::{Batch, Chain, ChainType, Family, Hook, HookPoint, Nftables, Rule, Table, Verdict};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use testbed::suite::{Test, run};

const GROUP: u16 = 5;
const RANGE: u16 = 64;
const UDP: u8 = 17;

fn main() -> ExitCode {
    run(vec![
        Test::new("a_dropped_packet_is_heard_of_in_both_families", dropped),
        Test::new("of_a_packet_no_more_is_told_than_asked_for", range),
        Test::new("a_group_has_one_listener", taken),
        Test::new("what_the_kernel_had_to_drop_is_told_of", lost),
    ])
}

/// Logs and drops what comes in, and counts it.
fn drop_all(snaplen: u32) -> Result<Table> {
    let output =
        Command::new("ip").args(["link", "set", "lo", "up"]).output().context("apt-get install iproute2")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = Table { family: Family::Inet, name: "t".to_owned() };
    let mut batch = Batch::new(table.clone());
    batch.add_table("a test");
    let hook = Hook { kind: ChainType::Filter, point: HookPoint::Input, priority: 0 };
    batch.add_chain(&Chain { name: "input".to_owned(), hook: Some(hook) });
    let expressions = vec![
        Expr::Action(Action::Counter),
        Expr::Action(Action::Log { group: GROUP, prefix: "default/db".to_owned(), snaplen }),
        Expr::Action(Action::Verdict(Verdict::Drop)),
    ];
    batch.add_rule("input", &Rule { expressions, comment: Some("all".to_owned()) });
    Nftables::open()?.commit(batch)?;
    Ok(table)
}

fn next(listener: &mut Listener) -> Result<LoggedPacket> {
    loop {
        match listener.next_now()? {
            Some(Heard::Packet(packet)) => return Ok(packet),
            Some(Heard::Lost) => bail!("packets were lost"),
            None => wait(listener)?,
        }
    }
}

fn wait(listener: &Listener) -> Result<()> {
    let mut heard = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    ensure!(poll(&mut heard, PollTimeout::from(10_000_u16))? == 1, "nothing is heard within 10 s");
    Ok(())
}

/// Sends from an address to itself; tells from which port.
fn send(address: IpAddr, port: u16, bytes: &[u8]) -> Result<u16> {
    let socket = UdpSocket::bind(SocketAddr::new(address, 0))?;
    socket.send_to(bytes, SocketAddr::new(address, port))?;
    Ok(socket.local_addr()?.port())
}

fn dropped() -> Result<()> {
    let table = drop_all(RANGE.into())?;
    let mut listener = Listener::open(GROUP, RANGE)?;
    let loopback = Links::open()?.find("lo")?.context("no loopback device")?.index;
    for address in [Ipv4Addr::LOCALHOST.into(), IpAddr::from(Ipv6Addr::LOCALHOST)] {
        let source_port = send(address, 5432, b"hello")?;
        let packet = next(&mut listener)?;
        ensure!(packet.prefix == "default/db", "{packet:?}");
        ensure!(packet.hook == HookPoint::Input, "{packet:?}");
        ensure!((packet.input, packet.output) == (Some(loopback), None), "{packet:?}");
        let expected = Headers {
            protocol: UDP,
            source: address,
            destination: address,
            source_port: Some(source_port),
            destination_port: Some(5432),
        };
        ensure!(headers(&packet.bytes) == Some(expected), "{packet:?}");
    }
    ensure!(listener.next_now()?.is_none(), "more is heard than was sent");
    let counted = Nftables::open()?.counted_rules(&table)?;
    ensure!(counted.len() == 1 && (counted[0].packets, counted[0].bytes) == (2, 33 + 53), "{counted:?}");
    Ok(())
}

fn range() -> Result<()> {
    drop_all(1000)?;
    let mut listener = Listener::open(GROUP, RANGE)?;
    send(Ipv4Addr::LOCALHOST.into(), 5432, &[7; 900])?;
    let told = next(&mut listener)?.bytes.len();
    ensure!(told == usize::from(RANGE), "{told} bytes are told of");
    Ok(())
}

fn taken() -> Result<()> {
    let first = Listener::open(GROUP, RANGE)?;
    let Err(error) = Listener::open(GROUP, RANGE) else { bail!("two listen to a group") };
    let said = error.to_string();
    ensure!(said.contains("nflog group 5") && said.contains("another program"), "{said}");
    drop(first);
    Listener::open(GROUP, RANGE)?;
    Ok(())
}

fn lost() -> Result<()> {
    /// More than the listener's buffer takes, at some two hundred bytes for each.
    const ENOUGH: usize = 400_000;
    drop_all(RANGE.into())?;
    let mut listener = Listener::open(GROUP, RANGE)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    for _ in 0..ENOUGH {
        socket.send_to(b"hello", (Ipv4Addr::LOCALHOST, 5432))?;
    }
    let mut heard = 0;
    while heard < ENOUGH {
        match listener.next_now()? {
            Some(Heard::Lost) => return Ok(()),
            Some(Heard::Packet(_)) => heard += 1,
            None => wait(&listener)?,
        }
    }
    bail!("all of {heard} packets were heard of, and none was lost")
}
