//! Ports in chains of ours, on a node that has iptables only.
//!
//! Every entry is a rule of [`PORTS`], those of one address first, and one or two of [`HAIRPINS`], each with its owner as a
//! comment. Rules are written as `iptables-save` prints them, so that they are known again.

use std::collections::HashSet;
use std::fmt::Write;

use kernel::iptables::{Iptables, SavedLine, Table, choose, comment, plain};

use super::entries::Entry;
use crate::attach::Error;

/// Where destinations are translated.
const PORTS: &str = "PM-HOSTPORTS";
/// Where the sources of some are.
const HAIRPINS: &str = "PM-HAIRPINS";
/// What leads there, in table nat.
const HOOKS: [(&str, &str); 3] = [
    ("PREROUTING", "-m addrtype --dst-type LOCAL -j PM-HOSTPORTS"),
    ("OUTPUT", "-m addrtype --dst-type LOCAL -j PM-HOSTPORTS"),
    ("POSTROUTING", "-m conntrack --ctstate DNAT -j PM-HAIRPINS"),
];
/// In table mangle: 127.0.0.1 is for the node alone.
const GUARD: (&str, &str) =
    ("PREROUTING", "-d 127.0.0.0/8 ! -i lo -m comment --comment pointsman-hostport -j DROP");

/// What is there of ours in one family.
#[derive(Default)]
struct Found {
    chains: HashSet<String>,
    rules: Vec<(String, String)>,
    guard: bool,
}

impl Found {
    fn read(iptables: &Iptables) -> Result<Self, Error> {
        let mut found = Self::default();
        iptables.save(Table::Nat, |line| match line {
            SavedLine::Chain(name @ (PORTS | HAIRPINS)) => {
                found.chains.insert(name.to_owned());
            }
            SavedLine::Rule { chain, rule }
                if chain == PORTS || chain == HAIRPINS || HOOKS.contains(&(chain, rule)) =>
            {
                found.rules.push((chain.to_owned(), rule.to_owned()));
            }
            SavedLine::Chain(_) | SavedLine::Rule { .. } => {}
        })?;
        if !iptables.ipv6() {
            iptables.save(Table::Mangle, |line| {
                found.guard |= line == SavedLine::Rule { chain: GUARD.0, rule: GUARD.1 };
            })?;
        }
        Ok(found)
    }

    fn has(&self, chain: &str, rule: &str) -> bool {
        self.rules.iter().any(|(of, found)| of == chain && found == rule)
    }

    /// Whether everything is there that leads to our chains.
    fn is_hooked(&self, ipv6: bool) -> bool {
        HOOKS.iter().all(|(chain, rule)| self.has(chain, rule)) && (ipv6 || self.guard)
    }
}

/// Has ports lead to their pod: all of a family at once.
pub(super) fn open(entries: &[Entry], owner: &str) -> Result<(), Error> {
    for (iptables, entries) in by_family(entries)? {
        let found = Found::read(&iptables)?;
        for entry in &entries {
            let matching = matching(entry);
            let mut same =
                found.rules.iter().filter(|(chain, rule)| chain == PORTS && rule.starts_with(&matching));
            if let Some((_, rule)) = same.find(|(_, rule)| *rule != lead(entry, owner)) {
                return Err(taken(entry, rule));
            }
        }
        let mut script = "*nat\n".to_owned();
        for chain in [PORTS, HAIRPINS].into_iter().filter(|chain| !found.chains.contains(*chain)) {
            // Writing to a string cannot fail.
            let _ = writeln!(script, ":{chain} - [0:0]");
        }
        for (chain, rule) in HOOKS.into_iter().filter(|(chain, rule)| !found.has(chain, rule)) {
            let _ = writeln!(script, "-A {chain} {rule}");
        }
        for entry in &entries {
            // Those of one address come before those of all.
            let place = if entry.host_ip.is_some() { "-I" } else { "-A" };
            for (place, chain, rule) in [(place, PORTS, lead(entry, owner))]
                .into_iter()
                .chain(hairpins(entry, owner).into_iter().map(|rule| ("-A", HAIRPINS, rule)))
                .filter(|(_, chain, rule)| !found.has(chain, rule))
            {
                let _ = writeln!(script, "{place} {chain} {rule}");
            }
        }
        script += "COMMIT\n";
        if !iptables.ipv6() && !found.guard {
            let _ = writeln!(script, "*mangle\n-A {} {}\nCOMMIT", GUARD.0, GUARD.1);
        }
        iptables.restore(&script)?;
    }
    Ok(())
}

/// Has those lead nowhere that led to their pod, and returns them.
pub(super) fn close(entries: &[Entry], owner: &str) -> Result<Vec<Entry>, Error> {
    let mut closed = Vec::new();
    for (iptables, entries) in by_family(entries)? {
        let found = Found::read(&iptables)?;
        let mut script = String::new();
        for entry in entries {
            let lead = lead(&entry, owner);
            let rules = hairpins(&entry, owner).into_iter().map(|rule| (HAIRPINS, rule));
            let was_open = found.has(PORTS, &lead);
            for (chain, rule) in rules.chain([(PORTS, lead)]).filter(|(chain, rule)| found.has(chain, rule)) {
                let _ = writeln!(script, "-D {chain} {rule}");
            }
            closed.extend(was_open.then_some(entry));
        }
        if !script.is_empty() {
            iptables.restore(&format!("*nat\n{script}COMMIT\n"))?;
        }
    }
    Ok(closed)
}

/// What is missing, in words.
pub(super) fn missing(entries: &[Entry], owner: &str) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for (iptables, entries) in by_family(entries)? {
        let found = Found::read(&iptables)?;
        if !found.is_hooked(iptables.ipv6()) {
            missing.push(format!("the rules that lead to chain {PORTS} are not as they were made"));
        }
        for entry in entries {
            let rules = hairpins(&entry, owner).into_iter().map(|rule| (HAIRPINS, rule));
            if !rules.chain([(PORTS, lead(&entry, owner))]).all(|(chain, rule)| found.has(chain, &rule)) {
                missing.push(format!("port {entry} of the node does not lead to the pod"));
            }
        }
    }
    Ok(missing)
}

/// Removes the chains. Says whether any was there.
pub(super) fn remove_all() -> Result<bool, Error> {
    let mut any = false;
    // A node without iptables has none.
    let Ok(backend) = choose() else { return Ok(false) };
    for ipv6 in [false, true] {
        let Ok(iptables) = Iptables::find(backend, ipv6) else { continue };
        let found = Found::read(&iptables)?;
        let mut script = String::new();
        for (chain, rule) in HOOKS.into_iter().filter(|(chain, rule)| found.has(chain, rule)) {
            let _ = writeln!(script, "-D {chain} {rule}");
        }
        for chain in &found.chains {
            let _ = writeln!(script, ":{chain} - [0:0]\n-X {chain}");
        }
        let mut whole = String::new();
        if !script.is_empty() {
            whole = format!("*nat\n{script}COMMIT\n");
        }
        if found.guard {
            let _ = writeln!(whole, "*mangle\n-D {} {}\nCOMMIT", GUARD.0, GUARD.1);
        }
        if !whole.is_empty() {
            iptables.restore(&whole)?;
            any = true;
        }
    }
    Ok(any)
}

/// The programs of each family that there are entries of.
fn by_family(entries: &[Entry]) -> Result<Vec<(Iptables, Vec<Entry>)>, Error> {
    let backend = choose()?;
    let mut all = Vec::new();
    for ipv6 in [false, true] {
        let of_family: Vec<Entry> =
            entries.iter().filter(|entry| entry.pod.is_ipv6() == ipv6).cloned().collect();
        if !of_family.is_empty() {
            all.push((Iptables::find(backend, ipv6)?, of_family));
        }
    }
    Ok(all)
}

/// What the rule of an entry matches; nobody else's begins so.
fn matching(entry: &Entry) -> String {
    let protocol = entry.protocol_name();
    let to = match entry.host_ip {
        Some(address) => format!("-d {address}/{} ", if address.is_ipv4() { 32 } else { 128 }),
        // It cannot leave the node.
        None if entry.pod.is_ipv6() => "! -d ::1/128 ".to_owned(),
        None => String::new(),
    };
    format!("{to}-p {protocol} -m {protocol} --dport {} ", entry.host_port)
}

/// Leads to the pod.
fn lead(entry: &Entry, owner: &str) -> String {
    let to = std::net::SocketAddr::new(entry.pod, entry.pod_port);
    format!("{}{} -j DNAT --to-destination {to}", matching(entry), comment(owner))
}

/// Translates the sources of those whose answers would not come by the node.
fn hairpins(entry: &Entry, owner: &str) -> Vec<String> {
    let protocol = entry.protocol_name();
    let pod = format!("{}/{}", entry.pod, if entry.pod.is_ipv4() { 32 } else { 128 });
    let rule = |source| {
        format!(
            "-s {source} -d {pod} -p {protocol} -m {protocol} --dport {} -m conntrack --ctstate DNAT \
             --ctorigdstport {} {} -j MASQUERADE --random-fully",
            entry.pod_port,
            entry.host_port,
            comment(owner)
        )
    };
    entry.hairpin_sources().into_iter().map(rule).collect()
}

/// Says whose the port is, from the rule that was found.
fn taken(entry: &Entry, rule: &str) -> Error {
    let after = |word: &str| rule.split_once(word).map(|(_, rest)| rest);
    let owner = after("--comment ").map(|rest| match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or(quoted),
        None => rest.split(' ').next().unwrap_or(rest),
    });
    Error::PortTaken {
        port: entry.to_string(),
        address: after("--to-destination ").unwrap_or("an address").to_owned(),
        owner: plain(owner.unwrap_or("somebody unknown")).into_owned(),
    }
}
