//! Policies that make no sense allow nothing, and keep nothing else from being enforced.

use anyhow::Result;
use serde_json::json;
use testbed::scenarios;

use crate::scene::Scene;

scenarios! { Scene:
    a_policy_that_makes_no_sense_isolates_and_allows_nothing,
    a_broken_manifest_leaves_policies_in_force,
}

fn a_policy_that_makes_no_sense_isolates_and_allows_nothing(s: &mut Scene) -> Result<()> {
    let rules = [
        ("cidr", json!([{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/99" } }] }])),
        (
            "except[0]",
            json!([{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"] } }] }]),
        ),
        ("endPort", json!([{ "ports": [{ "port": 8080, "endPort": 80 }] }])),
        (
            "operator",
            json!([{ "from": [{ "podSelector":
            { "matchExpressions": [{ "key": "app", "operator": "Like", "values": ["w*"] }] } }] }]),
        ),
        ("protocol", json!([{ "ports": [{ "protocol": "ICMP" }] }])),
    ];
    s.policy(
        "other",
        "sound",
        json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": {} }] }] }),
    );
    for (field, rules) in rules {
        // A rule beside it that would let everybody in does not count, either.
        let mut all = rules;
        all.as_array_mut().into_iter().for_each(|all| all.push(json!({})));
        s.policy(
            "default",
            "broken",
            json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": all }),
        );
        s.sync()?;
        let proxy = s.s.proxy()?;
        proxy.await_line_with(&format!("{field}:"))?;
        s.refuses("client", "pod-1")?;
        s.refuses("pod-2", "pod-1")?;
        s.reaches("client", "pod-2")?;
        s.reaches("remote-2", "pod-3")?;
        s.refuses("client", "pod-3")?;
        s.holds(field)?;
    }
    s.policy("default", "broken", json!({ "podSelector": {}, "ingress": [{}] }));
    s.sync()?;
    s.holds("mended")
}

fn a_broken_manifest_leaves_policies_in_force(s: &mut Scene) -> Result<()> {
    s.policy("default", "deny", json!({ "podSelector": {} }));
    s.sync()?;
    s.s.proxy()?.write("cluster.json", "{ \"apiVersion\": ")?;
    s.s.proxy()?.await_line_with("cluster.json:1")?;
    s.refuses("client", "pod-1")?;
    s.holds("the last that could be read")
}
