//! What `iptables-save` prints is what runbooks show.

use anyhow::{Result, ensure};
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::subject::Seen::{AsItself, Masqueraded};
use testbed::{Family, POD_PORT, Protocol, Subject};

use crate::names::suffix;
use crate::tables;

testbed::scenarios![
    Subject:
    a_service_reads_like_the_textbook,
    three_endpoints_have_a_third_each,
    the_chains_that_every_node_has_are_there,
    the_mark_is_that_of_the_masquerade_bit,
    a_load_balancer_with_everything_reads_like_the_textbook,
    policy_cluster_masquerades_in_the_external_chain,
    affinity_is_kept_by_recent,
    what_refuses_is_in_the_filter_table,
    large_clusters_go_without_endpoint_comments,
];

/// How many bits of an address are the host's.
pub(crate) fn bits(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

/// The chain of an endpoint of `web`, and its address and port.
fn endpoint_chain(s: &Subject, pod: &testbed::Pod) -> Result<(String, String)> {
    let address = std::net::SocketAddr::new(pod.ip(s.family()), POD_PORT).to_string();
    Ok((format!("KUBE-SEP-{}", suffix(&format!("test/web:httptcp{address}"))?), address))
}

fn web_chain(kind: &str) -> Result<String> {
    Ok(format!("KUBE-{kind}-{}", suffix("test/web:httptcp")?))
}

/// A chain has exactly these rules, in this order.
fn check_chain(s: &Subject, table: &str, chain: &str, rules: &[String]) -> Result<()> {
    let found = tables(s)?.chain(table, chain)?;
    let expected: Vec<String> = rules.iter().map(|rule| format!("-A {chain} {rule}")).collect();
    ensure!(found == expected, "{chain} in {table} reads\n{found:#?}\ninstead of\n{expected:#?}");
    Ok(())
}

/// A chain has these rules among others.
fn check_has(s: &Subject, table: &str, chain: &str, rules: &[String]) -> Result<()> {
    let found = tables(s)?.chain(table, chain)?;
    for rule in rules {
        let rule = format!("-A {chain} {rule}");
        ensure!(found.contains(&rule), "{chain} in {table} has no rule\n{rule}\nbut\n{found:#?}");
    }
    Ok(())
}

/// What matches `web`'s ClusterIP.
fn to_web(s: &Subject) -> String {
    let (ip, bits) = (s.family().cluster_ip(10), bits(s.family()));
    format!("-d {ip}/{bits} -p tcp -m comment --comment \"test/web:http cluster IP\" -m tcp --dport 80")
}

fn check_choice(s: &Subject, chances: &[&str]) -> Result<()> {
    let range = s.family().cluster_cidr();
    let mut rules = vec![format!("! -s {range} {} -j KUBE-MARK-MASQ", to_web(s))];
    for (number, chance) in (1..).zip(chances) {
        let (chain, address) = endpoint_chain(s, s.bed.pod(number))?;
        let comment = format!("-m comment --comment \"test/web:http -> {address}\"");
        rules.push(match *chance {
            "" => format!("{comment} -j {chain}"),
            chance => format!("{comment} -m statistic --mode random --probability {chance} -j {chain}"),
        });
    }
    check_chain(s, "nat", &web_chain("SVC")?, &rules)
}

fn a_service_reads_like_the_textbook(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2"])?;
    let leads = format!("{} -j {}", to_web(s), web_chain("SVC")?);
    check_has(s, "nat", "KUBE-SERVICES", &[leads])?;
    check_choice(s, &["0.50000000000", ""])?;
    for number in [1, 2] {
        let (chain, address) = endpoint_chain(s, s.bed.pod(number))?;
        let (ip, bits) = (s.bed.pod(number).ip(s.family()), bits(s.family()));
        let about = "-m comment --comment \"test/web:http\"";
        let rules = [
            format!("-s {ip}/{bits} {about} -j KUBE-MARK-MASQ"),
            format!("-p tcp {about} -m tcp -j DNAT --to-destination {address}"),
        ];
        check_chain(s, "nat", &chain, &rules)?;
    }
    // The last rule of all is the one for node ports.
    let last = tables(s)?.chain("nat", "KUBE-SERVICES")?.pop().unwrap_or_default();
    ensure!(last.ends_with(" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"), "the last rule is {last}");
    Ok(())
}

fn three_endpoints_have_a_third_each(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2", "pod-3"])?;
    check_choice(s, &["0.33333333349", "0.50000000000", ""])
}

fn the_chains_that_every_node_has_are_there(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    let tables = tables(s)?;
    for (table, chains) in [
        ("mangle", &["KUBE-PROXY-CANARY"][..]),
        (
            "nat",
            &["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-PROXY-CANARY"],
        ),
        (
            "filter",
            &[
                "KUBE-SERVICES",
                "KUBE-EXTERNAL-SERVICES",
                "KUBE-NODEPORTS",
                "KUBE-FORWARD",
                "KUBE-PROXY-FIREWALL",
                "KUBE-PROXY-CANARY",
            ],
        ),
    ] {
        let found = tables.chains(table)?;
        let missing: Vec<_> =
            chains.iter().filter(|chain| !found.iter().any(|name| name == *chain)).collect();
        ensure!(missing.is_empty(), "table {table} lacks {missing:?}: {found:#?}");
    }
    for (table, hook, rule) in HOOKS {
        check_has(s, table, hook, &[(*rule).to_owned()])?;
    }
    Ok(())
}

/// How packets come to the chains.
pub(crate) const HOOKS: &[(&str, &str, &str)] = &[
    ("nat", "PREROUTING", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
    ("nat", "OUTPUT", "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"),
    ("nat", "POSTROUTING", "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING"),
    (
        "filter",
        "INPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" \
         -j KUBE-EXTERNAL-SERVICES",
    ),
    (
        "filter",
        "FORWARD",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" \
         -j KUBE-EXTERNAL-SERVICES",
    ),
    ("filter", "INPUT", "-m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS"),
    (
        "filter",
        "FORWARD",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    ),
    (
        "filter",
        "OUTPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    ),
    ("filter", "FORWARD", "-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD"),
    (
        "filter",
        "INPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" \
         -j KUBE-PROXY-FIREWALL",
    ),
    (
        "filter",
        "OUTPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" \
         -j KUBE-PROXY-FIREWALL",
    ),
    (
        "filter",
        "FORWARD",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" \
         -j KUBE-PROXY-FIREWALL",
    ),
];

fn check_mark(s: &Subject, mark: &str) -> Result<()> {
    check_chain(s, "nat", "KUBE-MARK-MASQ", &[format!("-j MARK --set-xmark {mark}/{mark}")])?;
    let masquerade = "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE";
    let rules = [
        format!("-m mark ! --mark {mark}/{mark} -j RETURN"),
        format!("-j MARK --set-xmark {mark}/0x0"),
        format!("{masquerade} --random-fully"),
    ];
    check_chain(s, "nat", "KUBE-POSTROUTING", &rules)?;
    let accept = "-m comment --comment \"kubernetes forwarding rules\" -m mark --mark";
    check_has(s, "filter", "KUBE-FORWARD", &[format!("{accept} {mark}/{mark} -j ACCEPT")])
}

fn the_mark_is_that_of_the_masquerade_bit(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    check_mark(s, "0x4000")?;
    s.proxy()?.kill()?;
    s.forget_proxy();
    s.args(&["--iptables-masquerade-bit", "31"]);
    s.sync()?;
    check_mark(s, "0x80000000")
}

fn a_load_balancer_with_everything_reads_like_the_textbook(s: &mut Subject) -> Result<()> {
    let (family, bits) = (s.family(), bits(s.family()));
    let web = s.web().node_port(30080).external_local();
    let web = web.external_ip(family.external_ip(5)).load_balancer_ip(family.load_balancer_ip(6));
    s.serve(web.source_range(family.client_range()), &["pod-1", "remote-1"])?;
    let [svc, svl, ext, fw] = ["SVC", "SVL", "EXT", "FW"].map(web_chain);
    let (svc, svl, ext, fw) = (svc?, svl?, ext?, fw?);
    let about = |what: &str| format!("-m comment --comment \"{what}\"");
    let to = |ip: std::net::IpAddr, what: &str| {
        format!("-d {ip}/{bits} -p tcp {} -m tcp --dport 80", about(&format!("test/web:http {what}")))
    };

    let external_ip = format!("{} -j {ext}", to(family.external_ip(5), "external IP"));
    let balanced = format!("{} -j {fw}", to(family.load_balancer_ip(6), "loadbalancer IP"));
    check_has(s, "nat", "KUBE-SERVICES", &[external_ip, balanced])?;
    let node_port = format!("-p tcp {} -m tcp --dport 30080 -j {ext}", about("test/web:http"));
    check_has(s, "nat", "KUBE-NODEPORTS", &[node_port])?;
    let firewall = [
        format!("-s {} {} -j {ext}", family.client_range(), about("test/web:http loadbalancer IP")),
        about("other traffic to test/web:http will be dropped by KUBE-PROXY-FIREWALL"),
    ];
    check_chain(s, "nat", &fw, &firewall)?;
    let dropped = to(family.load_balancer_ip(6), &format!("traffic not accepted by {fw}"));
    check_has(s, "filter", "KUBE-PROXY-FIREWALL", &[format!("{dropped} -j DROP")])?;
    let local = "-m addrtype --src-type LOCAL";
    let external = [
        format!(
            "-s {} {} -j {svc}",
            family.cluster_cidr(),
            about("pod traffic for test/web:http external destinations")
        ),
        format!(
            "{} {local} -j KUBE-MARK-MASQ",
            about("masquerade LOCAL traffic for test/web:http external destinations")
        ),
        format!("{} {local} -j {svc}", about("route LOCAL traffic for test/web:http external destinations")),
        format!("-j {svl}"),
    ];
    check_chain(s, "nat", &ext, &external)?;
    let (chain, address) = endpoint_chain(s, s.bed.pod(1))?;
    let choice = format!("{} -j {chain}", about(&format!("test/web:http -> {address}")));
    check_chain(s, "nat", &svl, &[choice])
}

fn policy_cluster_masquerades_in_the_external_chain(s: &mut Subject) -> Result<()> {
    let web = s.web().node_port(30080);
    s.serve(web, &["pod-1"])?;
    let rules = [
        "-m comment --comment \"masquerade traffic for test/web:http external destinations\" -j KUBE-MARK-MASQ"
            .to_owned(),
        format!("-j {}", web_chain("SVC")?),
    ];
    check_chain(s, "nat", &web_chain("EXT")?, &rules)
}

fn affinity_is_kept_by_recent(s: &mut Subject) -> Result<()> {
    let web = s.web().affinity(600);
    s.serve(web, &["pod-1", "pod-2"])?;
    let mask = match s.family() {
        Family::V4 => "255.255.255.255",
        Family::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    };
    let mut stay = Vec::new();
    for number in [1, 2] {
        let (chain, address) = endpoint_chain(s, s.bed.pod(number))?;
        let list = format!("--name {chain} --mask {mask} --rsource");
        stay.push(format!(
            "-m comment --comment \"test/web:http -> {address}\" \
             -m recent --rcheck --seconds 600 --reap {list} -j {chain}"
        ));
        let set = format!(
            "-p tcp -m comment --comment \"test/web:http\" -m recent --set {list} \
             -m tcp -j DNAT --to-destination {address}"
        );
        check_has(s, "nat", &chain, &[set])?;
    }
    // Those who are remembered come before the choice.
    let svc = web_chain("SVC")?;
    let rules = tables(s)?.chain("nat", &svc)?;
    let stay: Vec<String> = stay.iter().map(|rule| format!("-A {svc} {rule}")).collect();
    ensure!(
        rules.get(1..3) == Some(&*stay),
        "{svc} reads\n{rules:#?}\ninstead of\n{stay:#?}\nfrom rule 2 on"
    );
    Ok(())
}

fn what_refuses_is_in_the_filter_table(s: &mut Subject) -> Result<()> {
    let (family, bits) = (s.family(), bits(s.family()));
    let web = s.web().node_port(30080).external_ip(family.external_ip(5));
    s.serve(web, &[])?;
    let unreachable = match family {
        Family::V4 => "icmp-port-unreachable",
        Family::V6 => "icmp6-port-unreachable",
    };
    let about = "-p tcp -m comment --comment \"test/web:http has no endpoints\"";
    let refuse =
        |ip| format!("-d {ip}/{bits} {about} -m tcp --dport 80 -j REJECT --reject-with {unreachable}");
    check_has(s, "filter", "KUBE-SERVICES", &[refuse(family.cluster_ip(10))])?;
    let node_port = format!(
        "{about} -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j REJECT --reject-with {unreachable}"
    );
    check_has(s, "filter", "KUBE-EXTERNAL-SERVICES", &[refuse(family.external_ip(5)), node_port])?;
    // And nothing leads anywhere.
    let nat = tables(s)?.content()?;
    let left = nat.iter().find(|line| {
        line.starts_with("nat ") && line.contains(&suffix("test/web:httptcp").unwrap_or_default())
    });
    ensure!(left.is_none(), "a service without endpoints needs no {left:?}");
    Ok(())
}

/// Endpoints that nobody has, to be many.
fn fill(s: &mut Subject, services: u8, endpoints: u8) {
    let family = s.family();
    for number in 0..services {
        let name = format!("many{number}");
        let address = |n| family.pod(100 + number, n).to_string();
        let all = (1..=endpoints).map(|n| Endpoint { address: address(n), ..Endpoint::default() });
        let slice = Slice::new(&name, family, all).port("http", Protocol::Tcp, POD_PORT);
        let service = Service::new(&name, family.cluster_ip(100 + number)).tcp("http", 80);
        s.cluster.put(service).put_slice(slice);
    }
}

fn large_clusters_go_without_endpoint_comments(s: &mut Subject) -> Result<()> {
    // Two of `web` and 998 others: not large yet.
    fill(s, 83, 12);
    let other = Slice::new("one", s.family(), [s.endpoint("pod-3")]).port("http", Protocol::Tcp, 1);
    let other = |count: u16| {
        let mut slice = other.clone();
        slice.ports = (0..count).map(|n| (format!("p{n}"), "TCP", 1 + n)).collect();
        let mut service = Service::new("one", s.family().cluster_ip(11));
        for n in 0..count {
            service = service.tcp(&format!("p{n}"), 1 + n);
        }
        (service, slice)
    };
    let (two, three) = (other(2), other(3));
    s.cluster.put(two.0).put_slice(two.1);
    s.serve_web(&["pod-1", "pod-2"])?;
    check_choice(s, &["0.50000000000", ""])?;
    // One more than a thousand. Chains that are right stay as they are; so what is new tells.
    s.proxy()?.kill()?;
    s.forget_proxy();
    s.cluster.put(three.0).put_slice(three.1);
    s.sync()?;
    let svc = web_chain("SVC")?;
    let ((first, _), (second, address)) =
        (endpoint_chain(s, s.bed.pod(1))?, endpoint_chain(s, s.bed.pod(2))?);
    let range = s.family().cluster_cidr();
    let rules = [
        format!("! -s {range} {} -j KUBE-MARK-MASQ", to_web(s)),
        format!("-m statistic --mode random --probability 0.50000000000 -j {first}"),
        format!("-j {second}"),
    ];
    check_chain(s, "nat", &svc, &rules)?;
    let (ip, bits) = (s.bed.pod(2).ip(s.family()), bits(s.family()));
    let rules = [
        format!("-s {ip}/{bits} -j KUBE-MARK-MASQ"),
        format!("-p tcp -m tcp -j DNAT --to-destination {address}"),
    ];
    check_chain(s, "nat", &second, &rules)?;
    s.reaches(s.pod(3), s.web_address(), &["pod-1", "pod-2"], AsItself)?;
    s.serve_web(&["pod-1", "pod-2", "pod-3"])?;
    s.reaches(s.client(), s.web_address(), &["pod-1", "pod-2", "pod-3"], Masqueraded).map(drop)
}
