//! The small cluster: who is where, and how they are joined.
//!
//! ```text
//!  client  203.0.113.2, .130        peer  192.168.0.3, a node with pods 10.180.1.1, .2
//!     |                               |
//!   eth0                            eth1
//!  node  192.168.0.2, 192.168.1.2; default route to the client
//!   pod-1      pod-2      pod-3         (one interface each, or ports of the bridge cni0)
//!     |          |          |
//!  10.180.0.1  10.180.0.2  10.180.0.3
//! ```
//!
//! IPv6 alike, with addresses that read alike. Everybody sends everything to the node; what the node sends out and
//! nobody has is answered as unreachable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::namespace::Namespace;
use crate::responder::Responder;

/// Port that every pod answers on, over TCP and UDP.
pub const POD_PORT: u16 = 8080;
/// A second port that every pod answers on.
pub const OTHER_POD_PORT: u16 = 9090;

/// An address family to run a scenario in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn pick(self, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(v4).into(),
            Self::V6 => Ipv6Addr::from(v6).into(),
        }
    }

    /// ClusterIP number `n`, within [`Family::service_cidr`].
    #[must_use]
    pub fn cluster_ip(self, n: u8) -> IpAddr {
        self.pick([172, 30, 0, n], [0xfd00, 0x172, 0x30, 0, 0, 0, 0, n.into()])
    }

    /// External address number `n`, which no host has.
    #[must_use]
    pub fn external_ip(self, n: u8) -> IpAddr {
        self.pick([5, 5, 5, n], [0xfd00, 0x5, 0, 0, 0, 0, 0, n.into()])
    }

    /// Load-balancer address number `n`, which no host has.
    #[must_use]
    pub fn load_balancer_ip(self, n: u8) -> IpAddr {
        self.pick([6, 6, 6, n], [0xfd00, 0x6, 0, 0, 0, 0, 0, n.into()])
    }

    /// The node's own address.
    #[must_use]
    pub fn node(self) -> IpAddr {
        self.pick([192, 168, 0, 2], [0xfd00, 0x192, 0x168, 0, 0, 0, 0, 2])
    }

    /// The node's second address.
    #[must_use]
    pub fn second_node_address(self) -> IpAddr {
        self.pick([192, 168, 1, 2], [0xfd00, 0x192, 0x168, 1, 0, 0, 0, 2])
    }

    /// The node's address towards its pods, within the pods' range.
    #[must_use]
    pub fn gateway(self) -> IpAddr {
        self.pick([10, 180, 0, 254], [0xfd00, 0x10, 0x180, 0, 0, 0, 0, 0xfe])
    }

    /// The other node's address.
    #[must_use]
    pub fn peer(self) -> IpAddr {
        self.pick([192, 168, 0, 3], [0xfd00, 0x192, 0x168, 0, 0, 0, 0, 3])
    }

    /// The outside client's address.
    #[must_use]
    pub fn client(self) -> IpAddr {
        self.pick([203, 0, 113, 2], [0xfd00, 0x203, 0, 0, 0, 0, 0, 2])
    }

    /// The outside client's second address.
    #[must_use]
    pub fn foreign_client(self) -> IpAddr {
        self.pick([203, 0, 113, 130], [0xfd00, 0x203, 0, 0, 0, 0, 0, 0x8000])
    }

    /// A range that holds the client's first address but not its second.
    #[must_use]
    pub fn client_range(self) -> &'static str {
        match self {
            Self::V4 => "203.0.113.0/25",
            Self::V6 => "fd00:203::/113",
        }
    }

    /// This node's loopback address.
    #[must_use]
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Pod `n` of node `node` (0 is this node, 1 the other).
    #[must_use]
    pub fn pod(self, node: u8, n: u8) -> IpAddr {
        self.pick([10, 180, node, n], [0xfd00, 0x10, 0x180, node.into(), 0, 0, 0, n.into()])
    }

    /// Where ClusterIPs come from.
    #[must_use]
    pub fn service_cidr(self) -> &'static str {
        match self {
            Self::V4 => "172.30.0.0/16",
            Self::V6 => "fd00:172:30::/112",
        }
    }

    /// Where pod addresses come from, on all nodes.
    #[must_use]
    pub fn cluster_cidr(self) -> &'static str {
        match self {
            Self::V4 => "10.0.0.0/8",
            Self::V6 => "fd00:10::/32",
        }
    }

    /// `IPv4` or `IPv6`, as Kubernetes writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// Which families pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// IPv4 alone
    V4,
    /// IPv6 alone
    V6,
    /// Both
    Dual,
}

impl Stack {
    /// Every one there is.
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Dual];

    /// As tests are named by it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
            Self::Dual => "dual",
        }
    }

    /// The families.
    #[must_use]
    pub fn families(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Dual => &Family::BOTH,
        }
    }
}

/// How pods are joined to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Layout {
    /// By an interface each, `pod-1` and so on.
    #[default]
    Routed,
    /// By ports of the bridge `cni0`.
    Bridged,
}

/// A pod: where it runs, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// What it answers with: `pod-1` on this node, `remote-1` on the other.
    pub name: String,
    /// Its node's name: `node` or `peer`.
    pub node: &'static str,
    /// Which of the node's pods.
    pub number: u8,
}

impl Pod {
    /// Its address.
    #[must_use]
    pub fn ip(&self, family: Family) -> IpAddr {
        family.pod(u8::from(self.node != "node"), self.number)
    }
}

/// The cluster.
#[derive(Debug)]
pub struct Bed {
    /// The node that the proxy runs on.
    pub node: Namespace,
    /// The other node, which is also where its pods are.
    pub peer: Namespace,
    /// Outside clients, both addresses.
    pub client: Namespace,
    pods: Vec<(Pod, Namespace)>,
    remote_pods: Vec<Pod>,
    responders: Vec<Responder>,
}

impl Bed {
    /// Builds it, with so many pods on this node and on the other, all of them answering.
    ///
    /// # Errors
    /// When the kernel refuses or `ip` is missing.
    pub fn new(layout: Layout, local_pods: u8, remote_pods: u8) -> Result<Self> {
        let [node, peer, client] = ["node", "peer", "client"].map(Namespace::new);
        let (node, peer, client) = (node?, peer?, client?);
        for router in [&node, &client] {
            router.sysctl("net/ipv4/ip_forward", "1")?;
            router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
            // Every refusal is to be heard, however many there are.
            router.sysctl("net/ipv4/icmp_ratelimit", "0")?;
            router.sysctl("net/ipv6/icmp/ratelimit", "0")?;
            router.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
            router.sysctl("net/ipv4/conf/default/send_redirects", "0")?;
        }
        let mut bed =
            Self { node, peer, client, pods: Vec::new(), remote_pods: Vec::new(), responders: Vec::new() };
        bed.join_client()?;
        bed.join_peer(remote_pods)?;
        bed.join_pods(layout, local_pods)?;
        Ok(bed)
    }

    /// A pod of this node, counted from 1.
    #[must_use]
    pub fn pod(&self, number: u8) -> &Pod {
        &self.pods[usize::from(number) - 1].0
    }

    /// The namespace of a pod of this node, counted from 1.
    #[must_use]
    pub fn pod_namespace(&self, number: u8) -> &Namespace {
        &self.pods[usize::from(number) - 1].1
    }

    /// All pods, of both nodes.
    #[must_use]
    pub fn all_pods(&self) -> Vec<&Pod> {
        self.pods.iter().map(|(pod, _)| pod).chain(&self.remote_pods).collect()
    }

    /// A pod of the other node, counted from 1.
    #[must_use]
    pub fn remote_pod(&self, number: u8) -> &Pod {
        &self.remote_pods[usize::from(number) - 1]
    }

    /// Lets every pod answer over SCTP too.
    ///
    /// # Errors
    /// When the kernel has no SCTP.
    pub fn answer_sctp(&mut self) -> Result<()> {
        let pods = self.pods.iter().map(|(_, namespace)| namespace);
        for namespace in [&self.node, &self.peer, &self.client].into_iter().chain(pods) {
            // What gets lost is sent again after three seconds if nothing is known of the way yet, which is as long as
            // anybody waits here for an answer. (Over IPv6, one greeting in some thousand never leaves its pod.)
            namespace.sysctl("net/sctp/rto_min", "200")?;
            namespace.sysctl("net/sctp/rto_initial", "400")?;
        }
        let local = self.pods.iter().map(|(pod, namespace)| (namespace, pod));
        let remote = self.remote_pods.iter().map(|pod| (&self.peer, pod));
        for (namespace, pod) in local.chain(remote) {
            self.responders.extend(Responder::all_sctp_ports(namespace, pod)?);
        }
        Ok(())
    }

    fn join_client(&self) -> Result<()> {
        self.node.ip("link add eth0 type veth peer name eth0 netns client\nlink set eth0 up")?;
        let (mut node, mut client) = (String::new(), "link set eth0 up\n".to_owned());
        for family in Family::BOTH {
            let prefix = family.host_prefix();
            let [one, two] = [family.node(), family.second_node_address()];
            node +=
                &format!("addr add {one}/{prefix} dev eth0 nodad\naddr add {two}/{prefix} dev eth0 nodad\n");
            for address in [family.client(), family.foreign_client()] {
                client += &format!("addr add {address}/{prefix} dev eth0 nodad\n");
                node += &format!("route add {address}/{prefix} dev eth0 src {one}\n");
            }
            client += &format!("route add {one}/{prefix} dev eth0 src {}\n", family.client());
            client += &format!("route add default via {one} dev eth0 src {}\n", family.client());
            // As on a real node, there is a way out for everything.
            node += &format!("route add default via {} dev eth0 src {one}\n", family.client());
        }
        self.client.ip(&client)?;
        self.node.ip(&node)?;
        self.end_of_the_world()
    }

    /// What the node sends out and nobody has is answered as unreachable, as a router outside would.
    fn end_of_the_world(&self) -> Result<()> {
        for family in ["-4", "-6"] {
            let rule = [family, "rule", "add", "iif", "eth0", "lookup", "100"];
            self.client.output("ip", &rule)?;
            self.client.output("ip", &[family, "route", "add", "unreachable", "default", "table", "100"])?;
        }
        Ok(())
    }

    fn join_peer(&mut self, pods: u8) -> Result<()> {
        self.node.ip("link add eth1 type veth peer name eth0 netns peer\nlink set eth1 up")?;
        let (mut node, mut peer) = (String::new(), "link set eth0 up\n".to_owned());
        for family in Family::BOTH {
            let prefix = family.host_prefix();
            let [ours, theirs] = [family.node(), family.peer()];
            // Neighbour discovery answers only for addresses of the interface that was asked.
            node += &format!("addr add {ours}/{prefix} dev eth1 nodad\n");
            peer +=
                &format!("addr add {theirs}/{prefix} dev eth0 nodad\nroute add {ours}/{prefix} dev eth0\n");
            peer += &format!("route add default via {ours} dev eth0 src {theirs}\n");
            node += &format!("route add {theirs}/{prefix} dev eth1 src {ours}\n");
            for number in 1..=pods {
                let pod = family.pod(1, number);
                peer += &format!("addr add {pod}/{prefix} dev lo nodad\n");
                node += &format!("route add {pod}/{prefix} via {theirs} dev eth1 src {ours}\n");
            }
        }
        self.peer.ip(&peer)?;
        self.node.ip(&node)?;
        for number in 1..=pods {
            let pod = Pod { name: format!("remote-{number}"), node: "peer", number };
            self.responders.extend(Responder::all_ports(&self.peer, &pod)?);
            self.remote_pods.push(pod);
        }
        Ok(())
    }

    fn join_pods(&mut self, layout: Layout, pods: u8) -> Result<()> {
        if layout == Layout::Bridged {
            let addresses = Family::BOTH.map(|family| {
                format!("addr add {}/{} dev cni0 nodad\n", family.gateway(), family.host_prefix())
            });
            self.node.ip(&format!("link add cni0 type bridge\nlink set cni0 up\n{}", addresses.concat()))?;
        }
        for number in 1..=pods {
            let pod = Pod { name: format!("pod-{number}"), node: "node", number };
            let namespace = Namespace::new(&pod.name)?;
            self.join_pod(layout, &pod, &namespace)?;
            self.responders.extend(Responder::all_ports(&namespace, &pod)?);
            self.pods.push((pod, namespace));
        }
        Ok(())
    }

    fn join_pod(&self, layout: Layout, pod: &Pod, namespace: &Namespace) -> Result<()> {
        let name = &pod.name;
        let mut node = format!("link add {name} type veth peer name eth0 netns {name}\nlink set {name} up\n");
        if layout == Layout::Bridged {
            // A pod that reaches itself comes back through the port it left by.
            node += &format!("link set {name} master cni0\nlink set {name} type bridge_slave hairpin on\n");
        }
        let mut inside = "link set eth0 up\n".to_owned();
        for family in Family::BOTH {
            let (gateway, prefix, ip) = (family.gateway(), family.host_prefix(), pod.ip(family));
            let towards = match layout {
                Layout::Routed => {
                    node += &format!("addr add {gateway}/{prefix} dev {name} nodad\n");
                    name
                }
                Layout::Bridged => "cni0",
            };
            node += &format!("route add {ip}/{prefix} dev {towards} src {}\n", family.node());
            inside +=
                &format!("addr add {ip}/{prefix} dev eth0 nodad\nroute add {gateway}/{prefix} dev eth0\n");
            inside += &format!("route add default via {gateway} dev eth0 src {ip}\n");
        }
        self.node.ip(&node)?;
        namespace.ip(&inside)
    }
}
