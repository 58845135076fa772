//! Allowing: what opens again what a policy closes. Policies are a union.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::scenarios;

use crate::scene::Scene;

scenarios! { Scene:
    everything_may_be_allowed_again,
    policies_are_a_union,
    both_sides_must_allow,
    the_world_may_come_to_one_port,
    the_example_of_the_api,
}

/// Brings one policy after the other into force, each in the place of the one before, and tries everything.
pub(crate) fn each(s: &mut Scene, specs: &[(&str, Value)]) -> Result<()> {
    for (what, spec) in specs {
        s.policy("default", "policy", spec.clone());
        s.sync()?;
        s.holds(what)?;
    }
    Ok(())
}

fn everything_may_be_allowed_again(s: &mut Scene) -> Result<()> {
    s.policy("default", "deny", json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
    each(
        s,
        &[
            ("all ingress", json!({ "podSelector": {}, "ingress": [{}] })),
            ("all egress", json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] })),
            ("no ingress", json!({ "podSelector": {}, "ingress": [] })),
            (
                "a rule with empty lists",
                json!({ "podSelector": {}, "ingress": [{ "from": [], "ports": [] }] }),
            ),
            (
                "both",
                json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}] }),
            ),
        ],
    )
}

fn policies_are_a_union(s: &mut Scene) -> Result<()> {
    let from = |peer: Value| json!({ "podSelector": {}, "ingress": [{ "from": [peer] }] });
    s.policy("default", "db", from(json!({ "podSelector": { "matchLabels": { "app": "db" } } })));
    s.policy("default", "web", from(json!({ "podSelector": { "matchLabels": { "app": "web" } } })));
    s.policy(
        "default",
        "port",
        json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "ingress": [{ "ports": [{ "port": 9090 }] }] }),
    );
    s.sync()?;
    s.reaches("pod-1", "pod-2")?;
    s.reaches("pod-2", "pod-1")?;
    s.refuses("client", "pod-1")?;
    s.holds("three at once")?;
    s.delete_policy("default", "web");
    s.sync()?;
    s.refuses("pod-1", "pod-2")?;
    s.holds("two")
}

fn both_sides_must_allow(s: &mut Scene) -> Result<()> {
    let web = json!({ "matchLabels": { "app": "web" } });
    let db = json!({ "matchLabels": { "app": "db" } });
    s.policy(
        "default",
        "out",
        json!({ "podSelector": web, "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "podSelector": db }] }] }),
    );
    s.policy("default", "in", json!({ "podSelector": db }));
    s.sync()?;
    s.refuses("pod-1", "pod-2")?;
    s.holds("only egress allows")?;
    s.policy(
        "default",
        "in",
        json!({ "podSelector": db, "ingress": [{ "from": [{ "podSelector": web }] }] }),
    );
    s.sync()?;
    s.reaches("pod-1", "pod-2")?;
    s.holds("both allow")?;
    s.policy("default", "out", json!({ "podSelector": web, "policyTypes": ["Egress"] }));
    s.sync()?;
    s.refuses("pod-1", "pod-2")?;
    s.holds("only ingress allows")
}

fn the_world_may_come_to_one_port(s: &mut Scene) -> Result<()> {
    let spec = json!({ "podSelector": { "matchLabels": { "app": "web" } },
        "ingress": [{ "from": [], "ports": [{ "port": testbed::POD_PORT }] }] });
    s.policy("default", "web", spec);
    s.sync()?;
    s.reaches("client", "pod-1")?;
    s.holds("the world at one port")
}

/// The first example of Kubernetes' documentation, at the bed's addresses and ports.
fn the_example_of_the_api(s: &mut Scene) -> Result<()> {
    let (foreign, clients) = (s.single(s.family().foreign_client()), s.family().client_range());
    let outside = s.around_clients();
    let spec = json!({
        "podSelector": { "matchLabels": { "app": "db" } },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [
                { "ipBlock": { "cidr": outside, "except": [foreign] } },
                { "namespaceSelector": { "matchLabels": { "team": "b" } } },
                { "podSelector": { "matchLabels": { "app": "web" } } },
            ],
            "ports": [{ "protocol": "TCP", "port": testbed::POD_PORT }],
        }],
        "egress": [{
            "to": [{ "ipBlock": { "cidr": clients } }],
            "ports": [{ "protocol": "TCP", "port": testbed::OTHER_POD_PORT }],
        }],
    });
    s.policy("default", "test-network-policy", spec);
    s.sync()?;
    s.reaches("client", "pod-2")?;
    s.refuses("foreign", "pod-2")?;
    s.holds("the example")?;
    // Both selectors in one peer, instead of one in each.
    let peer = |peers: Value| json!({ "podSelector": {}, "ingress": [{ "from": peers }] });
    let (team, app) = (json!({ "matchLabels": { "team": "b" } }), json!({ "matchLabels": { "app": "web" } }));
    each(
        s,
        &[
            ("and", peer(json!([{ "namespaceSelector": team, "podSelector": app }]))),
            ("or", peer(json!([{ "namespaceSelector": team }, { "podSelector": app }]))),
        ],
    )
}
