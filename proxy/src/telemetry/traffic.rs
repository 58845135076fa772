//! What the forwarder of userspace mode did, read when somebody asks.

use std::fmt;
use std::sync::{Arc, OnceLock};

use modes::userspace::forward::{Figures, Forwarder};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The forwarder, once there is one. Other modes have none.
#[derive(Clone, Default)]
pub(crate) struct Traffic(Arc<OnceLock<Arc<Forwarder>>>);

impl Traffic {
    /// This forwarder is asked from now on.
    pub(crate) fn is_carried_by(&self, forwarder: Arc<Forwarder>) {
        // There is one at most in a process.
        let _ = self.0.set(forwarder);
    }

    /// The forwarder, if there is one.
    pub(crate) fn forwarder(&self) -> Option<&Forwarder> {
        self.0.get().map(Arc::as_ref)
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traffic").field(&self.forwarder().map(Forwarder::figures)).finish()
    }
}

impl Collector for Traffic {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(forwarder) = self.forwarder() else { return Ok(()) };
        let status = forwarder.status();
        let endpoints = status.iter().flat_map(|target| &target.endpoints);
        let set_aside = endpoints.filter(|endpoint| endpoint.set_aside.is_some()).count();
        Page(encoder).write(&forwarder.figures(), status.len(), set_aside)
    }
}

/// A value with the labels that tell it from others of its name.
type Labelled<T> = (&'static [(&'static str, &'static str)], T);

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn write(&mut self, figures: &Figures, targets: usize, set_aside: usize) -> fmt::Result {
        self.gauge("targets", "Places where is listened", targets)?;
        self.gauge("endpoints_set_aside", "Endpoints avoided because they failed", set_aside)?;
        self.counter("connections", "TCP connections accepted", figures.connections)?;
        self.gauge("connections_active", "TCP connections under way", figures.active_connections)?;
        let shed: [Labelled<u64>; 2] = [
            (&[("reason", "bound")], figures.shed_by_bound),
            (&[("reason", "descriptors")], figures.shed_by_descriptors),
        ];
        self.counters("connections_shed", "TCP connections closed at once for lack of room", &shed)?;
        self.counter("connections_unserved", "TCP connections that no endpoint took", figures.unserved)?;
        let failures = "Attempts to connect to an endpoint that failed";
        self.counter("connect_failures", failures, figures.connect_failures)?;
        self.counter("sessions", "UDP sessions begun", figures.sessions)?;
        self.gauge("sessions_active", "UDP sessions under way", figures.active_sessions)?;
        self.counter("sessions_evicted", "UDP sessions ended early for room", figures.sessions_evicted)?;
        let dropped = "Datagrams that were not passed on";
        self.counter("datagrams_dropped", dropped, figures.datagrams_dropped)?;
        let bytes: [Labelled<u64>; 2] =
            [(&[("direction", "in")], figures.bytes_in), (&[("direction", "out")], figures.bytes_out)];
        self.counters("bytes", "Bytes from clients (in) and to them (out)", &bytes)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let (name, counter) = (format!("userspace_{name}"), ConstCounter::new(value));
        counter.encode(self.0.encode_descriptor(&name, help, None, counter.metric_type())?)
    }

    fn counters(&mut self, name: &str, help: &str, values: &[Labelled<u64>]) -> fmt::Result {
        let name = format!("userspace_{name}");
        let kind = ConstCounter::new(0u64).metric_type();
        let mut encoder = self.0.encode_descriptor(&name, help, None, kind)?;
        for (labels, value) in values {
            ConstCounter::new(*value).encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl TryInto<i64>) -> fmt::Result {
        let gauge = ConstGauge::new(value.try_into().unwrap_or(i64::MAX));
        let name = format!("userspace_{name}");
        gauge.encode(self.0.encode_descriptor(&name, help, None, gauge.metric_type())?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    /// Writes figures of the test's own.
    #[derive(Debug)]
    struct Fixed(Figures);

    impl Collector for Fixed {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            Page(encoder).write(&self.0, 3, 2)
        }
    }

    fn text(collector: impl Collector) -> String {
        let mut registry = Registry::with_prefix("pointsman");
        registry.register_collector(Box::new(collector));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    /// What there is on the page of a process that has carried nothing yet.
    pub(crate) fn empty_page() -> String {
        text(Fixed(Figures::default()))
    }

    #[test]
    fn every_figure_stands_on_the_page() {
        let figures = Figures {
            connections: 10,
            active_connections: 11,
            shed_by_bound: 12,
            shed_by_descriptors: 13,
            connect_failures: 14,
            unserved: 15,
            sessions: 16,
            active_sessions: 17,
            sessions_evicted: 18,
            datagrams_dropped: 19,
            bytes_in: 20,
            bytes_out: 21,
        };
        let text = text(Fixed(figures));
        let values: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.strip_prefix("pointsman_userspace_").unwrap())
            .collect();
        let expected = [
            "targets 3",
            "endpoints_set_aside 2",
            "connections_total 10",
            "connections_active 11",
            r#"connections_shed_total{reason="bound"} 12"#,
            r#"connections_shed_total{reason="descriptors"} 13"#,
            "connections_unserved_total 15",
            "connect_failures_total 14",
            "sessions_total 16",
            "sessions_active 17",
            "sessions_evicted_total 18",
            "datagrams_dropped_total 19",
            r#"bytes_total{direction="in"} 20"#,
            r#"bytes_total{direction="out"} 21"#,
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn without_a_forwarder_there_is_nothing_to_tell() {
        assert_eq!(text(Traffic::default()), "# EOF\n");
    }
}
