//! What is told of connections.

use anyhow::{Result, ensure};
use serde_json::Value;
use testbed::cluster::Endpoint;
use testbed::mode::{IPVS, NFTABLES};
use testbed::{Protocol, Subject};

use crate::{Live, has_hops, ruleset};

testbed::scenarios![
    Subject:
    a_connection_shows_its_hops_and_its_endpoint,
    what_is_refused_or_not_answered_is_told,
];

fn a_connection_shows_its_hops_and_its_endpoint(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let before = ruleset(s)?;
    let (source, target) = (s.pod(3).ip.to_string(), s.web_address().to_string());
    let live = Live::start(s, &["--source", &source, &target, "--count", "2", "--for", "20s"])?;
    // Neither is from there to there.
    s.pod(2).place.connect(Protocol::Tcp, s.web_address())?;
    s.pod(3).place.connect(Protocol::Tcp, (s.bed.pod(1).ip(s.family()), testbed::POD_PORT).into())?;
    for _ in 0..2 {
        s.pod(3).place.connect(Protocol::Tcp, s.web_address())?;
    }
    let ended = live.ended()?;
    ensure!(ended.status.success(), "{}", ended.said);
    let connections = ended.of("connection");
    ensure!(connections.len() == 2, "{:#?}", ended.events);
    let endpoint = format!("{}", std::net::SocketAddr::new(s.bed.pod(1).ip(s.family()), testbed::POD_PORT));
    for connection in connections {
        ensure!(connection["destination"] == target.as_str(), "{connection:#}");
        ensure!(connection["outcome"] == "translated" && connection["endpoint"] == endpoint.as_str());
        ensure!(connection["seenAs"] == source.as_str() && connection["masqueraded"] == false);
        check_hops(s, connection, &endpoint)?;
    }
    let answered = ended.of("changed").into_iter().filter(|event| event["answered"] == true).count();
    ensure!(answered == 2, "{:#?}", ended.events);
    ensure!(ended.only("summary")?["connections"] == 2);
    ensure!(ruleset(s)? == before, "something is left");
    Ok(())
}

/// From the first chain through the Service's to where the endpoint is the packet's destination.
fn check_hops(s: &Subject, connection: &Value, endpoint: &str) -> Result<()> {
    let hops = connection["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !has_hops(s) {
        ensure!(hops.is_empty(), "{connection:#}");
        return Ok(());
    }
    let place = |text: &str| {
        hops.iter().position(|hop| {
            let words = [&hop["chain"], &hop["verdict"], &hop["comment"]];
            words.iter().any(|word| word.as_str().is_some_and(|word| word.contains(text)))
        })
    };
    let translated = hops.iter().position(|hop| hop["destination"] == endpoint);
    let way = match s.mode() {
        NFTABLES => [place("services"), place("pick"), translated],
        // Virtual servers are no rules: between these two hops.
        IPVS => [place("KUBE-SERVICES"), place("KUBE-IPVS-FILTER"), translated],
        _ => [place("KUBE-SERVICES"), place("KUBE-SEP-"), translated],
    };
    ensure!(way.iter().all(Option::is_some) && way.is_sorted(), "{way:?} in {connection:#}");
    let hooks: Vec<_> = hops.iter().filter_map(|hop| hop["hook"].as_str()).collect();
    ensure!(hooks.first() == Some(&"prerouting") && hooks.last() == Some(&"postrouting"), "{hooks:?}");
    let times: Vec<_> = hops.iter().map(|hop| hop["afterMicroseconds"].as_u64()).collect();
    ensure!(times.is_sorted(), "{times:?}");
    Ok(())
}

fn what_is_refused_or_not_answered_is_told(s: &mut Subject) -> Result<()> {
    let web = s.web();
    s.cluster.put(web);
    s.sync()?;
    let target = s.web_address().to_string();
    if has_hops(s) {
        let live = Live::start(s, &[&target, "--count", "1", "--for", "20s"])?;
        s.refused(s.pod(3), s.web_address())?;
        let ended = live.ended()?;
        let connection = ended.only("connection")?;
        let last = connection["hops"].as_array().and_then(|hops| hops.last()).cloned().unwrap_or_default();
        if s.mode() == IPVS {
            // Its rules let everything through to the virtual server, which has nobody.
            ensure!(connection["outcome"] == "untracked" && last["hook"] == "input", "{connection:#}");
        } else {
            ensure!(connection["outcome"] == "dropped" && connection["endpoint"].is_null(), "{connection:#}");
            ensure!(last["verdict"] == "drop" && last["rule"].is_u64(), "{connection:#}");
        }
    }
    // Nobody has this address.
    let nobody = Endpoint { address: s.family().pod(0, 99).to_string(), ..Endpoint::default() };
    let slice = s.slice_of("web", [nobody]);
    s.cluster.put_slice(slice);
    s.sync()?;
    let live = Live::start(s, &[&target, "--count", "1", "--for", "20s"])?;
    s.pod(3).place.connect_briefly(Protocol::Tcp, s.web_address())?;
    let ended = live.ended()?;
    ensure!(ended.only("connection")?["outcome"] == "translated", "{:#?}", ended.events);
    let endpoint = ended.only("unanswered")?["endpoint"].clone();
    ensure!(endpoint == ended.only("connection")?["endpoint"], "{:#?}", ended.events);
    Ok(())
}
