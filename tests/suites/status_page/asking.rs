//! Who may ask for the page, and what is answered.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{Subject, http, scenarios};

use crate::page::{AT, ask, await_told, connect, serve, told};

scenarios![Subject:
    it_is_off_by_default,
    it_is_one_document_that_may_load_nothing,
    only_who_means_this_machine_may_look_and_nobody_change,
    services_are_told_with_what_is_the_matter,
    connections_are_told_by_endpoint,
];

/// Of a mode that carries connections itself.
pub(crate) const CARRIED: &[testbed::suite::Scenario<Subject>] = &[testbed::suite::Scenario {
    name: "connections_are_told_by_endpoint",
    run: connections_are_told_by_endpoint,
}];

fn it_is_off_by_default(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    for path in ["/status-page", "/status-page/overview", "/status-page/services"] {
        let (status, body) = http::get(&s.bed.node, AT, path)?;
        ensure!(status == 404, "{path}: {status} {body}");
    }
    Ok(())
}

fn it_is_one_document_that_may_load_nothing(s: &mut Subject) -> Result<()> {
    serve(s)?;
    let page = ask(s, "GET", "/status-page", "localhost:10249")?;
    ensure!(page.status == 200 && page.body.starts_with("<!DOCTYPE html>"), "{} {}", page.status, page.head);
    for field in [
        "content-type: text/html; charset=utf-8",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "frame-ancestors 'none'",
    ] {
        ensure!(page.head.contains(field), "no {field} in {}", page.head);
    }
    ensure!(!page.head.contains("access-control") && !page.head.contains("unsafe"), "{}", page.head);
    let data = ask(s, "GET", "/status-page/overview", "localhost")?;
    for field in ["application/json", "nosniff", "no-store", "cross-origin-resource-policy: same-origin"] {
        ensure!(data.head.contains(field), "no {field} in {}", data.head);
    }
    Ok(())
}

fn only_who_means_this_machine_may_look_and_nobody_change(s: &mut Subject) -> Result<()> {
    serve(s)?;
    for path in ["/status-page", "/status-page/overview", "/status-page/services"] {
        for (method, host, status) in [
            ("GET", "localhost", 200),
            ("GET", "127.0.0.1:10249", 200),
            ("GET", "[::1]:10249", 200),
            ("GET", "rebound.example:10249", 421),
            ("GET", "localhost.example", 421),
            ("POST", "localhost", 405),
            ("PUT", "localhost", 405),
            ("DELETE", "localhost", 405),
            ("OPTIONS", "localhost", 405),
        ] {
            let answer = ask(s, method, path, host)?;
            ensure!(answer.status == status, "{method} {path} of {host}: {}", answer.status);
        }
    }
    for path in ["/status-page/nothing", "/status-pages", "/status-page/service?namespace=test&name=nobody"] {
        await_told(s, "services", |list| list["taken"].is_string())?;
        ensure!(ask(s, "GET", path, "localhost")?.status == 404, "{path}");
    }
    Ok(())
}

fn services_are_told_with_what_is_the_matter(s: &mut Subject) -> Result<()> {
    serve(s)?;
    let list = await_told(s, "services", |list| list["taken"].is_string())?;
    let rows = list["services"].as_array().context("no services")?;
    let told_of: Vec<Value> =
        rows.iter().map(|row| json!([row["name"], row["standing"], row["reasons"]])).collect();
    let not_served = &rows.last().context("no rows")?["reasons"];
    let expected = [
        json!(["down", "broken", ["its only endpoint is not used: not ready"]]),
        json!(["lonely", "broken", ["no endpoints"]]),
        json!(["shaky", "impaired", ["1 of 2 endpoints: not ready"]]),
        json!(["web", "served", []]),
        json!(["ghost", "notProxied", not_served]),
    ];
    ensure!(told_of == expected, "{told_of:#?}");
    ensure!(not_served.to_string().contains("headless"), "{not_served}");
    ensure!(
        rows[3]["ports"] == json!([{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]),
        "{list}"
    );

    let first = told(s, "services?limit=2&by=name&reverse=true")?;
    ensure!(first["selected"] == 5 && first["services"][0]["name"] == "web", "{first}");
    ensure!(first["services"].as_array().is_some_and(|rows| rows.len() == 2), "{first}");
    let filtered = told(s, "services?filter=ready+SHAKY&problems=true")?;
    ensure!(filtered["selected"] == 1 && filtered["services"][0]["name"] == "shaky", "{filtered}");

    let overview = told(s, "overview")?;
    ensure!(overview["status"]["mode"] == "nftables" && overview["health"]["healthy"] == true, "{overview}");
    let totals =
        json!({"services": 5, "broken": 2, "impaired": 1, "endpoints": 5, "used": 3, "connections": 0});
    ensure!(overview["totals"] == totals, "{overview:#}");
    let sync = overview["syncs"].as_array().and_then(|syncs| syncs.last()).context("no syncs")?;
    ensure!(sync["full"] == true && sync["operations"].as_u64() > Some(0), "{overview:#}");
    ensure!(sync["milliseconds"].as_f64() > Some(0.0) && sync["error"].is_null(), "{overview:#}");
    Ok(())
}

fn connections_are_told_by_endpoint(s: &mut Subject) -> Result<()> {
    const HELD: usize = 24;
    serve(s)?;
    let held = connect(s, HELD)?;
    // Nothing has been gathered when it is asked for first.
    await_told(s, "services", |list| list["taken"].is_string())?;
    let all = |detail: &Value| detail["ports"][0]["connections"] == HELD;
    let detail = await_told(s, "service?namespace=test&name=web", all)?;
    let endpoints = detail["ports"][0]["endpoints"].as_array().context("no endpoints")?;
    let counts: Vec<u64> = endpoints.iter().filter_map(|endpoint| endpoint["connections"].as_u64()).collect();
    ensure!(counts.len() == 2 && counts.iter().sum::<u64>() == 24, "{detail:#}");
    ensure!(counts.iter().all(|count| *count > 0), "{detail:#}");
    ensure!(detail["ports"][0]["elsewhere"] == 0 && endpoints[0]["local"] == true, "{detail:#}");
    let first = told(s, "services?by=connections")?;
    ensure!(first["services"][0]["name"] == "web" && first["services"][0]["connections"] == HELD, "{first}");
    drop(held);
    Ok(())
}
