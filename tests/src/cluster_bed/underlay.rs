//! What nodes are joined by: two networks, a router between them, and the world behind it.
//!
//! ```text
//!   node 1        node 2                     node 3 on the other network
//!   .1 |          .2 |                          .3 |
//!   ───┴── near ─────┴── 192.168.70.254 router 192.168.71.254 ── far ───┴───
//!                                 └── world 203.0.113.2
//! ```
//!
//! IPv6 alike: `fd00:70::/64`, `fd00:71::/64`, `fd00:203::2`. The router knows nothing of pods, unless a protocol tells it.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::node::Node;
use crate::bed::Family;
use crate::namespace::Namespace;
use crate::responder::Responder;

/// The port that the world answers on.
pub const WORLD_PORT: u16 = 80;
/// The name of the router's namespace.
const ROUTER: &str = "router";

/// A network that nodes can be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lan {
    /// Where nodes usually are.
    Near,
    /// Behind the router.
    Far,
}

impl Lan {
    const BOTH: [Self; 2] = [Self::Near, Self::Far];

    fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Near => 70,
            Self::Far => 71,
        }
    }

    /// The address of its node of this number.
    #[must_use]
    pub fn address(self, family: Family, node: u8) -> IpAddr {
        match family {
            Family::V4 => [192, 168, self.number(), node].into(),
            // So that addresses read alike.
            Family::V6 if self == Self::Near => [0xfd00, 0x70, 0, 0, 0, 0, 0, node.into()].into(),
            Family::V6 => [0xfd00, 0x71, 0, 0, 0, 0, 0, node.into()].into(),
        }
    }

    /// The router's address.
    #[must_use]
    pub fn router(self, family: Family) -> IpAddr {
        self.address(family, 254)
    }
}

/// The length of a network's prefix.
pub(super) fn prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// The address of the world.
#[must_use]
pub fn world(family: Family) -> IpAddr {
    match family {
        Family::V4 => [203, 0, 113, 2].into(),
        Family::V6 => [0xfd00, 0x203, 0, 0, 0, 0, 0, 2].into(),
    }
}

/// The networks and their router.
#[derive(Debug)]
pub struct Underlay {
    /// The router, which has the networks' bridges and is the world, too.
    pub router: Namespace,
    /// Keep the world answering.
    _responders: Vec<Responder>,
}

impl Underlay {
    pub(super) fn new() -> Result<Self> {
        let router = Namespace::new(ROUTER)?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        router.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        router.sysctl("net/ipv4/conf/default/send_redirects", "0")?;
        let mut commands = String::new();
        for lan in Lan::BOTH {
            let name = lan.name();
            // Nothing is to be learned by snooping, and each frame is to go where it belongs at once.
            commands += &format!("link add {name} type bridge mcast_snooping 0\nlink set {name} up\n");
            for family in Family::BOTH {
                let address = lan.router(family);
                commands += &format!("addr add {address}/{} dev {name} nodad\n", prefix(family));
            }
        }
        for family in Family::BOTH {
            let length = if family == Family::V4 { 32 } else { 128 };
            commands += &format!("addr add {}/{length} dev lo nodad\n", world(family));
        }
        router.ip(&commands)?;
        let responders = Family::BOTH.map(|family| {
            let address: SocketAddr = (world(family), WORLD_PORT).into();
            Responder::new(&router, address, "world")
        });
        Ok(Self { router, _responders: responders.into_iter().collect::<Result<_>>()? })
    }

    /// Plugs a node in: its `eth0`, with its addresses and its default routes.
    pub(super) fn plug(&self, node: &Namespace, number: u8, lan: Lan) -> Result<()> {
        let (name, port) = (node.name(), port(node));
        self.router.ip(&format!(
            "link add {port} type veth peer name eth0 netns {name}\nlink set {port} master {} up\n",
            lan.name()
        ))?;
        let mut commands = "link set eth0 up\n".to_owned();
        for family in Family::BOTH {
            let (address, router) = (lan.address(family, number), lan.router(family));
            commands += &format!("addr add {address}/{} dev eth0 nodad\n", prefix(family));
            commands += &format!("route add default via {router} dev eth0\n");
        }
        node.ip(&commands)
    }

    /// Cuts a node off. Its own device keeps its carrier, as behind a switch.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut_off(&self, node: &Node) -> Result<()> {
        self.router.ip(&format!("link set {} nomaster", port(&node.namespace)))
    }

    /// Joins a node again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join_again(&self, node: &Node) -> Result<()> {
        self.router.ip(&format!("link set {} master {}", port(&node.namespace), node.lan().name()))
    }

    /// Has all of a network carry packets of another size.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mtu(&self, nodes: &[Node], mtu: u32) -> Result<()> {
        for node in nodes {
            self.router.ip(&format!("link set {} mtu {mtu}", port(&node.namespace)))?;
            node.namespace.ip(&format!("link set eth0 mtu {mtu}"))?;
        }
        Ok(())
    }
}

/// The router's port that a node is plugged into.
fn port(node: &Namespace) -> String {
    format!("to-{}", node.name())
}
