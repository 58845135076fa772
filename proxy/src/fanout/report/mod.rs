//! What came of it, for programs and people. Pure.

mod build;
mod remarks;
#[cfg(test)]
pub(in crate::fanout) mod tests;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::failure::Cause;
use super::spread::Spread;
use super::teller::Told;

pub(super) use build::{Circumstances, report};

/// The whole. Fields may be added; readers skip those that they do not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Where connections went.
    pub(super) target: SocketAddr,
    /// The Service's port that this is, if the process that runs here knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<String>,
    /// The mode that it is served in, alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    /// `TCP` or `UDP`
    pub(super) protocol: String,
    /// What told who answered.
    pub(super) told_by: Told,
    /// Connections under way at once.
    pub(super) concurrency: usize,
    /// How long it took.
    pub(super) seconds: f64,
    pub(super) connections: Connections,
    /// Over kept connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<Requests>,
    pub(super) spread: Spread,
    /// The endpoint with the most above its share, and the one with the most below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) most_over: Option<Extreme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) most_under: Option<Extreme>,
    pub(super) connect_time: Times,
    /// Until something was said, if anybody listened: from the attempt to connect to the greeting, or from a request to
    /// its reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer_time: Option<Times>,
    pub(super) endpoints: Vec<Endpoint>,
    /// Where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) clients: Vec<Client>,
    pub(super) failures: Vec<Failure>,
    pub(super) over_time: OverTime,
    /// A sentence each.
    pub(super) warnings: Vec<String>,
}

/// Every connection is one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connections {
    pub(super) begun: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) answered_per_second: f64,
}

/// Every request is one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Requests {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) lost: u64,
    pub(super) answered_per_second: f64,
}

/// An endpoint that is far from its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Extreme {
    pub(super) endpoint: String,
    /// How far, as a fraction of what is expected: 0.1 is a tenth more.
    pub(super) difference: f64,
}

/// How long things take, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) longest: f64,
    /// How many took how long, a bar each.
    pub(super) distribution: Vec<Bar>,
}

/// Those that took from so long to so long, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bar {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) count: u64,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<SocketAddr>,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// Connections that it answered.
    pub(super) connections: u64,
    /// Of all that were answered: 0 to 1.
    pub(super) share: f64,
    /// What it ought to have; none if it ought to have nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expected_share: Option<f64>,
    /// Requests that it answered over kept connections, and their share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_share: Option<f64>,
    /// Connections on their way to it that failed, as far as that can be told.
    pub(super) failures: u64,
    /// After how many seconds it was first sent something, if it surely was not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) came_after_seconds: Option<f64>,
    /// After how many seconds it was last sent something, if it surely was not since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) went_after_seconds: Option<f64>,
}

/// A client: an address that connections came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// That were answered.
    pub(super) connections: u64,
    /// By so many.
    pub(super) endpoints: usize,
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) count: u64,
    pub(super) advice: String,
}

/// Who answered when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OverTime {
    /// How long a slice is.
    pub(super) slice_seconds: f64,
    /// Connections answered in each slice, by endpoint in their order.
    pub(super) answered: Vec<Vec<u64>>,
    /// Connections that failed in each slice.
    pub(super) failed: Vec<u64>,
}

impl Endpoint {
    /// How people know it.
    pub(super) fn label(&self) -> String {
        match (&self.name, self.address) {
            (Some(name), _) => name.clone(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "?".to_owned(),
        }
    }

    /// How far its share is from what is expected, as a fraction of that.
    pub(super) fn difference(&self) -> Option<f64> {
        self.expected_share.filter(|expected| *expected > 0.0).map(|expected| self.share / expected - 1.0)
    }
}
