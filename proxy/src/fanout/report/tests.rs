use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;
use crate::cli::Close;
use crate::fanout::load::{Amount, Load};
use crate::fanout::socket::Path;
use crate::fanout::spread::Verdict;
use crate::fanout::tally::{Tally, Who};
use crate::fanout::target::{Known, KnownEndpoint, Target};

fn pod(number: usize) -> SocketAddr {
    let [.., high, low] = number.to_be_bytes();
    ([10, 180, high, low], 8080).into()
}

fn load(kept_alive: bool, sources: &[IpAddr]) -> Load {
    Load {
        path: Path { target: ([10, 96, 0, 10], 80).into(), udp: false, close: Close::Reset },
        amount: Amount::Count(1000),
        concurrency: NonZeroUsize::MIN.get(),
        sources: sources.to_vec(),
        timeout: Duration::from_secs(1),
        kept_alive,
    }
}

fn known(used: &[usize]) -> Known {
    let endpoint = |number: &usize| KnownEndpoint { address: pod(*number), node: None, used: true };
    Known {
        service: "default/web:http".to_owned(),
        mode: "nftables".to_owned(),
        affinity_seconds: None,
        endpoints: used.iter().map(endpoint).collect(),
    }
}

/// A tally of connections that were answered by pods of these numbers, from these clients, a millisecond each.
fn tally_of(answers: impl IntoIterator<Item = (IpAddr, usize)>) -> Tally {
    let mut tally = Tally::new().unwrap();
    for (index, (client, by)) in answers.into_iter().enumerate() {
        let number = tally.number(Who { address: Some(pod(by)), name: None });
        tally.begun += 1;
        tally.connected(Duration::from_micros(50 + 3 * index as u64));
        tally.answered(Duration::from_millis(index as u64), client, number);
    }
    tally.took = Duration::from_secs(1);
    tally
}

fn of(tally: &Tally, load: &Load, known: Option<Known>) -> Report {
    let target = Target { address: load.path.target, known };
    report(tally, &Circumstances { target: &target, load, told_by: Told::Conntrack })
}

const ME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

/// Of so many connections to each pod, from 1, in turns as far as they go.
pub(in crate::fanout) fn report_of(counts: &[u64]) -> Report {
    let most = counts.iter().copied().max().unwrap_or_default();
    let round = |round: u64| {
        counts.iter().enumerate().filter(move |(_, count)| **count > round).map(|(index, _)| (ME, index + 1))
    };
    let pods: Vec<usize> = (1..=counts.len()).collect();
    of(&tally_of((0..most).flat_map(round)), &load(false, &[]), Some(known(&pods)))
}

#[test]
fn shares_are_beside_what_is_expected() {
    let report = report_of(&[30, 40, 50]);
    let shares: Vec<_> = report.endpoints.iter().map(|one| (one.connections, one.expected_share)).collect();
    assert_eq!(shares, [(30, Some(1.0 / 3.0)), (40, Some(1.0 / 3.0)), (50, Some(1.0 / 3.0))]);
    let over = report.most_over.unwrap();
    assert_eq!((over.endpoint.as_str(), (over.difference * 100.0).round()), ("10.180.0.3:8080", 25.0));
    assert_eq!(report.most_under.unwrap().endpoint, "10.180.0.1:8080");
    assert_eq!(report.spread.chi_square, Some(5.0));
    assert_eq!(report.over_time.answered.iter().flatten().sum::<u64>(), 120);
}

#[test]
fn an_endpoint_that_never_answers_is_there() {
    let report = of(&tally_of([(ME, 1), (ME, 2)].repeat(50)), &load(false, &[]), Some(known(&[1, 2, 3])));
    let counts: Vec<_> = report.endpoints.iter().map(|one| (one.address, one.connections)).collect();
    assert_eq!(counts, [(Some(pod(1)), 50), (Some(pod(2)), 50), (Some(pod(3)), 0)]);
    assert_eq!(report.spread.verdict, Verdict::Uneven);
}

#[test]
fn clients_that_stay_are_noticed() {
    let clients: Vec<IpAddr> = (1..=4).map(|last| [10, 0, 0, last].into()).collect();
    let answers = (0..40).map(|index| (clients[index % 4], 1 + index % 4 % 2));
    let report = of(&tally_of(answers), &load(false, &clients), None);
    assert_eq!(report.spread.verdict, Verdict::Affinity);
    assert!(report.spread.sentence.contains("each of 4 clients"), "{}", report.spread.sentence);
    assert!(report.clients.iter().all(|client| client.connections == 10 && client.endpoints == 1));
    // One client alone is only known to stay if there are others to go to.
    let alone = tally_of([(ME, 1)].repeat(40));
    assert_eq!(of(&alone, &load(false, &[]), Some(known(&[1, 2]))).spread.verdict, Verdict::Affinity);
    let unknown = of(&alone, &load(false, &[]), None).spread;
    assert_eq!(unknown.verdict, Verdict::OneEndpoint);
    assert!(unknown.sentence.contains("--from"), "{}", unknown.sentence);
}

#[test]
fn endpoints_that_come_and_go_are_noticed() {
    let answers = (0..600).map(|index| (ME, if index < 300 { 1 + index % 2 } else { 2 + index % 2 }));
    let report = of(&tally_of(answers), &load(false, &[]), None);
    assert_eq!(report.spread.verdict, Verdict::Changed);
    let times: Vec<_> =
        report.endpoints.iter().map(|one| (one.came_after_seconds, one.went_after_seconds)).collect();
    assert_eq!(times, [(None, Some(0.298)), (None, None), (Some(0.301), None)]);
    assert!(report.warnings[0].contains("10.180.0.3:8080 came at 0.3 s"), "{:?}", report.warnings);
}

#[test]
fn kept_connections_make_balance_meaningless() {
    let mut tally = tally_of([(ME, 1), (ME, 2)]);
    for _ in 0..100 {
        tally.asked += 1;
        tally.replied(Duration::from_micros(20), Some(0));
    }
    let report = of(&tally, &load(true, &[]), Some(known(&[1, 2, 3])));
    assert_eq!(report.spread.verdict, Verdict::KeptAlive);
    assert_eq!(report.endpoints[0].request_share, Some(1.0));
    let warning = &report.warnings[0];
    assert!(warning.contains("HTTP/2") && warning.contains("100 requests went over 2"), "{warning}");
}

#[test]
fn what_is_no_endpoint_is_told() {
    let report = of(&tally_of([(ME, 9); 3]), &load(false, &[]), Some(known(&[1])));
    assert!(report.warnings.iter().any(|one| one.contains("10.180.0.9:8080 answered, and is no endpoint")));
}

#[test]
fn programs_can_read_it() {
    let report = report_of(&[3, 4]);
    let text = serde_json::to_string(&report).unwrap();
    // Fractions may differ in their last digit.
    let read = serde_json::from_str::<Report>(&text).unwrap();
    let counts = |report: &Report| -> Vec<_> {
        report.endpoints.iter().map(|one| (one.address, one.connections, one.failures)).collect()
    };
    assert_eq!(counts(&read), counts(&report));
    assert_eq!((read.spread.verdict, read.over_time.answered), (Verdict::TooFew, vec![vec![3, 4]]));
    assert!(text.contains("\"answeredPerSecond\":7"), "{text}");
}
