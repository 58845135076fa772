//! Connection tracking against the kernel: marks are taken off, and nothing else.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use kernel::conntrack::Conntrack;
use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("bits_are_cleared_in_both_families_and_others_left", cleared),
        Test::new("a_single_bit_is_cleared_where_it_is_set", single),
        Test::new("more_flows_than_one_message_takes_are_all_cleared", many),
    ])
}

fn conntrack(arguments: &str) -> Result<String> {
    let output =
        Command::new("conntrack").args(arguments.split(' ')).output().context("apt-get install conntrack")?;
    ensure!(output.status.success(), "conntrack {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn insert((from, to): (&str, &str), port: u16, mark: u32) -> Result<()> {
    let flow = format!("-p udp -s {from} -d {to} --sport {port} --dport 53");
    conntrack(&format!("-I {flow} --timeout 300 --mark {mark}")).map(drop)
}

const V4: (&str, &str) = ("10.0.0.1", "10.0.0.2");
const V6: (&str, &str) = ("fd00::1", "fd00::2");

/// The marks of flows, by their source ports, of both families one after the other.
fn marks() -> Result<Vec<(u16, u32)>> {
    let mut all = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let listed = conntrack(&format!("-L -f {family}"))?;
        let mut of_family = listed.lines().map(mark).collect::<Result<Vec<_>>>()?;
        of_family.sort_unstable();
        all.extend(of_family);
    }
    Ok(all)
}

fn mark(line: &str) -> Result<(u16, u32)> {
    let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
    Ok((value("sport=").context("no port")?.parse()?, value("mark=").context("no mark")?.parse()?))
}

fn fill() -> Result<()> {
    insert(V4, 1, 0x1)?;
    insert(V4, 2, 0x16)?;
    insert(V4, 3, 0x8)?;
    insert(V4, 4, 0)?;
    insert(V6, 5, 0x12)?;
    conntrack(
        "-I -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 7 --timeout 300 --mark 6",
    )?;
    Ok(())
}

/// Of the one flow that has no ports.
fn icmp_mark() -> Result<u32> {
    let listed = conntrack("-L -p icmp")?;
    let mark = listed.split_whitespace().find_map(|word| word.strip_prefix("mark="));
    Ok(mark.context("no ICMP flow")?.parse()?)
}

fn cleared() -> Result<()> {
    fill()?;
    let mut table = Conntrack::open()?;
    ensure!(table.clear_marks(0x6)? == 3, "not as many flows as have any of the bits");
    ensure!(icmp_mark()? == 0, "a flow without ports keeps its mark");
    conntrack("-D -p icmp")?;
    let found = marks()?;
    ensure!(found == [(1, 1), (2, 0x10), (3, 8), (4, 0), (5, 0x10)], "{found:?}");
    ensure!(table.clear_marks(0x6)? == 0, "cleared twice");
    Ok(())
}

fn single() -> Result<()> {
    fill()?;
    conntrack("-D -p icmp")?;
    let mut table = Conntrack::open()?;
    ensure!(table.clear_marks(0x10)? == 2, "not as many flows as have the bit");
    let found = marks()?;
    ensure!(found == [(1, 1), (2, 6), (3, 8), (4, 0), (5, 2)], "{found:?}");
    ensure!(table.clear_marks(0)? == 0, "no bit, and yet some are cleared");
    Ok(())
}

fn many() -> Result<()> {
    const COUNT: u16 = 300;
    for port in 1..=COUNT {
        insert(V4, port, 0x3)?;
    }
    ensure!(Conntrack::open()?.clear_marks(0x1)? == usize::from(COUNT), "not all are cleared");
    let found = marks()?;
    ensure!(found.len() == usize::from(COUNT) && found.iter().all(|(_, mark)| *mark == 2), "{found:?}");
    Ok(())
}
