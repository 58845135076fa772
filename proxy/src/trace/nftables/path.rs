//! The way of a packet by the hooks: where which base chains see it, and what routing does in between.

use kernel::nft::{ChainType, HookPoint};

use super::super::model::{End, Origin, Packet, Surroundings, Walk, Way};
use super::chain::{ChainEnd, Evaluation};
use super::table::Rules;
use super::traveller::Traveller;

/// By what packets come in that this node sends to itself.
const LOOPBACK: &str = "lo";

/// A base chain, and the table that it is in.
struct BaseChain {
    table: usize,
    name: String,
    kind: ChainType,
    priority: i32,
    drops: bool,
}

/// Packets, each with where its way has ended.
type Ended = Vec<(Traveller, End)>;

/// All ways that a packet may take by the rules of these tables.
pub(super) fn walk<T: Rules>(
    packet: &Packet,
    around: &dyn Surroundings,
    tables: Vec<T>,
) -> anyhow::Result<Walk> {
    let mut evaluation = Evaluation::new(tables, around);
    let start = vec![Traveller::new(packet)];
    let mut ended = Ended::new();
    let arrived = match packet.origin {
        Origin::Interface { .. } => evaluation.come_in(start, &mut ended)?,
        Origin::Node => evaluation.go_out(start, &mut ended)?,
    };
    ended.extend(arrived.into_iter().map(|traveller| {
        let end = traveller.arrival();
        (traveller, end)
    }));
    Ok(Walk { ways: ways(ended), unknown: evaluation.unknown })
}

impl<T: Rules> Evaluation<'_, T> {
    /// The hooks that a packet passes which came in by an interface.
    fn come_in(&mut self, start: Vec<Traveller>, ended: &mut Ended) -> anyhow::Result<Vec<Traveller>> {
        let routed = self.hook(HookPoint::Prerouting, start, ended)?;
        let (here, onward) = self.by_destination(routed);
        let mut arrived = self.hook(HookPoint::Input, here, ended)?;
        let forwarded = self.hook(HookPoint::Forward, onward, ended)?;
        arrived.extend(self.hook(HookPoint::Postrouting, forwarded, ended)?);
        Ok(arrived)
    }

    /// The hooks that a packet passes which this node sends. What it sends to itself comes in again.
    fn go_out(&mut self, start: Vec<Traveller>, ended: &mut Ended) -> anyhow::Result<Vec<Traveller>> {
        let sent = self.hook(HookPoint::Output, start, ended)?;
        let left = self.hook(HookPoint::Postrouting, sent, ended)?;
        let (mut here, mut arrived) = self.by_destination(left);
        here.iter_mut().for_each(|traveller| LOOPBACK.clone_into(&mut traveller.interface));
        let routed = self.hook(HookPoint::Prerouting, here, ended)?;
        arrived.extend(self.hook(HookPoint::Input, routed, ended)?);
        Ok(arrived)
    }

    /// Those that are for this node, and the others.
    fn by_destination(&self, travellers: Vec<Traveller>) -> (Vec<Traveller>, Vec<Traveller>) {
        travellers.into_iter().partition(|traveller| self.around.is_local(traveller.destination.ip()))
    }

    /// Leads packets through the base chains of a hook; gives back those that pass.
    fn hook(
        &mut self,
        point: HookPoint,
        travellers: Vec<Traveller>,
        ended: &mut Ended,
    ) -> anyhow::Result<Vec<Traveller>> {
        let mut passing = travellers;
        for chain in self.base_chains(point) {
            let mut onward = Vec::with_capacity(passing.len());
            for traveller in passing {
                if chain.kind == ChainType::Nat && is_settled(&traveller, point) {
                    onward.push(traveller);
                    continue;
                }
                for (traveller, end) in self.base_chain(chain.table, (&chain.name, chain.drops), traveller)? {
                    match end {
                        ChainEnd::Through | ChainEnd::Accepted => onward.push(traveller),
                        ChainEnd::Dropped => ended.push((traveller, End::Dropped)),
                        ChainEnd::Rejected => ended.push((traveller, End::Rejected)),
                    }
                }
            }
            passing = onward;
        }
        passing.iter_mut().for_each(|traveller| settle(traveller, point));
        Ok(passing)
    }

    /// The base chains of a hook, in the order in which they are called.
    fn base_chains(&self, point: HookPoint) -> Vec<BaseChain> {
        let of_table = |(table, rules): (usize, &T)| -> Vec<BaseChain> {
            let listed = rules.chains().iter();
            let hooked = listed.filter_map(|listed| Some((listed, listed.chain.hook?)));
            hooked
                .filter(|(_, hook)| hook.point == point)
                .map(|(listed, hook)| BaseChain {
                    table,
                    name: listed.chain.name.clone(),
                    kind: hook.kind,
                    priority: hook.priority,
                    drops: listed.drops,
                })
                .collect()
        };
        let mut chains: Vec<_> = self.tables.iter().enumerate().flat_map(of_table).collect();
        chains.sort_by_key(|chain| chain.priority);
        chains
    }
}

/// Whether chains that translate addresses no longer see a packet: its connection has been through them.
fn is_settled(traveller: &Traveller, point: HookPoint) -> bool {
    match point {
        HookPoint::Prerouting | HookPoint::Output => traveller.destination_settled,
        HookPoint::Input | HookPoint::Postrouting => traveller.source_settled,
        HookPoint::Forward => false,
    }
}

fn settle(traveller: &mut Traveller, point: HookPoint) {
    match point {
        HookPoint::Prerouting | HookPoint::Output => traveller.destination_settled = true,
        HookPoint::Input | HookPoint::Postrouting => traveller.source_settled = true,
        HookPoint::Forward => {}
    }
}

/// One way for each end, with the steps of the most probable one that leads there.
fn ways(ended: Ended) -> Vec<Way> {
    let mut ways: Vec<(f64, Way)> = Vec::new();
    for (Traveller { share, steps, .. }, end) in ended {
        match ways.iter_mut().find(|(_, way)| way.end == end) {
            Some((shown, way)) => {
                way.share += share;
                if share > *shown {
                    (*shown, way.steps) = (share, steps);
                }
            }
            None => ways.push((share, Way { share, steps, end })),
        }
    }
    ways.into_iter().map(|(_, way)| way).collect()
}
