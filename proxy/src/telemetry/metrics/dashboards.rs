//! The dashboard and the alerts in `deploy/` ask for metrics that there are: queries of a name that nobody tells fail in
//! silence.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use modes::{Cleaning, IptablesRules};
use serde_json::Value;

use super::*;
use crate::telemetry::traffic::tests::empty_page;
use crate::telemetry::{Enforced, Joined};

/// What may stand in an expression besides names of metrics.
const LANGUAGE: [&str; 21] = [
    "and",
    "bool",
    "by",
    "clamp_min",
    "count",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "min",
    "or",
    "rate",
    "sum",
    "time",
    "unless",
    "vector",
    "instance",
    "le",
    "kind",
    "m",
    "h",
];

/// A file of `deploy/`.
fn deployed(file: &str) -> String {
    let path = format!("{}/../deploy/{file}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of an expression, without what is quoted, in braces or brackets, or behind `by`.
fn words(expression: &str) -> BTreeSet<String> {
    let (mut text, mut closing) = (String::new(), None);
    for part in expression.split_inclusive(['"', '{', '}', '[', ']']) {
        let (before, mark) = part.split_at(part.len() - 1);
        match (closing, mark) {
            (None, "\"" | "{" | "[") => {
                text.push_str(before);
                text.push(' ');
                closing = Some(match mark {
                    "{" => "}",
                    "[" => "]",
                    _ => "\"",
                });
            }
            (None, _) => text.push_str(part),
            (Some(end), mark) if end == mark => closing = None,
            (Some(_), _) => {}
        }
    }
    let mut rest = text.split(" by (");
    let mut outside = rest.next().unwrap_or_default().to_owned();
    rest.for_each(|part| outside.push_str(part.split_once(')').map_or("", |(_, after)| after)));
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = outside.split(|c| !is_word(c)).filter(|word| word.starts_with(|c: char| !c.is_ascii_digit()));
    words.filter(|word| !LANGUAGE.contains(word)).map(str::to_owned).collect()
}

/// Every expression of a file.
fn expressions(value: &Value, to: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if matches!(name.as_str(), "expr" | "definition") => {
                        to.push(text.clone());
                    }
                    value => expressions(value, to),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, to)),
        _ => {}
    }
}

/// The names of all samples that any mode tells.
fn told() -> BTreeSet<String> {
    let mut text = Page::new(None, empty_page()).text;
    for mode in ["iptables", "ipvs", "nftables", "userspace"] {
        let policies: Arc<Policies> = Arc::default();
        policies.are_enforced(Enforced { by: mode, audit: false });
        policies.failed();
        let network: Arc<Network> = Arc::default();
        network.is_joined(Joined { backend: "vxlan", data_path: "routed" });
        let metrics = Metrics::new(Traffic::default(), &policies, &network);
        metrics.serves(mode, vec![Family::V4]);
        metrics.queued();
        metrics.in_force();
        metrics.probed(Probe::Healthz, 200);
        metrics.probed(Probe::Livez, 200);
        metrics.heard(Kind::Node);
        metrics.watch_failed(Kind::Node, "silent");
        metrics.listed(Kind::Node);
        metrics.bad_object(Kind::Node);
        metrics.requests.answered("GET", "", Some(200), Duration::ZERO);
        let (family, duration) = (Family::V4, Duration::ZERO);
        let report = Report {
            cleanings: vec![Cleaning { family, removed: 0, duration }],
            iptables_rules: vec![IptablesRules { family, table: "nat", total: 0, written: 0 }],
            ..Report::default()
        };
        metrics.synced(Extent::Full, &report, duration);
        text.push_str(&metrics.page(None).text);
    }
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

#[test]
fn whatever_is_asked_for_is_told() {
    let dashboard: Value = serde_json::from_str(&deployed("grafana/pointsman.json")).unwrap();
    let rules: Value = serde_saphyr::from_str(&deployed("prometheus/rules.yaml")).unwrap();
    let (mut asked, told) = (Vec::new(), told());
    expressions(&dashboard, &mut asked);
    expressions(&rules, &mut asked);
    assert!(asked.len() > 40, "{asked:?}");
    for expression in asked {
        let open = |marks: [char; 2]| marks.map(|mark| expression.matches(mark).count());
        for [opened, closed] in [open(['(', ')']), open(['{', '}']), open(['[', ']'])] {
            assert_eq!(opened, closed, "{expression}");
        }
        let unknown: Vec<_> = words(&expression).into_iter().filter(|word| !told.contains(word)).collect();
        assert_eq!(unknown, [""; 0], "nobody tells these: {expression}");
        let ours = ["kubeproxy_", "pointsman_", "rest_client_", "process_"];
        assert!(ours.iter().any(|prefix| expression.contains(prefix)), "{expression}");
    }
}

#[test]
fn names_are_told_from_the_words_of_the_language() {
    let expression =
        r#"histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{b="c",d=~"$e"}[5m]))) > bool y:z or time()"#;
    assert_eq!(words(expression).into_iter().collect::<Vec<_>>(), ["x_bucket", "y:z"]);
}
