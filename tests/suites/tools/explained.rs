//! `pointsman explain`.

use anyhow::{Context, Result, ensure};
use testbed::scenarios;

use crate::subject::{Tools, ensure_line};

scenarios![Tools:
    what_follows_from_each_field_is_told,
    what_is_not_served_is_told_with_the_reason,
];

fn what_follows_from_each_field_is_told(t: &mut Tools) -> Result<()> {
    t.serve()?;
    let explanation = t.json(&["explain", "test/web"])?;
    let facts = explanation["facts"].as_array().context("there are no facts")?;
    for (field, value, words) in [
        ("spec.externalTrafficPolicy", "Local", "on this node only (1 endpoint)"),
        ("spec.internalTrafficPolicy", "Cluster", "on any node: 2 endpoints now"),
        ("spec.ports[http].nodePort", "30080/TCP", "primary address"),
        ("endpoints of port http (80/TCP)", "2 of 4", "1 not ready"),
    ] {
        let fact = facts.iter().find(|fact| fact["field"] == field);
        let fact = fact.with_context(|| format!("no {field} in {explanation}"))?;
        let meaning = fact["meaning"].as_str().unwrap_or_default();
        ensure!(fact["value"] == value && meaning.contains(words), "{fact}");
    }
    let text = t.said(&["explain", "web", "-n", "test"])?;
    ensure!(text.starts_with("Service test/web on node node, in nftables mode\n"), "{text}");
    ensure_line(&text, &["spec.type", "LoadBalancer", "reached"])
}

fn what_is_not_served_is_told_with_the_reason(t: &mut Tools) -> Result<()> {
    t.serve()?;
    ensure_line(&t.said(&["explain", "db"])?, &["not", "served:", "headless"])
}
