//! BIRD 2's configuration and answers.
//!
//! BIRD is told this node's ranges and hears of the others'. What it learns it writes into a routing table that nothing looks
//! at but us; from there it becomes routes of ours, once it is known to be fit. A BIRD that ends leaves its table as it is,
//! and its peers keep what they learned from it for a while: whoever is quick to start it again loses no route.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use endpoint_cache::Family;
use ipnet::IpNet;

use super::desired::Bgp;

/// The routing table that BIRD writes what it learns into.
pub const TABLE: u32 = 11_200;

/// `RTPROT_BIRD`
pub(super) const PROTOCOL: u8 = 12;

/// The most routes that are taken from one peer.
const MOST_ROUTES: u32 = 16_384;

/// What all sessions have in common. A peer that is gone is noticed within the hold time; one that restarts is waited for.
const SESSION: &str = "\
  direct;
  hold time 15;
  keepalive time 5;
  connect delay time 1;
  connect retry time 5;
  error wait time 1, 10;
  graceful restart on;
";

/// BIRD's configuration.
#[must_use]
pub fn configuration(bgp: &Bgp) -> String {
    let mut text = format!(
        "# Written by pointsman; changes are lost.\n\
         log stderr {{ info, warning, error, fatal, bug, remote, auth }};\n\
         router id {};\n\
         graceful restart wait 30;\n\
         protocol device {{ scan time 10; }}\n",
        bgp.router_id
    );
    for (family, own) in &bgp.own {
        let Some(local) = bgp.local.get(family) else { continue };
        write_family(&mut text, *family, own, &bgp.cluster_cidrs);
        for (address, number) in neighbours(bgp, *family) {
            write_session(&mut text, *family, *local, address, number, bgp.settings.autonomous_system);
        }
    }
    text
}

/// Everybody to speak to in a family, with the number of the autonomous system. What two nodes say they have is one.
fn neighbours(bgp: &Bgp, family: Family) -> BTreeMap<IpAddr, u32> {
    let own = bgp.settings.autonomous_system;
    let nodes = bgp.mesh.values().filter_map(|addresses| Some((*addresses.get(&family)?, own)));
    let peers = bgp.settings.peers.iter().map(|peer| (peer.address, peer.autonomous_system));
    let peers = peers.filter(|(address, _)| Family::of(*address) == family);
    nodes.chain(peers).filter(|(address, _)| !bgp.local.values().any(|local| local == address)).collect()
}

fn write_family(text: &mut String, family: Family, own: &IpNet, clusters: &[IpNet]) {
    let number = if family == Family::V4 { 4 } else { 6 };
    let here = clusters.iter().filter(|cluster| Family::of(cluster.addr()) == family);
    let here: Vec<_> = here.map(|cluster| format!("{cluster}+")).collect();
    let within = if here.is_empty() {
        "net.len > 0".to_owned()
    } else {
        format!("net.len > 0 && net ~ [ {} ]", here.join(", "))
    };
    // To write into a `String` does not fail.
    let _ = write!(
        text,
        "\n\
         protocol static pods{number} {{\n\
         \x20 ipv{number};\n\
         \x20 route {own} unreachable;\n\
         }}\n\
         filter learned{number} {{\n\
         \x20 if net ~ [ {own}+ ] then reject;\n\
         \x20 if {within} then accept;\n\
         \x20 reject;\n\
         }}\n\
         filter told{number} {{\n\
         \x20 if proto = \"pods{number}\" then accept;\n\
         \x20 reject;\n\
         }}\n\
         protocol kernel kernel{number} {{\n\
         \x20 kernel table {TABLE};\n\
         \x20 persist;\n\
         \x20 scan time 10;\n\
         \x20 ipv{number} {{\n\
         \x20   import none;\n\
         \x20   export where source = RTS_BGP;\n\
         \x20 }};\n\
         }}\n"
    );
}

fn write_session(text: &mut String, family: Family, local: IpAddr, to: IpAddr, theirs: u32, ours: u32) {
    let (name, number) = (session_name(to), if family == Family::V4 { 4 } else { 6 });
    // By way of a router of another system, nodes see their own in what they hear of each other.
    let allowed = if theirs == ours { "" } else { "  allow local as 1;\n" };
    let _ = write!(
        text,
        "protocol bgp {name} {{\n\
         \x20 local {local} as {ours};\n\
         \x20 neighbor {to} as {theirs};\n\
         {SESSION}{allowed}\
         \x20 ipv{number} {{\n\
         \x20   import limit {MOST_ROUTES} action block;\n\
         \x20   import filter learned{number};\n\
         \x20   export filter told{number};\n\
         \x20   next hop self;\n\
         \x20 }};\n\
         }}\n"
    );
}

/// What BIRD calls the session with an address.
#[must_use]
pub fn session_name(address: IpAddr) -> String {
    format!("bgp_{}", address.to_string().replace(['.', ':'], "_"))
}

/// The arguments that BIRD is started with, in the foreground.
#[must_use]
pub fn arguments(configuration: &Path, control: &Path) -> Vec<String> {
    vec![
        "-f".to_owned(),
        // Takes up what was there before.
        "-R".to_owned(),
        "-c".to_owned(),
        configuration.display().to_string(),
        "-s".to_owned(),
        control.display().to_string(),
    ]
}

/// A part of BIRD, as `show protocols` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name, see [`session_name`].
    pub name: String,
    /// `BGP`, `Kernel`, `Static`, `Device`.
    pub kind: String,
    /// `up`, `start`, `down`.
    pub state: String,
    /// Of a session: `Established`, or what it waits for, and why.
    pub info: String,
}

impl Shown {
    /// Whether it is a session that is established.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.kind == "BGP" && self.state == "up" && self.info.starts_with("Established")
    }
}

/// What `birdc show protocols` answers, or the control socket itself. Lines that are none are left out.
#[must_use]
pub fn protocols(answer: &str) -> Vec<Shown> {
    let rows = answer.lines().map(without_code).filter_map(|line| {
        let mut words = line.split_whitespace();
        let [name, kind, table, state, since] = std::array::from_fn(|_| words.next());
        // Whatever has no table has dashes there.
        let (name, kind, state) = (name?, kind?, state?);
        let is_row = table.is_some() && since?.starts_with(|c: char| c.is_ascii_digit());
        let info = words.collect::<Vec<_>>().join(" ");
        is_row.then(|| Shown { name: name.to_owned(), kind: kind.to_owned(), state: state.to_owned(), info })
    });
    rows.collect()
}

/// A route that BIRD knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where to.
    pub destination: IpNet,
    /// The part of BIRD that it is from.
    pub from: String,
    /// Whether it is the one that is used.
    pub best: bool,
    /// By way of whom.
    pub gateway: Option<IpAddr>,
}

/// What `birdc show route` answers, or the control socket itself. Lines that are none are left out.
#[must_use]
pub fn routes(answer: &str) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    let mut destination = None;
    for line in answer.lines().map(without_code) {
        let words: Vec<_> = line.split_whitespace().collect();
        if let (Some(via), Some(last)) = (words.strip_prefix(&["via"]), known.last_mut()) {
            last.gateway = last.gateway.or(via.first().and_then(|address| address.parse().ok()));
            continue;
        }
        let Some(from) = words.iter().position(|word| word.starts_with('[')) else { continue };
        // Further routes to a destination do not repeat it.
        let named = words.first().and_then(|word| word.parse::<IpNet>().ok());
        destination = named.or(destination.filter(|_| line.starts_with(char::is_whitespace)));
        let Some(destination) = destination else { continue };
        let best = words[from..].contains(&"*");
        let from = words[from].trim_start_matches('[').trim_end_matches(']').to_owned();
        known.push(Known { destination, from, best, gateway: None });
    }
    known
}

/// A line without the number that the control socket puts before it.
fn without_code(line: &str) -> &str {
    let is_code = line.len() > 4
        && line.as_bytes()[..4].iter().all(u8::is_ascii_digit)
        && matches!(line.as_bytes()[4], b'-' | b' ');
    if is_code { &line[5..] } else { line }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::process::Command;

    use proptest::prelude::*;

    use super::super::settings::{BgpPeer, BgpSettings};
    use super::*;

    fn bgp() -> Bgp {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let range = |text: &str| text.parse::<IpNet>().unwrap();
        let node = |number: u8| {
            BTreeMap::from([
                (Family::V4, address(&format!("192.0.2.{number}"))),
                (Family::V6, address(&format!("2001:db8::{number}"))),
            ])
        };
        Bgp {
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            settings: BgpSettings {
                peers: vec![BgpPeer { address: address("192.0.2.254"), autonomous_system: 65000 }],
                ..BgpSettings::default()
            },
            local: node(1),
            own: BTreeMap::from([
                (Family::V4, range("10.244.1.0/24")),
                (Family::V6, range("fd00:244:1::/64")),
            ]),
            cluster_cidrs: vec![range("10.244.0.0/16"), range("fd00:244::/32")],
            // The last two have the same addresses, which no session can be told from another by.
            mesh: BTreeMap::from([("b".into(), node(2)), ("c\n}".into(), node(3)), ("d".into(), node(3))]),
        }
    }

    #[test]
    fn every_node_and_peer_is_spoken_to() {
        let text = configuration(&bgp());
        assert_eq!(text.matches("protocol bgp").count(), 5);
        for part in [
            "router id 192.0.2.1;",
            "route 10.244.1.0/24 unreachable;",
            "route fd00:244:1::/64 unreachable;",
            "neighbor 192.0.2.2 as 64512;",
            "neighbor 2001:db8::3 as 64512;",
            "neighbor 192.0.2.254 as 65000;",
            "if net ~ [ 10.244.1.0/24+ ] then reject;",
            "net ~ [ fd00:244::/32+ ]",
            "kernel table 11200;",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert_eq!(text.matches("allow local as").count(), 1);
        assert!(!text.contains("}}"), "{text}");
    }

    #[test]
    fn bird_takes_it() {
        for bgp in [bgp(), Bgp { cluster_cidrs: vec![], mesh: BTreeMap::new(), ..bgp() }] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), configuration(&bgp)).unwrap();
            let checked = Command::new("bird").arg("-p").arg("-c").arg(file.path()).output();
            let checked = checked.expect("apt-get install bird2");
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }

    #[test]
    fn protocols_are_read() {
        let answer = "BIRD 2.0.12 ready.\n\
            Name       Proto      Table      State  Since         Info\n\
            device1    Device     ---        up     12:00:00.000  \n\
            kernel4    Kernel     master4    up     2026-11-22    \n\
            bgp_192_0_2_2 BGP        ---        up     12:00:01.123  Established   \n\
            bgp_192_0_2_3 BGP        ---        start  12:00:01.123  Active        Socket: Connection refused\n";
        let found = protocols(answer);
        assert_eq!(found.iter().map(Shown::is_established).collect::<Vec<_>>(), [false, false, true, false]);
        assert_eq!(found[2].name, session_name("192.0.2.2".parse().unwrap()));
        assert_eq!(found[3].info, "Active Socket: Connection refused");
        let raw = "0001 BIRD 2.0.12 ready.\n2002-Name Proto Table State Since Info\n\
            1002-bgp_1 BGP --- up 12:00:01.123 Established\n0000 \n";
        assert_eq!(protocols(raw).iter().map(Shown::is_established).collect::<Vec<_>>(), [true]);
    }

    #[test]
    fn routes_are_read() {
        let answer = "BIRD 2.0.12 ready.\n\
            Table master4:\n\
            10.244.2.0/24        unicast [bgp_192_0_2_2 12:00:01.123] * (100) [i]\n\
            \tvia 192.0.2.2 on eth0\n\
            \x20                    unicast [bgp_192_0_2_254 12:00:02.123] (100) [AS64512i]\n\
            \tvia 192.0.2.254 on eth0\n\
            10.244.1.0/24        unreachable [pods4 12:00:00.000] * (200)\n\
            \n\
            Table master6:\n\
            fd00:244:2::/64      unicast [bgp_2001_db8__2 12:00:01.123] * (100) [i]\n\
            \tvia 2001:db8::2 on eth0\n";
        let found = routes(answer);
        let known = |destination: &str, from: &str, best, gateway: Option<&str>| Known {
            destination: destination.parse().unwrap(),
            from: from.into(),
            best,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        };
        assert_eq!(
            found,
            [
                known("10.244.2.0/24", "bgp_192_0_2_2", true, Some("192.0.2.2")),
                known("10.244.2.0/24", "bgp_192_0_2_254", false, Some("192.0.2.254")),
                known("10.244.1.0/24", "pods4", true, None),
                known("fd00:244:2::/64", "bgp_2001_db8__2", true, Some("2001:db8::2")),
            ]
        );
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(answer in "[\\PC\n\t ]{0,200}", lines in "([0-9a-f./: \\[*vi]{0,30}\n){0,6}") {
            for answer in [answer, lines] {
                let _ = (protocols(&answer), routes(&answer));
            }
        }
    }
}
