//! Everybody connects to everybody, and a grid shows where the kernel and the oracle differ.

use std::fmt::Write;
use std::net::SocketAddr;
use std::thread;

use anyhow::{Result, bail};
use policy::{Connection, Update};
use testbed::{Outcome, Place, Protocol};

use crate::oracle::allows;
use crate::scene::{End, OUTSIDE_PORTS, Scene};
use crate::world::World;

/// What is tried between two ends: each port over each protocol, in the order in which a cell of the grid shows them.
const TRIED: [(Protocol, u16); 4] = [
    (Protocol::Tcp, OUTSIDE_PORTS[0]),
    (Protocol::Tcp, OUTSIDE_PORTS[1]),
    (Protocol::Udp, OUTSIDE_PORTS[0]),
    (Protocol::Udp, OUTSIDE_PORTS[1]),
];

/// What came of a connection, as a cell of the grid shows it.
fn letter(outcome: &Outcome) -> char {
    match outcome {
        Outcome::Answered { .. } => '+',
        Outcome::Refused => '-',
        Outcome::Unreachable => '!',
        Outcome::Silence => '.',
    }
}

/// From, to, and what came of each try.
type Row = Vec<(End, End, String)>;

impl Scene {
    /// Everybody reaches whom the policies that are in force let them reach, and is refused elsewhere.
    pub(crate) fn holds(&self, what: &str) -> Result<()> {
        let (world, node) = (self.world()?, self.family().node());
        // A node and its own pods always reach each other.
        let with_node = |connection: &Connection| connection.source == node || connection.destination == node;
        self.matches(what, |connection| with_node(connection) || allows(&world, connection))
    }

    /// Everybody reaches everybody.
    pub(crate) fn is_open(&self) -> Result<()> {
        self.matches("nothing is denied", |_| true)
    }

    /// The objects as the oracle wants them.
    fn world(&self) -> Result<World> {
        let mut world = World::new("node");
        for pod in self.pods() {
            world.apply(&Update::Pod(serde_json::from_value(pod.clone())?));
        }
        for namespace in self.namespaces() {
            world.apply(&Update::Namespace(serde_json::from_value(namespace.clone())?));
        }
        for policy in self.policies() {
            world.apply(&Update::NetworkPolicy(serde_json::from_value(policy.clone())?));
        }
        Ok(world)
    }

    fn matches(&self, what: &str, allowed: impl Fn(&Connection) -> bool + Sync) -> Result<()> {
        let ends = self.ends();
        // What does not pass this node is none of its business.
        let is_near = |end: &End| end.name.starts_with("pod-");
        let row = |from: &End| -> Result<Row> {
            let place = self.place(from);
            let mut row = Row::new();
            let others = ends.iter().filter(|to| to.name != "node" && (is_near(from) || is_near(to)));
            for to in others {
                let mut cell = String::new();
                for (protocol, port) in TRIED {
                    cell.push(letter(&attempt(place, protocol, (to.ip, port).into())?));
                }
                row.push((from.clone(), to.clone(), cell));
            }
            Ok(row)
        };
        let rows: Vec<Result<Row>> = thread::scope(|scope| {
            let tasks: Vec<_> = ends.iter().map(|from| scope.spawn(|| row(from))).collect();
            let joined = tasks.into_iter().map(thread::ScopedJoinHandle::join);
            joined.map(|row| row.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let cells: Row = rows.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let expected = |from: &End, to: &End| -> String {
            let connection = |(protocol, port)| Connection {
                source: from.ip,
                destination: to.ip,
                protocol: match protocol {
                    Protocol::Tcp => endpoint_cache::Protocol::Tcp,
                    Protocol::Udp => endpoint_cache::Protocol::Udp,
                    Protocol::Sctp => endpoint_cache::Protocol::Sctp,
                },
                port,
            };
            TRIED.map(|tried| if allowed(&connection(tried)) { '+' } else { '-' }).iter().collect()
        };
        if cells.iter().all(|(from, to, cell)| *cell == expected(from, to)) {
            return Ok(());
        }
        bail!("{what}: not as policies say\n{}", grid(&ends, &cells, expected));
    }
}

/// What comes of a connection. Whoever hears nothing asks again: the kernel sends only so many ICMP errors a second.
fn attempt(place: Place<'_>, protocol: Protocol, to: SocketAddr) -> Result<Outcome> {
    const TRIES: usize = 3;
    let mut outcome = Outcome::Silence;
    for _ in 0..TRIES {
        outcome = place.connect_briefly(protocol, to)?;
        if outcome != Outcome::Silence {
            break;
        }
    }
    Ok(outcome)
}

/// Rows connect to columns. A cell shows TCP and UDP at both ports, and what it should have been, if that is otherwise.
fn grid(ends: &[End], cells: &Row, expected: impl Fn(&End, &End) -> String) -> String {
    const WIDTH: usize = 11;
    let ports = OUTSIDE_PORTS;
    let mut grid =
        format!("tcp {} {}, udp {} {}; is/should be\n{:WIDTH$}", ports[0], ports[1], ports[0], ports[1], "");
    for to in ends {
        let _ = write!(grid, "{:WIDTH$}", to.name);
    }
    for from in ends {
        let _ = write!(grid, "\n{:WIDTH$}", from.name);
        for to in ends {
            let cell = cells.iter().find(|(f, t, _)| f.name == from.name && t.name == to.name);
            let told = cell.map(|(from, to, is)| {
                let should = expected(from, to);
                if *is == should { is.clone() } else { format!("{is}/{should}") }
            });
            let _ = write!(grid, "{:WIDTH$}", told.unwrap_or_default());
        }
    }
    grid
}
