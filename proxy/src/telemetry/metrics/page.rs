//! The formats of the page: Prometheus' own, as kube-proxy's page is, and OpenMetrics for who takes nothing else. Pure.
//!
//! Prometheus prefers OpenMetrics where it is offered, and there whole bounds of buckets are other texts (`1.0`, not `1`)
//! than those that queries made for kube-proxy ask for.

/// Prometheus' text format.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A page of metrics.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The value of its `Content-Type` header.
    pub(crate) content_type: &'static str,
    /// What stands on it.
    pub(crate) text: String,
}

impl Page {
    /// A page for who accepts this, from what stands on it as OpenMetrics has it.
    pub(super) fn new(accept: Option<&str>, open_metrics: String) -> Self {
        match accept.is_some_and(takes_only_open_metrics) {
            true => Self { content_type: OPEN_METRICS, text: open_metrics },
            false => Self { content_type: CLASSIC, text: classic(&open_metrics) },
        }
    }
}

/// Whether an `Accept` header allows OpenMetrics, and not plain text.
fn takes_only_open_metrics(accept: &str) -> bool {
    let takes = |wanted: &str| {
        accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_wanted = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            is_wanted && quality.is_none_or(|quality| quality.parse().is_ok_and(|quality: f64| quality > 0.0))
        })
    };
    takes("application/openmetrics-text") && !["text/plain", "text/*", "*/*"].into_iter().any(takes)
}

/// The same in Prometheus' own format: a counter is described by its whole name, and so on.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            // What kind it is, which the name depends on, is in the next line.
            ["#", "HELP", name, ..] => help = line.strip_prefix(&format!("# HELP {name} ")),
            ["#", "TYPE", name, kind] => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some(help) = help.take() {
                    text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
                }
                text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            ["#", ..] => {}
            _ => {
                text.push_str(&with_go_s_bounds(line));
                text.push('\n');
            }
        }
    }
    text
}

/// Go writes whole bounds of buckets without a fraction, and queries may compare them as text.
fn with_go_s_bounds(line: &str) -> String {
    let Some((before, rest)) = line.split_once("le=\"") else { return line.to_owned() };
    let Some((bound, after)) = rest.split_once('"') else { return line.to_owned() };
    let bound = bound.strip_suffix(".0").unwrap_or(bound);
    format!("{before}le=\"{bound}\"{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_only_open_metrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, open) in [
            (prometheus, false),
            ("application/openmetrics-text", true),
            ("text/plain;q=0, Application/OpenMetrics-Text; version=1.0.0", true),
            ("text/html,application/openmetrics-text;version=1.0.0;q=0.1", true),
            ("text/plain;version=0.0.4;q=0.1,application/openmetrics-text;q=0.5", false),
            ("application/openmetrics-text,*/*;q=0.1", false),
            ("application/openmetrics-text,text/*;q=0.1", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=much", false),
            ("text/plain", false),
            ("*/*", false),
            ("", false),
        ] {
            let page = Page::new(Some(accept), "# EOF\n".to_owned());
            assert_eq!(page.content_type == OPEN_METRICS, open, "{accept}");
        }
        assert_eq!(
            Page::new(None, "# EOF\n".to_owned()),
            Page { content_type: CLASSIC, text: String::new() }
        );
    }

    #[test]
    fn each_type_is_written_in_prometheus_own_way() {
        let open_metrics = "\
# HELP failures Syncs that failed.
# TYPE failures counter
failures_total{ip_family=\"IPv4\"} 1
# HELP rules_total Rules, a gauge.
# TYPE rules_total gauge
rules_total 2
# HELP d_seconds Took so long.
# TYPE d_seconds histogram
# UNIT d_seconds seconds
d_seconds_sum 1.5
d_seconds_count 1
d_seconds_bucket{le=\"0.5\"} 0
d_seconds_bucket{a=\"b\",le=\"1.0\"} 0
d_seconds_bucket{le=\"+Inf\"} 1
# EOF
";
        let expected = "\
# HELP failures_total Syncs that failed.
# TYPE failures_total counter
failures_total{ip_family=\"IPv4\"} 1
# HELP rules_total Rules, a gauge.
# TYPE rules_total gauge
rules_total 2
# HELP d_seconds Took so long.
# TYPE d_seconds histogram
d_seconds_sum 1.5
d_seconds_count 1
d_seconds_bucket{le=\"0.5\"} 0
d_seconds_bucket{a=\"b\",le=\"1\"} 0
d_seconds_bucket{le=\"+Inf\"} 1
";
        assert_eq!(classic(open_metrics), expected);
    }
}
