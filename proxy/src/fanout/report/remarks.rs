//! What to think of it, in sentences.

use super::Endpoint;
use super::build::Circumstances;
use crate::fanout::spread::{Spread, Verdict};
use crate::fanout::tally::Tally;

/// What chance does in fewer runs than one in so many, it did not.
const SURELY: f64 = 1e-6;
/// Endpoints of a kind that are named at most.
const MOST_TOLD: usize = 8;

/// Whether connections are spread as they ought to be, over so many endpoints.
pub(super) fn spread(tally: &Tally, endpoints: &[Endpoint], ways: usize, of: &Circumstances<'_>) -> Spread {
    let mut counts: Vec<u64> = endpoints
        .iter()
        .filter(|endpoint| endpoint.expected_share.is_some())
        .map(|endpoint| endpoint.connections)
        .collect();
    // Those that are known to be there, and not by name.
    counts.resize(ways.max(counts.len()), 0);
    let spread = Spread::of(&counts);
    if of.load.kept_alive && tally.asked > 0 {
        let sentence = "of kept connections it means little: requests stay with their connections";
        return spread.meaning(Verdict::KeptAlive, sentence);
    }
    if clients_stay(tally, ways) {
        let seconds = of.target.known.as_ref().and_then(|known| known.affinity_seconds);
        let seconds = seconds.map(|seconds| format!(" (ClientIP, {seconds} s)")).unwrap_or_default();
        let clients = match tally.clients.len() {
            1 => "this client stays with its endpoint: more clients take --from".to_owned(),
            count => format!(
                "each of {count} clients stays with its endpoint, so clients are spread, not connections"
            ),
        };
        return spread.meaning(Verdict::Affinity, format!("session affinity{seconds}: {clients}"));
    }
    if endpoints.iter().any(changed) {
        let sentence = "endpoints came or went meanwhile: shares over time tell more (-o wide, --plot)";
        return spread.meaning(Verdict::Changed, sentence);
    }
    let unknown = of.target.known.is_none() && tally.clients.len() < 2;
    if spread.verdict == Verdict::OneEndpoint && unknown && tally.answered > 1 {
        let sentence = "one endpoint answered all: it is the only one, or session affinity keeps this client there \
                        (more clients take --from)";
        return spread.meaning(Verdict::OneEndpoint, sentence);
    }
    spread
}

fn changed(endpoint: &Endpoint) -> bool {
    endpoint.came_after_seconds.is_some() || endpoint.went_after_seconds.is_some()
}

/// Whether each client has one endpoint, which chance alone would not bring about.
fn clients_stay(tally: &Tally, ways: usize) -> bool {
    let again: u64 = tally.clients.values().map(|by| by.values().sum::<u64>().saturating_sub(1)).sum();
    let each_has_one = tally.clients.values().all(|by| by.len() == 1);
    each_has_one && ways > 1 && (1.0 / ways as f64).powf(again as f64) < SURELY
}

/// What a user should know.
pub(super) fn warnings(
    tally: &Tally,
    endpoints: &[Endpoint],
    spread: &Spread,
    of: &Circumstances<'_>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if of.load.kept_alive && tally.asked > 0 {
        let used = endpoints.iter().filter(|endpoint| endpoint.requests.is_some_and(|count| count > 0));
        warnings.push(format!(
            "{} requests went over {} kept connections to {}: each goes where its connection went, so the \
             balance of requests is that of long-lived connections. So it is with HTTP/2, gRPC and connection pools: \
             have clients close connections now and then, or balance requests in the client or a mesh",
            tally.asked,
            tally.answered,
            match used.count() {
                1 => "1 endpoint".to_owned(),
                count => format!("{count} endpoints"),
            },
        ));
    }
    if spread.verdict == Verdict::Changed {
        warnings.push(came_and_went(endpoints));
    }
    if tally.by_nobody > 0 {
        warnings.push(format!(
            "nothing tells who answered {} connections: they are in no share",
            tally.by_nobody
        ));
    }
    warnings.extend(of_known(tally, endpoints, of));
    if let Some(cause) = tally.given_up {
        warnings.push(format!("given up: {}", cause.advice()));
    }
    warnings
}

fn came_and_went(endpoints: &[Endpoint]) -> String {
    let of = |verb: &str, when: fn(&Endpoint) -> Option<f64>| {
        let told =
            |endpoint: &Endpoint| Some(format!("{} {verb} at {:.1} s", endpoint.label(), when(endpoint)?));
        endpoints.iter().filter_map(told).collect::<Vec<_>>()
    };
    let all = [of("came", |one| one.came_after_seconds), of("went", |one| one.went_after_seconds)].concat();
    let more = all.len().saturating_sub(MOST_TOLD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("endpoints changed: {}{more}", all.into_iter().take(MOST_TOLD).collect::<Vec<_>>().join(", "))
}

/// Where what answered and what is known differ.
fn of_known(tally: &Tally, endpoints: &[Endpoint], of: &Circumstances<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(known) = &of.target.known else { return warnings };
    let is_known = |address| known.endpoints.iter().any(|endpoint| endpoint.address == address);
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.connections > 0) {
        match endpoint.address {
            Some(address) if address == of.target.address => warnings.push(format!(
                "{address} itself answered: nothing here translates it; run this on the node, or with --by responder"
            )),
            Some(address) if !is_known(address) => {
                warnings.push(format!("{address} answered, and is no endpoint of {} now", known.service));
            }
            _ => {}
        }
    }
    warnings.extend(silent(tally, endpoints));
    let used = known.endpoints.iter().filter(|endpoint| endpoint.used).count();
    if used == 0 && tally.failed > 0 {
        warnings
            .push(format!("{} has no endpoint that is used: see `pointsman get endpoints`", known.service));
    }
    warnings
}

/// Endpoints that must have been sent connections, and answered none. The kernel forgets at once whom it led a
/// connection to that is refused, so it cannot be asked.
fn silent(tally: &Tally, endpoints: &[Endpoint]) -> Vec<String> {
    let surely = |share: f64| (1.0 - share).powf(tally.begun as f64) < SURELY;
    let is_silent = |one: &&Endpoint| one.connections == 0 && one.expected_share.is_some_and(surely);
    let told = |one: &Endpoint| {
        format!("{} answered none of {} connections: look at that pod first", one.label(), tally.begun)
    };
    match tally.failed {
        0 => Vec::new(),
        _ => endpoints.iter().filter(is_silent).take(MOST_TOLD).map(told).collect(),
    }
}
