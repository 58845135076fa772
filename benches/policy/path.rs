//! What packets cost between two pods of a node, with and without policies.
//!
//! The kernel carries each packet to the other pod's socket within the call that sends it, so one thread measures it
//! all, and a busy machine disturbs few of many short rounds.

use anyhow::Result;
use benches::figures::{Figures, median};

use crate::contender::Contender;
use crate::network::{Network, Node, Traffic};
use crate::report as row;
use crate::world;

const TRAFFIC: [(&str, Traffic); 4] = [
    (row::DATAGRAM, Traffic::Datagrams),
    (row::REQUEST, Traffic::Requests),
    (row::TRANSFER, Traffic::Transfer),
    (row::CONNECT, Traffic::Connections),
];

/// What is compared with a node that has no policies.
const COMPARED: [(&str, Node); 3] = [
    (row::NO_TRACKING, Node::Blank),
    (row::TYPICAL, Node::Policies(world::POLICIES_OF_A_POD)),
    (row::FIFTY, Node::Policies(50)),
];

pub(crate) fn measure(of: Contender, rounds: usize) -> Result<Figures> {
    let nodes = [Node::Tracking].into_iter().chain(COMPARED.map(|(_, node)| node)).enumerate();
    let networks = nodes.map(|(number, node)| Network::new(of, node, number));
    let mut networks = networks.collect::<Result<Vec<_>>>()?;
    let mut figures = Figures::default();
    for (what, traffic) in TRAFFIC {
        let mut times = vec![Vec::with_capacity(rounds); networks.len()];
        // Before the first round counts, neighbours are known and caches filled.
        for round in 0..=rounds {
            for turn in 0..networks.len() {
                let place = (round + turn) % networks.len();
                let time = networks[place].time(traffic)?;
                if round > 0 {
                    times[place].push(time);
                }
            }
        }
        let (bare, compared) = (&times[0], &times[1..]);
        figures.add(of.name(), &format!("{what}: {}", row::NOTHING), median(&mut bare.clone()));
        for ((how, _), times) in COMPARED.iter().zip(compared) {
            let ratios = times.iter().zip(bare).map(|(time, bare)| time.as_secs_f64() / bare.as_secs_f64());
            figures.add_times(of.name(), &format!("{what}: {how}"), middle(ratios.collect()));
        }
    }
    Ok(figures)
}

fn middle(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_unstable_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or_default()
}
