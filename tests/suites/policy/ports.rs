//! Which ports may be connected to.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::scenarios;

use crate::allowing::each;
use crate::scene::Scene;

scenarios! { Scene:
    numbers_ranges_and_protocols,
    names_are_the_pods_own,
}

fn at(ports: &Value) -> Value {
    json!({ "podSelector": {}, "ingress": [{ "ports": ports }] })
}

fn numbers_ranges_and_protocols(s: &mut Scene) -> Result<()> {
    each(
        s,
        &[
            ("a port, of TCP", at(&json!([{ "port": 8080 }]))),
            ("a port of UDP", at(&json!([{ "port": 9090, "protocol": "UDP" }]))),
            ("all of TCP", at(&json!([{ "protocol": "TCP" }]))),
            ("all of UDP", at(&json!([{ "protocol": "UDP" }]))),
            ("only SCTP", at(&json!([{ "protocol": "SCTP" }]))),
            ("a range that begins with one", at(&json!([{ "port": 8080, "endPort": 9089 }]))),
            ("a range that ends with one", at(&json!([{ "port": 8081, "endPort": 9090 }]))),
            ("a range of both", at(&json!([{ "port": 1, "endPort": 65535, "protocol": "UDP" }]))),
            ("a range of neither", at(&json!([{ "port": 8081, "endPort": 9089 }]))),
            ("several", at(&json!([{ "port": 8080 }, { "port": 9090, "protocol": "UDP" }]))),
            ("a name", at(&json!([{ "port": "admin" }]))),
            ("a name of another protocol", at(&json!([{ "port": "admin", "protocol": "UDP" }]))),
            ("a name that nobody has", at(&json!([{ "port": "nothing" }]))),
        ],
    )
}

/// Two pods call different ports the same.
fn names_are_the_pods_own(s: &mut Scene) -> Result<()> {
    s.object("pod-2")["spec"]["containers"][0]["ports"] = json!([{ "name": "http", "containerPort": 9090 }]);
    s.policy("default", "policy", at(&json!([{ "port": "http" }])));
    s.sync()?;
    s.holds("each its own")?;
    s.object("pod-2")["spec"]["containers"][0]["ports"] = json!([{ "name": "http", "containerPort": 8080 }]);
    s.sync()?;
    s.holds("the same")
}
