//! Nodes on an underlay, each with a pod, joined by the model and the applier as the daemon does it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use cni::network::{Applier, Nodes, Report, Settings, Update};
use endpoint_cache::object::{Kind, Node as Object, NodeAddress, ObjectName, ObjectRef};
use testbed::{Namespace, Outcome, Place, Protocol, Responder};

/// Where every pod, and the host beyond the cluster, answers.
pub(crate) const PORT: u16 = 7777;

/// Nodes, a wire that joins them, and a host beyond the cluster.
pub(crate) struct Cluster {
    /// A switch, and the router of all networks.
    pub(crate) wire: Namespace,
    pub(crate) outside: Namespace,
    pub(crate) nodes: Vec<Node>,
    _responders: Vec<Responder>,
}

/// A node, and the pod on it.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) number: u8,
    pub(crate) host: Namespace,
    pub(crate) pod: Namespace,
    pub(crate) object: Object,
    pub(crate) model: Nodes,
    pub(crate) applier: Applier,
    _responders: Vec<Responder>,
}

impl Cluster {
    /// Nodes 1 to `near` on one link, and `far` further ones on another.
    pub(crate) fn new(near: u8, far: u8, settings: &Settings) -> Result<Self> {
        let wire = Namespace::new("wire")?;
        wire.ip("link add br0 type bridge\nlink set br0 up\naddr add 192.0.2.254/24 dev br0")?;
        wire.ip("addr add 2001:db8::fe/64 dev br0 nodad")?;
        wire.ip("link add br1 type bridge\nlink set br1 up\naddr add 198.51.100.254/24 dev br1")?;
        wire.ip("addr add 2001:db8:1::fe/64 dev br1 nodad")?;
        wire.sysctl("net/ipv4/ip_forward", "1")?;
        wire.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let outside = Namespace::new("outside")?;
        attach(&wire, &outside, "outside", "br0", &["192.0.2.200/24".into(), "2001:db8::200/64".into()])?;
        let mut responders = Vec::new();
        for address in ["192.0.2.200", "2001:db8::200"] {
            responders.push(Responder::new(&outside, SocketAddr::new(address.parse()?, PORT), "outside")?);
        }
        let nodes = (1..=near + far).map(|number| Node::new(&wire, number, number > near, settings));
        let nodes = nodes.collect::<Result<_>>()?;
        let mut cluster = Self { wire, outside, nodes, _responders: responders };
        cluster.settle()?;
        Ok(cluster)
    }

    /// Tells every node of all others until there is no more to tell.
    pub(crate) fn settle(&mut self) -> Result<()> {
        for _ in 0..10 {
            let all: Vec<_> = self.nodes.iter().map(|node| node.object.clone()).collect();
            let mut quiet = true;
            for node in &mut self.nodes {
                quiet &= !node.hear(&all)?;
            }
            if quiet && self.nodes.iter().map(|node| &node.object).eq(&all) {
                return Ok(());
            }
        }
        anyhow::bail!("the nodes do not come to rest")
    }

    /// Other settings for a node; the others hear of what follows.
    pub(crate) fn set(&mut self, at: usize, settings: &Settings) -> Result<()> {
        let node = &mut self.nodes[at];
        node.model.set(settings.clone());
        node.applier.set(settings.clone());
        node.apply()?;
        self.settle()
    }

    /// A node is gone.
    pub(crate) fn delete(&mut self, at: usize) -> Result<Node> {
        let gone = self.nodes.remove(at);
        let object = ObjectRef { kind: Kind::Node, name: ObjectName::new("", &gone.name) };
        for node in &mut self.nodes {
            node.model.apply(Update::Deleted(object.clone()));
            node.apply()?;
        }
        Ok(gone)
    }

    /// Every pod reaches every other in both families, under its own address.
    pub(crate) fn check_all_reach_all(&self) -> Result<()> {
        for from in &self.nodes {
            for to in self.nodes.iter().filter(|to| to.name != from.name) {
                for v6 in [false, true] {
                    from.check_reaches(to, v6)?;
                }
            }
        }
        Ok(())
    }

    /// Counts, from now on, what goes over a node's cable: VXLAN packets of network 1, and pods' own.
    pub(crate) fn count(&self, at: usize) -> Result<()> {
        let device = format!("to-{}", self.nodes[at].name);
        let rules = format!(
            "table netdev count {{\n\
             chain ingress {{ type filter hook ingress device {device} priority 0;\n\
             udp dport 8472 @th,64,8 0x08 @th,96,24 1 counter comment \"vxlan\"\n\
             udp dport 8472 @th,96,24 != 1 counter comment \"other\"\n\
             ip daddr 10.244.0.0/16 counter comment \"plain\"\n\
             ip6 daddr fd00:244::/32 counter comment \"plain6\"\n}}\n}}\n"
        );
        self.wire.feed("nft", &["-f", "-"], &rules).map(drop)
    }

    /// What was counted by a rule.
    pub(crate) fn counted(&self, comment: &str) -> Result<u64> {
        let listed = self.wire.output("nft", &["list", "table", "netdev", "count"])?;
        let line = listed.lines().find(|line| line.contains(&format!("\"{comment}\"")));
        let line = line.with_context(|| format!("no rule {comment} in {listed}"))?;
        let packets = line.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        packets.context("no counter")?.parse().context("a counter is no number")
    }
}

/// Joins a namespace to a switch.
fn attach(wire: &Namespace, host: &Namespace, name: &str, bridge: &str, addresses: &[String]) -> Result<()> {
    wire.ip(&format!("link add to-{name} type veth peer name eth0 netns {}", host.name()))?;
    wire.ip(&format!("link set to-{name} master {bridge} up"))?;
    host.ip("link set eth0 up")?;
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        host.ip(&format!("addr add {address} dev eth0 {nodad}"))?;
    }
    Ok(())
}

impl Node {
    fn new(wire: &Namespace, number: u8, far: bool, settings: &Settings) -> Result<Self> {
        let name = ["", "a", "b", "c", "d"][usize::from(number)].to_owned();
        let host = Namespace::new(&name)?;
        let (v4, v6, bridge) =
            if far { ("198.51.100", "2001:db8:1:", "br1") } else { ("192.0.2", "2001:db8:", "br0") };
        attach(wire, &host, &name, bridge, &[format!("{v4}.{number}/24"), format!("{v6}:{number}/64")])?;
        host.ip(&format!("route add default via {v4}.254\nroute add default via {v6}:fe"))?;
        let mut object = Object::default();
        object.metadata.name.clone_from(&name);
        object.metadata.creation_timestamp = Some(format!("2026-01-0{number}T00:00:00Z"));
        object.spec.pod_cidrs = vec![format!("10.244.{number}.0/24"), format!("fd00:244:{number}::/64")];
        for address in [format!("{v4}.{number}"), format!("{v6}:{number}")] {
            object.status.addresses.push(NodeAddress { address_type: "InternalIP".into(), address });
        }
        let pod = Namespace::new(&format!("pod-{name}"))?;
        let applier = host.run(|| Applier::open(settings.clone()))??;
        let mut node = Self {
            model: Nodes::new(name.as_str(), settings.clone()),
            name,
            number,
            host,
            pod,
            object,
            applier,
            _responders: Vec::new(),
        };
        node.attach_pod()?;
        for v6 in [false, true] {
            let address = SocketAddr::new(node.pod_address(v6), PORT);
            node._responders.push(Responder::new(&node.pod, address, &node.name)?);
            node._responders.push(Responder::new(
                &node.host,
                SocketAddr::new(node.address(v6), PORT),
                "node",
            )?);
        }
        node.start()?;
        Ok(node)
    }

    /// As the plugin does it in routed mode.
    fn attach_pod(&self) -> Result<()> {
        let (v4, v6) = (self.pod_address(false), self.pod_address(true));
        self.host.ip(&format!("link add pod0 type veth peer name eth0 netns {}", self.pod.name()))?;
        self.host.ip("link set pod0 up\naddr add fe80::1/64 dev pod0 nodad")?;
        self.host.sysctl("net/ipv4/conf/pod0/proxy_arp", "1")?;
        self.host.sysctl("net/ipv4/neigh/pod0/proxy_delay", "0")?;
        self.pod
            .ip(&format!("link set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad"))?;
        self.pod.ip("route add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1 dev eth0")?;
        self.pod.ip("route add default via fe80::1 dev eth0")?;
        self.host.ip(&format!("route add {v4}/32 dev pod0 proto 112\nroute add {v6}/128 dev pod0 proto 112"))
    }

    /// What the daemon does when it starts.
    pub(crate) fn start(&mut self) -> Result<Report> {
        self.model.apply(Update::Node(Box::new(self.object.clone())));
        self.look_for_uplinks()?;
        let _ = self.model.take_delta();
        self.resync()
    }

    pub(crate) fn look_for_uplinks(&mut self) -> Result<()> {
        let own = self.model.own_addresses();
        let applier = &mut self.applier;
        let uplinks = self.host.run(|| applier.uplinks(&own))??;
        self.model.apply(Update::Uplinks(uplinks));
        Ok(())
    }

    pub(crate) fn resync(&mut self) -> Result<Report> {
        let (applier, desired) = (&mut self.applier, self.model.desired());
        Ok(self.host.run(|| applier.resync(desired))??)
    }

    /// Brings the kernel to what the model says by now; true if that is something else.
    pub(crate) fn apply(&mut self) -> Result<bool> {
        Ok(self.apply_counted()?.0)
    }

    /// The same; how much was written, too.
    pub(crate) fn apply_counted(&mut self) -> Result<(bool, usize)> {
        let delta = self.model.take_delta();
        let (applier, desired) = (&mut self.applier, self.model.desired());
        let report = self.host.run(|| applier.apply(&delta, desired))??;
        ensure!(report.refused.is_empty(), "{}: {report:?}", self.name);
        if let Some(announcement) = &self.model.desired().announcement {
            for (name, value) in announcement.annotations() {
                match value {
                    Some(value) => self.object.metadata.annotations.insert(name, value),
                    None => self.object.metadata.annotations.remove(&name),
                };
            }
        }
        Ok((!delta.is_empty(), report.operations))
    }

    /// Hears of Nodes; true if something follows from them.
    pub(crate) fn hear(&mut self, objects: &[Object]) -> Result<bool> {
        for object in objects {
            let problems = self.model.apply(Update::Node(Box::new(object.clone())));
            for problem in problems {
                // Others may have to announce themselves first.
                ensure!(problem.reason.contains("yet"), "{}: {problem:?}", self.name);
            }
        }
        self.apply()
    }

    pub(crate) fn address(&self, v6: bool) -> IpAddr {
        let addresses = self.object.status.addresses.iter().filter_map(|found| found.address.parse().ok());
        let found = addresses.into_iter().find(|address: &IpAddr| address.is_ipv6() == v6);
        found.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }

    pub(crate) fn pod_address(&self, v6: bool) -> IpAddr {
        let number = self.number;
        if v6 {
            std::net::Ipv6Addr::new(0xfd00, 0x244, u16::from(number), 0, 0, 0, 0, 2).into()
        } else {
            std::net::Ipv4Addr::new(10, 244, number, 2).into()
        }
    }

    /// Its pod reaches another's, under its own address.
    pub(crate) fn check_reaches(&self, to: &Self, v6: bool) -> Result<()> {
        let target = SocketAddr::new(to.pod_address(v6), PORT);
        for protocol in Protocol::BOTH {
            let outcome = Place::of(&self.pod).connect(protocol, target)?;
            let wanted = Outcome::Answered { by: to.name.clone(), seen_as: self.pod_address(v6) };
            ensure!(outcome == wanted, "{protocol:?} from {} to {target}: {outcome}", self.name);
        }
        Ok(())
    }

    /// What `ip`, `bridge` or `nft` say of the node.
    pub(crate) fn shows(&self, command: &str) -> Result<String> {
        let words: Vec<_> = command.split(' ').collect();
        self.host.output(words[0], &words[1..])
    }

    /// Routes between nodes, neighbours and forwarding entries, as many as there are.
    pub(crate) fn entries(&self) -> Result<BTreeMap<&'static str, usize>> {
        let lines = |text: String, word: &str| text.lines().filter(|line| line.contains(word)).count();
        Ok(BTreeMap::from([
            ("route", lines(self.shows("ip -4 route show proto 112")?, "via")),
            ("neighbour", lines(self.shows("ip -4 neigh show dev flannel.1")?, "PERMANENT")),
            ("forwarding", lines(self.shows("bridge fdb show dev flannel.1")?, "dst")),
        ]))
    }
}
