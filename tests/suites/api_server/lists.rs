//! Lists, single objects, and who may ask for them.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use testbed::api_server::{ApiServer, Fault, Options};
use testbed::{Cluster, Namespace, cluster};

use super::client::{
    Client, PATIENCE, SERVICES, STREAMING, delete, names, service, start, start_with, version,
};

pub(super) fn objects_have_versions_and_identities() -> Result<()> {
    let (server, client) = start()?;
    let first = server.put(service("a", "x"))?;
    let mut given = service("b", "x");
    given["metadata"]["uid"] = json!("u-1");
    given["metadata"]["creationTimestamp"] = json!("2020-01-02T03:04:05Z");
    let second = server.put(given)?;
    ensure!(second > first, "versions do not rise");
    let list = client.list("resourceVersion=0")?;
    ensure!(
        list["kind"] == "ServiceList" && list["apiVersion"] == "v1" && version(&list)? == second,
        "{list}"
    );
    ensure!(names(&list) == ["a", "b"] && version(&list["items"][0])? == first, "{list}");
    let (a, b) = (list["items"][0]["metadata"].clone(), list["items"][1]["metadata"].clone());
    ensure!(b["uid"] == "u-1" && b["creationTimestamp"] == "2020-01-02T03:04:05Z", "{b}");
    ensure!(a["uid"].as_str().is_some_and(|uid| uid.len() == 36), "{a}");
    ensure!(
        a["creationTimestamp"].as_str().is_some_and(|time| time.len() == 20 && time.ends_with('Z')),
        "{a}"
    );

    ensure!(server.put(service("a", "x"))? == first && client.version()? == second, "the same is a change");
    let third = server.put(service("a", "y"))?;
    let a = client.get("/api/v1/namespaces/test/services/a")?.body;
    ensure!(a["kind"] == "Service" && a["spec"]["clusterIP"] == "10.0.0.1" && version(&a)? == third, "{a}");
    ensure!(a["metadata"]["uid"] == client.list("")?["items"][0]["metadata"]["uid"], "another identity");
    delete(&server, "a")?;
    ensure!(delete(&server, "a").is_err(), "deleted twice");
    server.put(service("a", "y"))?;
    let again = client.get("/api/v1/namespaces/test/services/a")?.body;
    ensure!(again["metadata"]["uid"] != a["metadata"]["uid"], "a new object has the identity of an old one");
    Ok(())
}

pub(super) fn holding_writes_only_what_differs() -> Result<()> {
    let (server, client) = start()?;
    let mut cluster = Cluster::default();
    cluster.put(cluster::Service::new("a", "10.0.0.1".parse()?).tcp("web", 80));
    cluster.put(cluster::Service::new("b", "10.0.0.2".parse()?).tcp("web", 80));
    cluster.put_other("node", cluster::node(None, &[], &["10.1.0.0/24"]));
    server.hold(&cluster.manifest())?;
    let before = client.version()?;
    let mut watch = client.watch(&format!("watch=1&resourceVersion={before}"))?;
    server.hold(&cluster.manifest())?;
    ensure!(client.version()? == before, "the same manifest changed something");
    cluster.delete("a").put(cluster::Service::new("b", "10.0.0.2".parse()?).tcp("web", 81));
    server.hold(&cluster.manifest())?;
    watch.expect("DELETED", "a", before + 1)?;
    watch.expect("MODIFIED", "b", before + 2)?;
    ensure!(client.version()? == before + 2, "more was written");
    let nodes = client.get("/api/v1/nodes")?.body;
    ensure!(nodes["kind"] == "NodeList" && names(&nodes) == ["node"], "{nodes}");
    ensure!(server.hold("{}").is_err() && client.version()? == before + 2, "a manifest without items");
    Ok(())
}

pub(super) fn selectors_in_lists() -> Result<()> {
    let (server, client) = start()?;
    let mut headless = service("none", "y");
    headless["spec"]["clusterIP"] = json!("None");
    headless["metadata"]["labels"]["other.org/proxy"] = json!("");
    headless["spec"]["sessionAffinity"] = json!("ClientIP");
    server.load(vec![service("a", "x"), service("bb", "y"), headless])?;
    let cases: [(&str, &[&str]); 13] = [
        ("labelSelector=run", &["a", "bb", "none"]),
        ("labelSelector=run%3Dx", &["a"]),
        ("labelSelector=run%3D%3Dx", &["a"]),
        ("labelSelector=run!%3Dx", &["bb", "none"]),
        ("labelSelector=run%20in%20(x,z)", &["a"]),
        ("labelSelector=run+notin+(x,z),other.org/proxy", &["none"]),
        ("labelSelector=!other.org/proxy", &["a", "bb"]),
        ("labelSelector=!other.org/proxy,run%3Dy", &["bb"]),
        ("labelSelector=absent!%3Dx", &["a", "bb", "none"]),
        ("fieldSelector=metadata.name%3Dbb", &["bb"]),
        ("fieldSelector=spec.clusterIP!%3DNone,metadata.namespace%3D%3Dtest", &["a", "bb"]),
        ("fieldSelector=spec.sessionAffinity%3DClientIP", &["none"]),
        ("fieldSelector=spec.sessionAffinity%3D", &["a", "bb"]),
    ];
    for (query, expected) in cases {
        let list = client.list(query)?;
        ensure!(names(&list) == expected, "{query} selects {:?}, not {expected:?}", names(&list));
    }
    for bad in [
        "labelSelector=%3Dx",
        "labelSelector=a,,b",
        "labelSelector=a+in+x",
        "labelSelector=a+in+(-)",
        "labelSelector=!a%3Dx",
        "fieldSelector=metadata.name",
        "fieldSelector=a..b%3Dx",
        "limit=x",
    ] {
        client.refused(&format!("{SERVICES}?{bad}"), 400, "BadRequest")?;
        client.refused(&format!("{SERVICES}?watch=1&{bad}"), 400, "BadRequest")?;
    }
    let elsewhere = client.get("/api/v1/namespaces/elsewhere/services")?.body;
    ensure!(names(&elsewhere).is_empty() && elsewhere["items"].is_array(), "{elsewhere}");
    Ok(())
}

pub(super) fn pages_are_of_one_moment() -> Result<()> {
    let (server, client) = start()?;
    server.load((0..10).map(|place| service(&format!("s{place}"), "x")).collect())?;
    let whole = client.list("")?;
    let (mut seen, mut token, mut left) = (Vec::new(), String::new(), Vec::new());
    for round in 0.. {
        let page = client.list(&format!("limit=3&continue={token}"))?;
        ensure!(version(&page)? == version(&whole)?, "page {round} is of another moment");
        seen.extend(page["items"].as_array().context("no items")?.iter().cloned());
        left.push(page["metadata"]["remainingItemCount"].as_u64());
        // Changed, removed and added: behind the page and before it, and one of them twice.
        match round {
            0 => drop((server.put(service("s5", "y"))?, delete(&server, "s1")?, delete(&server, "s8")?)),
            1 => drop((server.put(service("s55", "y"))?, server.put(service("s8", "z"))?)),
            _ => {}
        }
        match page["metadata"]["continue"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    ensure!(Value::Array(seen) == whole["items"], "the pages are not what was there at first");
    ensure!(left == [Some(7), Some(4), Some(1), None], "{left:?} were said to remain");
    ensure!(names(&client.list("limit=3&resourceVersion=0")?).len() == 10, "pages at version 0");
    let exact = format!("resourceVersion={}&resourceVersionMatch=Exact", version(&whole)?);
    ensure!(client.list(&exact)?["items"] == whole["items"], "an exact list is not of its moment");
    client.refused(&format!("{SERVICES}?limit=3&continue=oops"), 400, "BadRequest")?;
    Ok(())
}

pub(super) fn invalid_options() -> Result<()> {
    let (_server, client) = start()?;
    let without = |part: &str| STREAMING.replace(part, "a=b");
    for query in [
        without("resourceVersionMatch=NotOlderThan"),
        without("allowWatchBookmarks=true"),
        without("sendInitialEvents=true"),
        without("watch=1"),
        STREAMING.replace("NotOlderThan", "Exact"),
        "resourceVersionMatch=NotOlderThan".to_owned(),
        "resourceVersionMatch=Exact&resourceVersion=0".to_owned(),
    ] {
        client.refused(&format!("{SERVICES}?{query}"), 422, "Invalid")?;
    }
    let (_server, client) = start_with(Options { streaming_lists: false, ..Options::default() })?;
    let answer = client.refused(&format!("{SERVICES}?{STREAMING}"), 422, "Invalid")?;
    ensure!(
        answer.body["message"].as_str().is_some_and(|text| text.contains("WatchList")),
        "{}",
        answer.body
    );
    Ok(())
}

pub(super) fn tokens() -> Result<()> {
    let (server, mut client) = start()?;
    let data = format!("certificate-authority-data: {}\n", BASE64_STANDARD.encode(server.ca_certificate()));
    let config = server.kubeconfig();
    for part in
        [data, format!("token: {}\n", server.token()), format!("server: https://{}\n", server.address())]
    {
        ensure!(config.contains(&part), "{config}");
    }
    let mut watch = client.watch("watch=1")?;
    let new = server.rotate_token();
    client.refused(SERVICES, 401, "Unauthorized")?;
    client.refused("/version", 401, "Unauthorized")?;
    watch.expect("ADDED", "a", server.put(service("a", "x"))?)?;
    client.token = String::new();
    client.refused(SERVICES, 401, "Unauthorized")?;
    ensure!(client.get("/healthz")?.body == "ok", "not healthy");
    ensure!(client.get("/version")?.body["major"] == "1", "no version");
    client.token = new;
    ensure!(names(&client.list("")?) == ["a"], "the new token does not open");
    Ok(())
}

pub(super) fn unknown_paths() -> Result<()> {
    let cidrs = "/apis/networking.k8s.io/v1/servicecidrs";
    let (server, client) = start()?;
    server.put(cluster::service_cidr("kubernetes", &["10.0.0.0/16"]))?;
    ensure!(names(&client.get(cidrs)?.body) == ["kubernetes"], "no ServiceCIDRs");
    client.refused("/api/v1/nodes/none", 404, "NotFound")?;
    for path in ["/api/v1/secrets", "/api/v1", "/api/v1/namespaces/test/nodes", "/x"] {
        ensure!(client.get(path)?.code == 404, "{path} exists");
    }
    let posted = client.ask("POST", SERVICES, PATIENCE)?;
    ensure!(posted.code == 405 && posted.body["reason"] == "MethodNotAllowed", "{}", posted.body);
    ensure!(
        server.put(json!({ "kind": "Secret", "metadata": { "name": "a" } })).is_err(),
        "a Secret was taken"
    );
    let (_server, client) = start_with(Options { service_cidrs: false, ..Options::default() })?;
    ensure!(client.get(cidrs)?.code == 404, "ServiceCIDRs on an older server");
    ensure!(client.get("/apis/discovery.k8s.io/v1/endpointslices")?.code == 200, "no EndpointSlices");
    Ok(())
}

pub(super) fn server_in_namespace() -> Result<()> {
    let namespace = Namespace::new("control")?;
    let server = namespace.run(|| ApiServer::start(Options::default()))??;
    let list = || Client::new(&server)?.list("");
    namespace.run(list)??;
    ensure!(list().is_err(), "it is also where it was not started");
    // It comes back where it was, whoever asks for that.
    server.set_fault(Some(Fault::Down));
    ensure!(namespace.run(list)?.is_err(), "it is not down");
    server.set_fault(None);
    namespace.run(list)??;
    Ok(())
}

pub(super) fn large_list() -> Result<()> {
    let (server, client) = start()?;
    let name = |place: usize| format!("s{place:05}");
    let at = server.load((0..20_000).map(|place| service(&name(place), "x")).collect())?;
    let list = client.list("")?;
    ensure!(names(&list).into_iter().eq((0..20_000).map(name)), "a large list is not whole");
    let mut watch = client.watch(STREAMING)?;
    for place in 0..20_000 {
        watch.expect("ADDED", &name(place), at - 19_999 + place as u64)?;
    }
    watch.expect("BOOKMARK", "", at)?;
    Ok(())
}
