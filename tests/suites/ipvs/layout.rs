//! What is where, by which name.

use anyhow::{Result, ensure};
use testbed::cluster::Service;
use testbed::{Family, Protocol, Subject};

use crate::{at, servers, set};

testbed::scenarios![
    Subject:
    sets_hold_what_kube_proxys_sets_hold,
    the_device_has_the_addresses_of_services_and_no_others,
    kernel_parameters_are_set,
    arp_is_strict_if_asked_for,
    timeouts_are_set_if_asked_for,
    the_scheduler_may_be_changed_by_a_restart,
    rules_do_not_depend_on_services,
];

fn members(s: &Subject, name: &str) -> Result<Vec<String>> {
    let listed = s.bed.node.output("ipset", &["save", &set(s, name), "-sorted"])?;
    let members = listed.lines().filter_map(|line| line.strip_prefix("add ")?.split_once(' '));
    Ok(members.map(|(_, member)| member.to_owned()).collect())
}

fn sets_hold_what_kube_proxys_sets_hold(s: &mut Subject) -> Result<()> {
    let family = s.family();
    let (external, balanced) = (family.external_ip(5), family.load_balancer_ip(6));
    let web = s.web().node_port(30080).external_ip(external).load_balancer_ip(balanced);
    s.serve(web.source_range(family.client_range()), &["pod-1", "remote-1"])?;
    let (cluster_ip, pod) = (family.cluster_ip(10), family.pod(0, 1));
    let range = family.client_range();
    for (name, kind, expected) in [
        ("CLUSTER-IP", "hash:ip,port", format!("{cluster_ip},tcp:80")),
        ("EXTERNAL-IP", "hash:ip,port", format!("{external},tcp:80")),
        ("LOAD-BALANCER", "hash:ip,port", format!("{balanced},tcp:80")),
        ("LOAD-BALANCER-FW", "hash:ip,port", format!("{balanced},tcp:80")),
        ("NODE-PORT-TCP", "bitmap:port", "30080".to_owned()),
        ("LOOP-BACK", "hash:ip,port,ip", format!("{pod},tcp:{},{pod}", testbed::POD_PORT)),
    ] {
        let found = members(s, name)?;
        ensure!(found == [expected.as_str()], "{name} has {found:?}, not {expected}");
        let header = s.bed.node.output("ipset", &["list", "-terse", &set(s, name)])?;
        ensure!(header.contains(&format!("Type: {kind}\n")), "{name} is no {kind}: {header}");
    }
    // Its name is cut over IPv6.
    let name = if family == Family::V6 { "LOAD-BALANCER-SOURCE-CID" } else { "LOAD-BALANCER-SOURCE-CIDR" };
    let found = members(s, name)?;
    ensure!(found == [format!("{balanced},tcp:80,{range}")], "{name} has {found:?}");
    for name in ["EXTERNAL-IP-LOCAL", "LOAD-BALANCER-LOCAL", "NODE-PORT-LOCAL-TCP", "NODE-PORT-UDP"] {
        let found = members(s, name)?;
        ensure!(found.is_empty(), "{name} has {found:?}");
    }
    let web = s.web().node_port(30080).external_ip(external).load_balancer_ip(balanced).external_local();
    s.serve(web, &["pod-1", "remote-1"])?;
    for name in ["EXTERNAL-IP-LOCAL", "LOAD-BALANCER-LOCAL", "NODE-PORT-LOCAL-TCP"] {
        ensure!(members(s, name)?.len() == 1, "{name} has {:?}", members(s, name)?);
    }
    ensure!(members(s, "LOAD-BALANCER-FW")?.is_empty(), "nobody is kept away any more");
    Ok(())
}

fn on_device(s: &Subject) -> Result<Vec<String>> {
    let listed = s.bed.node.output("ip", &["-o", "addr", "show", "dev", "kube-ipvs0"])?;
    let word = if s.family() == Family::V6 { "inet6" } else { "inet" };
    let addresses =
        listed.lines().filter_map(|line| line.split_whitespace().skip_while(|found| *found != word).nth(1));
    let mut addresses: Vec<_> = addresses.map(str::to_owned).collect();
    addresses.sort();
    Ok(addresses)
}

fn the_device_has_the_addresses_of_services_and_no_others(s: &mut Subject) -> Result<()> {
    let family = s.family();
    // The node has the second one itself.
    let web = s.web().external_ip(family.external_ip(5)).external_ip(family.second_node_address());
    s.serve(web, &["pod-1"])?;
    let prefix = if family == Family::V6 { 128 } else { 32 };
    let mut expected: Vec<_> =
        [family.cluster_ip(10), family.external_ip(5)].map(|ip| format!("{ip}/{prefix}")).into();
    expected.sort();
    ensure!(on_device(s)? == expected, "{:?}, not {expected:?}", on_device(s)?);
    let links = s.bed.node.output("ip", &["-o", "link", "show", "dev", "kube-ipvs0"])?;
    ensure!(links.contains("state DOWN"), "nothing is to come in by the device: {links}");
    // Two services may share an address; it goes with the second.
    let both = |s: &mut Subject, count: usize| -> Result<()> {
        let port = |name: &str, number| {
            Service::new(name, s.family().cluster_ip(number)).external_ip(s.family().external_ip(5))
        };
        let (web, dns) = (port("web", 10).tcp("http", 80), port("dns", 11).udp("dns", 53));
        s.cluster.put(web).put(dns);
        if count < 2 {
            s.cluster.delete("dns");
        }
        s.sync()
    };
    both(s, 2)?;
    ensure!(on_device(s)?.len() == 3, "{:?}", on_device(s)?);
    both(s, 1)?;
    ensure!(on_device(s)? == expected, "{:?}, not {expected:?}", on_device(s)?);
    Ok(())
}

fn sysctl(s: &Subject, name: &str) -> Result<String> {
    Ok(s.bed.node.output("cat", &[&format!("/proc/sys/{}", name.replace('.', "/"))])?.trim().to_owned())
}

fn kernel_parameters_are_set(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1"])?;
    for name in ["vs.conntrack", "vs.expire_nodest_conn", "vs.expire_quiescent_template", "ip_forward"] {
        let value = sysctl(s, &format!("net.ipv4.{name}"))?;
        ensure!(value == "1", "{name} is {value}");
    }
    let (ignore, announce) =
        (sysctl(s, "net.ipv4.conf.all.arp_ignore")?, sysctl(s, "net.ipv4.conf.all.arp_announce")?);
    ensure!(
        (ignore.as_str(), announce.as_str()) == ("0", "0"),
        "nobody asked for strict ARP: {ignore}, {announce}"
    );
    Ok(())
}

fn arp_is_strict_if_asked_for(s: &mut Subject) -> Result<()> {
    s.args(&["--ipvs-strict-arp"]);
    s.serve_web(&["pod-1"])?;
    let (ignore, announce) =
        (sysctl(s, "net.ipv4.conf.all.arp_ignore")?, sysctl(s, "net.ipv4.conf.all.arp_announce")?);
    ensure!((ignore.as_str(), announce.as_str()) == ("1", "2"), "{ignore}, {announce}");
    Ok(())
}

fn timeouts_are_set_if_asked_for(s: &mut Subject) -> Result<()> {
    let timeouts = |s: &Subject| s.bed.node.output("ipvsadm", &["-L", "--timeout"]);
    let before = timeouts(s)?;
    ensure!(before.contains("900 120 300"), "{before}");
    s.args(&["--ipvs-tcp-timeout=10m", "--ipvs-udp-timeout=45s"]);
    s.serve_web(&["pod-1"])?;
    let after = timeouts(s)?;
    ensure!(after.contains("600 120 45"), "{after}");
    Ok(())
}

fn the_scheduler_may_be_changed_by_a_restart(s: &mut Subject) -> Result<()> {
    s.serve_web(&["pod-1", "pod-2"])?;
    let web = at(s.family().cluster_ip(10), 80);
    ensure!(servers(s)?.contains(&format!("-A -t {web} -s rr\n")), "{}", servers(s)?);
    s.proxy()?.terminate()?;
    s.forget_proxy();
    s.args(&["--ipvs-scheduler", "lc"]);
    s.sync()?;
    ensure!(servers(s)?.contains(&format!("-A -t {web} -s lc\n")), "{}", servers(s)?);
    ensure!(s.last_operations()? == 1, "{} operations", s.last_operations()?);
    Ok(())
}

fn rules_do_not_depend_on_services(s: &mut Subject) -> Result<()> {
    let rules = |s: &Subject| -> Result<Vec<String>> {
        let listing = s.rules().listing()?;
        Ok(listing
            .lines()
            .filter(|line| line.contains("-A ") && line.contains("KUBE-"))
            .map(str::to_owned)
            .collect())
    };
    s.serve_web(&["pod-1"])?;
    let before = rules(s)?;
    ensure!(
        before.iter().any(|rule| rule.contains("--match-set")),
        "the test does not see the rules: {before:#?}"
    );
    s.serve_all_kinds()?;
    let after = rules(s)?;
    ensure!(before == after, "{before:#?} became {after:#?}");
    // Each takes the messages that it needs: two for an endpoint that is replaced.
    let slice = s.slice("web", &["pod-1"]);
    s.cluster.put_slice(slice);
    s.sync()?;
    s.cluster.put(Service::new("lone", s.family().cluster_ip(77)).udp("dns", 53));
    let slice = s.slice_of("lone", [s.endpoint("pod-1")]).port("dns", Protocol::Udp, testbed::POD_PORT);
    s.cluster.put_slice(slice);
    s.sync()?;
    let slice = s.slice_of("lone", [s.endpoint("remote-1")]).port("dns", Protocol::Udp, testbed::POD_PORT);
    s.cluster.put_slice(slice);
    s.sync()?;
    // And the hairpin entry of the one that was here.
    ensure!(s.last_operations()? == 3, "{} operations", s.last_operations()?);
    Ok(())
}
