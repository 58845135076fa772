//! What follows from this node's settings. Pure.

use super::Fact;
use crate::view::{PortView, ServiceView, SettingsView, View};

/// Where node ports answer, and what is masqueraded.
pub(super) fn of(view: &View, service: &ServiceView) -> Vec<Fact> {
    let mut facts: Vec<_> = service.ports.iter().filter_map(|port| node_port(view, port)).collect();
    facts.push(masquerading(view));
    facts
}

fn node_port(view: &View, port: &PortView) -> Option<Fact> {
    let number = port.node_port?;
    let name = if port.name.is_empty() { port.port.to_string() } else { port.name.clone() };
    let meaning = format!("answers on {}", answering(view));
    Some(Fact::new(format!("spec.ports[{name}].nodePort"), format!("{number}/{}", port.protocol), meaning))
}

fn answering(view: &View) -> String {
    let SettingsView { node_port_addresses, localhost_node_ports, .. } = &view.settings;
    let loopback = match (view.mode.as_str(), *localhost_node_ports) {
        ("iptables", true) => "127.0.0.1 among them (--iptables-localhost-nodeports)",
        ("iptables", false) => "but not on 127.0.0.1 (--iptables-localhost-nodeports=false)",
        _ => "but not on loopback addresses",
    };
    match (node_port_addresses.as_slice(), view.mode.as_str()) {
        ([], "nftables") => {
            "the node's primary address of each family (--nodeport-addresses is not given)".to_owned()
        }
        ([], "userspace") => "the addresses that the proxy's process is reached at".to_owned(),
        ([], _) => format!("all addresses of the node, {loopback} (--nodeport-addresses is not given)"),
        ([word], _) if word == "primary" => {
            "the node's primary address of each family (--nodeport-addresses)".to_owned()
        }
        (ranges, _) => {
            format!(
                "those of the node's addresses that are within {} (--nodeport-addresses)",
                ranges.join(", ")
            )
        }
    }
}

fn masquerading(view: &View) -> Fact {
    let settings = &view.settings;
    let seen = "is masqueraded: endpoints see this node's address in place of the client's";
    let cluster_cidr = settings.cluster_cidr.as_str();
    if view.mode == "userspace" {
        let meaning =
            "endpoints see the client's address where answers are sure to come back here, else this node's";
        return Fact::new("(userspace mode)", "", meaning);
    }
    if settings.masquerade_all {
        return Fact::new("--masquerade-all", "true", format!("all traffic to ClusterIPs {seen}"));
    }
    match settings.detect_local_mode.as_str() {
        "NodeCIDR" => {
            let meaning = format!("traffic to ClusterIPs from outside this node's spec.podCIDRs {seen}");
            Fact::new("--detect-local-mode", "NodeCIDR", meaning)
        }
        mode @ ("BridgeInterface" | "InterfaceNamePrefix") => {
            let meaning =
                format!("traffic to ClusterIPs that does not come in by the pods' interfaces {seen}");
            Fact::new("--detect-local-mode", mode, meaning)
        }
        _ if cluster_cidr.is_empty() => {
            let meaning = "not given: traffic to ClusterIPs keeps the client's address, also from outside the cluster, but \
                           for pods that reach themselves";
            Fact::new("--cluster-cidr", "", meaning)
        }
        _ => {
            let meaning = format!("traffic to ClusterIPs from outside these ranges {seen}");
            Fact::new("--cluster-cidr", cluster_cidr, meaning)
        }
    }
}
