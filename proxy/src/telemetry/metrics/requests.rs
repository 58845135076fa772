//! Requests to the API server, under the names that client-go counts its by.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// client-go's buckets.
#[derive(Clone, Debug)]
struct Latencies;

impl MetricConstructor<Histogram> for Latencies {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0])
    }
}

/// Counts them. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    requests: Family<Labels, Counter>,
    latencies: Family<Labels, Histogram, Latencies>,
}

impl Requests {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self { requests: Family::default(), latencies: Family::new_with_constructor(Latencies) };
        let help = "Number of HTTP requests, partitioned by status code, method, and host";
        registry.register("rest_client_requests", help, this.requests.clone());
        let help = "Request latency in seconds, until the answer begins. Broken down by verb, and host";
        registry.register("rest_client_request_duration_seconds", help, this.latencies.clone());
        this
    }

    /// A request was answered with this status, or not at all.
    pub(crate) fn answered(&self, method: &str, host: &str, status: Option<u16>, latency: Duration) {
        let code = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
        let (method, host) = (method.to_owned(), host.to_owned());
        let labels = vec![("code", code), ("host", host.clone()), ("method", method.clone())];
        self.requests.get_or_create(&labels).inc();
        let labels = vec![("host", host), ("verb", method)];
        self.latencies.get_or_create(&labels).observe(latency.as_secs_f64());
    }
}
