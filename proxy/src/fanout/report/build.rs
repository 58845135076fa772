//! A [`Tally`] and what is known make a [`Report`].

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    Bar, Client, Connections, Endpoint, Extreme, Failure, OverTime, Report, Requests, Times, remarks,
};
use crate::fanout::load::Load;
use crate::fanout::spread::{Spread, Verdict};
use crate::fanout::tally::{Share, Tally};
use crate::fanout::target::{Known, Target};
use crate::fanout::teller::Told;

/// Bars for each power of ten in a distribution.
const BARS: i32 = 12;
/// What chance does in fewer runs than one in so many, it did not.
const SURELY: f64 = 1e-6;

/// All that a report is about, but for what was counted.
#[derive(Clone, Debug)]
pub(in crate::fanout) struct Circumstances<'a> {
    pub(in crate::fanout) target: &'a Target,
    pub(in crate::fanout) load: &'a Load,
    pub(in crate::fanout) told_by: Told,
}

/// The report.
pub(in crate::fanout) fn report(tally: &Tally, of: &Circumstances<'_>) -> Report {
    let known = of.target.known.as_ref();
    let (endpoints, order) = endpoints(tally, known, of.load.kept_alive);
    let spread = remarks::spread(tally, &endpoints, ways(tally, known), of);
    let seconds = tally.took.as_secs_f64();
    let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let (most_over, most_under) = extremes(&endpoints, &spread);
    let answering = (!tally.answering.is_empty()).then(|| times(&tally.answering));
    Report {
        target: of.target.address,
        service: known.map(|known| known.service.clone()),
        mode: known.map(|known| known.mode.clone()).filter(|mode| !mode.is_empty()),
        protocol: of.load.path.protocol_name().to_owned(),
        told_by: of.told_by,
        concurrency: of.load.concurrency,
        seconds,
        connections: Connections {
            begun: tally.begun,
            answered: tally.answered,
            failed: tally.failed,
            answered_per_second: per_second(tally.answered),
        },
        requests: of.load.kept_alive.then(|| Requests {
            sent: tally.asked,
            answered: tally.replied,
            lost: tally.lost,
            answered_per_second: per_second(tally.replied),
        }),
        warnings: remarks::warnings(tally, &endpoints, &spread, of),
        spread,
        most_over,
        most_under,
        connect_time: times(&tally.connecting),
        answer_time: answering,
        clients: clients(tally, of.load.sources.len()),
        failures: failures(tally),
        over_time: over_time(tally, &order),
        endpoints,
    }
}

/// How many endpoints a connection may go to.
fn ways(tally: &Tally, known: Option<&Known>) -> usize {
    let used = known.map_or(0, |known| known.endpoints.iter().filter(|endpoint| endpoint.used).count());
    let seen = tally.shares.iter().filter(|share| share.connections > 0).count();
    used.max(seen)
}

/// In the order of their addresses and names, those that never answered among them; and which number of the tally each
/// has, if it has one.
fn endpoints(tally: &Tally, known: Option<&Known>, kept_alive: bool) -> (Vec<Endpoint>, Vec<Option<usize>>) {
    let ways = ways(tally, known);
    let mut all: Vec<(Endpoint, Option<usize>)> = Vec::new();
    for (number, share) in tally.shares.iter().enumerate() {
        all.push((endpoint(share, tally, known, ways, kept_alive), Some(number)));
    }
    // By name alone nobody can be told not to be there.
    let nameless = tally.shares.iter().all(|share| share.who.address.is_some());
    for other in known.iter().flat_map(|known| &known.endpoints).filter(|other| other.used && nameless) {
        if !all.iter().any(|(endpoint, _)| endpoint.address == Some(other.address)) {
            let (address, node) = (Some(other.address), other.node.clone());
            let share = Share::default();
            let silent = endpoint(&share, tally, None, ways, kept_alive);
            all.push((Endpoint { address, node, expected_share: expected(ways), ..silent }, None));
        }
    }
    all.sort_by(|(a, _), (b, _)| (a.address, &a.name).cmp(&(b.address, &b.name)));
    all.into_iter().unzip()
}

fn expected(ways: usize) -> Option<f64> {
    (ways > 0).then(|| 1.0 / ways as f64)
}

fn endpoint(share: &Share, tally: &Tally, known: Option<&Known>, ways: usize, kept_alive: bool) -> Endpoint {
    let part = |count: u64, of: u64| if of > 0 { count as f64 / of as f64 } else { 0.0 };
    let found = known.and_then(|known| {
        known.endpoints.iter().find(|endpoint| Some(endpoint.address) == share.who.address)
    });
    let never = (1.0 - 1.0 / ways.max(1) as f64).max(0.0);
    // Whether chance would leave it out so often in a row.
    let surely = |without: u64| {
        share.connections > 0 && ways > 1 && never.powf(without as f64) < SURELY && !kept_alive
    };
    let after = |time: Duration| time.as_secs_f64();
    Endpoint {
        address: share.who.address,
        name: share.who.name.clone(),
        node: found.and_then(|found| found.node.clone()),
        connections: share.connections,
        share: part(share.connections, tally.answered),
        expected_share: if share.connections > 0 || found.is_some_and(|found| found.used) {
            expected(ways)
        } else {
            None
        },
        requests: kept_alive.then_some(share.requests),
        request_share: kept_alive.then(|| part(share.requests, tally.replied)),
        failures: share.failures,
        came_after_seconds: surely(share.first.0.saturating_sub(1)).then(|| after(share.first.1)),
        went_after_seconds: surely(tally.answered.saturating_sub(share.last.0)).then(|| after(share.last.1)),
    }
}

fn extremes(endpoints: &[Endpoint], spread: &Spread) -> (Option<Extreme>, Option<Extreme>) {
    if matches!(spread.verdict, Verdict::Nothing | Verdict::OneEndpoint) {
        return (None, None);
    }
    let differences = || {
        endpoints.iter().filter_map(|endpoint| {
            Some(Extreme { endpoint: endpoint.label(), difference: endpoint.difference()? })
        })
    };
    let over = differences().max_by(|a, b| a.difference.total_cmp(&b.difference));
    let under = differences().min_by(|a, b| a.difference.total_cmp(&b.difference));
    (over.filter(|over| over.difference > 0.0), under.filter(|under| under.difference < 0.0))
}

fn times(histogram: &Histogram<u64>) -> Times {
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let at = |quantile: f64| micros(histogram.value_at_quantile(quantile));
    if histogram.is_empty() {
        return Times::default();
    }
    Times {
        count: histogram.len(),
        mean: histogram.mean() / 1e3,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        longest: micros(histogram.max()),
        distribution: distribution(histogram),
    }
}

/// Bars that are as wide on a logarithmic scale.
fn distribution(histogram: &Histogram<u64>) -> Vec<Bar> {
    let mut bars: Vec<(i32, u64)> = Vec::new();
    for value in histogram.iter_recorded() {
        // It is between 0 and 150.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "no more than 20 decades of nanoseconds fit in 64 bits"
        )]
        let bar = ((value.value_iterated_to().max(1) as f64).log10() * f64::from(BARS)).floor() as i32;
        match bars.last_mut() {
            Some((last, count)) if *last == bar => *count += value.count_at_value(),
            _ => bars.push((bar, value.count_at_value())),
        }
    }
    let edge = |bar: i32| 10_f64.powf(f64::from(bar) / f64::from(BARS)) / 1e3;
    bars.into_iter().map(|(bar, count)| Bar { from: edge(bar), to: edge(bar + 1), count }).collect()
}

fn clients(tally: &Tally, sources: usize) -> Vec<Client> {
    if sources < 2 {
        return Vec::new();
    }
    let client = |(address, by): (&std::net::IpAddr, &std::collections::BTreeMap<usize, u64>)| Client {
        address: *address,
        connections: by.values().sum(),
        endpoints: by.len(),
    };
    tally.clients.iter().map(client).collect()
}

fn failures(tally: &Tally) -> Vec<Failure> {
    let failure = |(cause, count): (&super::Cause, &u64)| Failure {
        cause: *cause,
        count: *count,
        advice: cause.advice().to_owned(),
    };
    let mut failures: Vec<_> = tally.failures.iter().map(failure).collect();
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
    failures
}

fn over_time(tally: &Tally, order: &[Option<usize>]) -> OverTime {
    let slices = tally.timeline.slices();
    let of = |counts: &[u64]| {
        let count = |number: &Option<usize>| number.and_then(|number| counts.get(number)).copied();
        order.iter().map(|number| count(number).unwrap_or_default()).collect()
    };
    OverTime {
        slice_seconds: tally.timeline.width().as_secs_f64(),
        answered: slices.iter().map(|slice| of(&slice.answered)).collect(),
        failed: slices.iter().map(|slice| slice.failed).collect(),
    }
}
