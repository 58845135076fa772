//! In one mode.

use std::process::Stdio;
use std::{fs, process};

use anyhow::{Context, Result, ensure};
use testbed::cluster::Endpoint;
use testbed::{Subject, await_that, binary, scenarios};

use crate::measured::{by_endpoint, failure, fanout, is_exact, number, report};

scenarios![Subject:
    a_dead_endpoint_refuses_its_share,
    clients_that_stay_are_told,
    kept_connections_warn,
    datagrams_are_spread_too,
    services_have_names,
    servers_that_say_who_they_are_take_no_privileges,
    it_is_shown_to_people_and_drawn,
    what_cannot_be_measured_is_one_helpful_line,
];

fn a_dead_endpoint_refuses_its_share(s: &mut Subject) -> Result<()> {
    // There is a node, and nothing listens.
    let dead = Endpoint { address: s.family().peer().to_string(), node: None, ..s.endpoint("remote-1") };
    let slice = s.slice_of("web", [s.endpoint("pod-1"), s.endpoint("pod-2"), dead]);
    let web = s.web();
    s.cluster.put(web).put_slice(slice);
    s.sync()?;
    let report = report(&s.bed.node, &[&s.web_address().to_string(), "-n", "300"])?;
    is_exact(&report, 300)?;
    let failed = number(&report, "/connections/failed")?;
    ensure!((40..180).contains(&failed), "{failed} of 300 failed: {report}");
    ensure!(report["failures"][0]["cause"] == "refused", "{report}");
    let dead = format!("{}:8080", s.family().peer());
    ensure!(by_endpoint(&report)?.get(&dead) == Some(&0), "{report}");
    let warning = report["warnings"][0].as_str().context("no warning")?;
    ensure!(warning.contains(&dead) && warning.contains("answered none of 300"), "{warning}");
    Ok(())
}

fn clients_that_stay_are_told(s: &mut Subject) -> Result<()> {
    s.serve(s.web().affinity(600), &["pod-1", "pod-2", "pod-3"])?;
    let from = format!("{},{}", s.family().node(), s.family().second_node_address());
    let report = report(&s.bed.node, &[&s.web_address().to_string(), "-n", "60", "--from", &from])?;
    is_exact(&report, 60)?;
    ensure!(report["spread"]["verdict"] == "affinity", "{report}");
    let sentence = report["spread"]["sentence"].as_str().context("no sentence")?;
    ensure!(sentence.contains("600 s") && sentence.contains("each of 2 clients"), "{sentence}");
    let clients = report["clients"].as_array().context("no clients")?;
    ensure!(clients.len() == 2, "{report}");
    ensure!(clients.iter().all(|one| one["connections"] == 30 && one["endpoints"] == 1), "{report}");
    Ok(())
}

fn kept_connections_warn(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2", "pod-3"])?;
    let target = s.web_address().to_string();
    let report = report(&s.bed.node, &[&target, "-n", "500", "-c", "2", "--kept-alive"])?;
    is_exact(&report, 2)?;
    let requests = ["/requests/sent", "/requests/answered", "/requests/lost"];
    let [sent, answered, lost] = requests.map(|path| number(&report, path));
    ensure!((sent?, answered?, lost?) == (500, 500, 0), "{report}");
    let endpoints = report["endpoints"].as_array().context("no endpoints")?;
    ensure!(endpoints.iter().filter_map(|one| one["requests"].as_u64()).sum::<u64>() == 500, "{report}");
    ensure!(report["spread"]["verdict"] == "keptAlive", "{report}");
    let warning = report["warnings"][0].as_str().context("no warning")?;
    ensure!(warning.contains("500 requests went over 2 kept connections"), "{warning}");
    Ok(())
}

fn datagrams_are_spread_too(s: &mut Subject) -> Result<()> {
    let dns = testbed::cluster::Service::new("dns", s.family().cluster_ip(53)).udp("dns", 53);
    let pods = ["pod-1", "pod-2"].map(|pod| s.endpoint(pod));
    let slice = testbed::cluster::Slice::new("dns", s.family(), pods);
    s.cluster.put(dns).put_slice(slice.port("dns", testbed::Protocol::Udp, testbed::POD_PORT));
    s.sync()?;
    let report = report(&s.bed.node, &["test/dns", "--udp", "-n", "100"])?;
    is_exact(&report, 100)?;
    let counts = by_endpoint(&report)?;
    ensure!(counts.len() == 2 && counts.values().all(|count| *count > 10), "{counts:?}");
    Ok(())
}

fn services_have_names(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let report = report(&s.bed.node, &["test/web:http", "-n", "10"])?;
    ensure!(report["target"] == s.web_address().to_string() && report["mode"] == "nftables", "{report}");
    let line = failure(&s.bed.node, &["test/wep", "-n", "1"])?;
    ensure!(line.contains("test/web"), "{line}");
    Ok(())
}

fn servers_that_say_who_they_are_take_no_privileges(s: &mut Subject) -> Result<()> {
    let port = 7777;
    let address = format!("{}:{port}", s.pod(1).ip);
    let mut command = process::Command::new(binary()?);
    command.args(["respond", "--listen", &address]).env("POD_NAME", "web-abc");
    let mut server = s.bed.pod_namespace(1).run(|| command.stdin(Stdio::null()).spawn())??;
    // A pod sees nothing of what the node translates.
    let args = [&*address, "-n", "50", "--by", "responder"];
    let measured = await_that("the server answers", || {
        Ok(fanout(s.bed.pod_namespace(2), &[&address, "-n", "1", "--by", "responder"])?.status.success())
    })
    .and_then(|()| report(s.bed.pod_namespace(2), &args));
    server.kill()?;
    server.wait()?;
    let report = measured?;
    is_exact(&report, 50)?;
    let endpoint = &report["endpoints"][0];
    ensure!(endpoint["address"] == address && endpoint["name"] == "web-abc", "{report}");
    Ok(())
}

fn it_is_shown_to_people_and_drawn(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2"])?;
    let target = s.web_address().to_string();
    for (name, head) in [("fanout.svg", &b"<svg"[..]), ("fanout.png", b"\x89PNG")] {
        let path = std::env::temp_dir().join(name);
        let output =
            fanout(&s.bed.node, &[&target, "-d", "200ms", "--plot", &path.to_string_lossy(), "-o", "wide"])?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for words in ["target", "10.180.0.1:8080", "expected", "share over time", "chi-square", "p99.9"] {
            ensure!(text.contains(words), "no {words:?} in\n{text}");
        }
        ensure!(fs::read(&path)?.starts_with(head), "{name} is none");
    }
    Ok(())
}

fn what_cannot_be_measured_is_one_helpful_line(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let target = s.web_address().to_string();
    let nobody = format!("{}:81", s.family().peer());
    for (args, words) in [
        (&["10.0.0.1"][..], &["10.0.0.1:80"][..]),
        (&["wep"], &["no Service wep", "did you mean test/web"]),
        (&["test/web:https"], &["no port \"https\"", "http (80/TCP)"]),
        (&[&target, "--from", "192.0.2.1"], &["--from 192.0.2.1", "no address of this host"]),
        (&[&target, "--from", "::1"], &["--from ::1", "family"]),
        (&[&target, "-c", "10000000"], &["-c 10000000", "open files"]),
        (&[&target, "-n", "0"], &["--connections"]),
        (&[&target, "-n", "1", "-d", "1"], &["--duration"]),
        (&[&target, "--plot", "a.gif"], &["a.gif", ".svg or .png"]),
        (&[&nobody, "-n", "20"], &["20 refused", "nothing listens there"]),
    ] {
        let line = failure(&s.bed.node, args)?;
        ensure!(words.iter().all(|word| line.contains(word)), "{args:?}: {line}");
    }
    Ok(())
}
