//! What scenarios work on: a node, a runtime on it, the network that it attaches pods to, and somebody outside.
//!
//! ```text
//!  outside  192.168.0.1 ──── eth0  node  192.168.0.2 ─┬─ pods in 10.88.0.0/24
//! ```
//!
//! IPv6 alike: `fd00:192:168::` and `fd00:88::/64`.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cni::{Attachment, List, Pod, Runtime, There, node};
use testbed::{Family, Namespace, Outcome, Place, Protocol, Stack, await_that};

/// Where the daemon tells of the node's network.
const PUBLISHED: &str = "/run/pointsman/network.json";

/// How pods are joined to their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// By our plugin, a veth pair each.
    Routed,
    /// By our plugin, on a bridge.
    Bridge,
    /// By Debian's plugin, on a bridge.
    Reference,
}

impl Path {
    pub(crate) const OURS: [Self; 2] = [Self::Routed, Self::Bridge];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Bridge => "bridge",
            Self::Reference => "reference",
        }
    }
}

/// The pods' range.
pub(crate) fn subnet(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.88.0.0/24",
        Family::V6 => "fd00:88::/64",
    }
}

/// Address number so and so of the pods' range.
pub(crate) fn pod_address(family: Family, number: u16) -> IpAddr {
    match family {
        Family::V4 => {
            let [high, low] = number.to_be_bytes();
            [10, 88, high, low].into()
        }
        Family::V6 => IpAddr::from([0xfd00, 0x88, 0, 0, 0, 0, 0, number]),
    }
}

/// The node's address.
pub(crate) fn node_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 168, 0, 2]),
        Family::V6 => IpAddr::from([0xfd00, 0x192, 0x168, 0, 0, 0, 0, 2]),
    }
}

/// The address of somebody outside.
pub(crate) fn outside_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 168, 0, 1]),
        Family::V6 => IpAddr::from([0xfd00, 0x192, 0x168, 0, 0, 0, 0, 1]),
    }
}

/// A node and what attaches pods to it.
pub(crate) struct Scene {
    pub(crate) path: Path,
    pub(crate) stack: Stack,
    pub(crate) node: Namespace,
    pub(crate) outside: Namespace,
    pub(crate) runtime: Runtime,
    pub(crate) list: List,
}

impl Scene {
    pub(crate) fn prepare(path: Path, stack: Stack) -> Result<Self> {
        let (node, outside) = (node("node")?, Namespace::new("outside")?);
        node.ip("link add eth0 type veth peer name eth0 netns outside\nlink set eth0 up")?;
        outside.ip("link set eth0 up")?;
        for family in Family::BOTH {
            let length = if family == Family::V4 { 24 } else { 64 };
            let (ours, theirs) = (node_address(family), outside_address(family));
            node.ip(&format!("addr add {ours}/{length} dev eth0 nodad\nroute add default via {theirs}"))?;
            let pods = subnet(family);
            outside.ip(&format!("addr add {theirs}/{length} dev eth0 nodad\nroute add {pods} via {ours}"))?;
        }
        let runtime = Runtime::on(&node)?;
        let list = List::new("pods", "1.0.0").then(plugin(path, &ranges(stack)));
        Ok(Self { path, stack, node, outside, runtime, list })
    }

    pub(crate) fn explain(&self) -> String {
        let kernels_own = ["route: multicast", "route: local", "route: anycast", "route: broadcast"];
        let shown = |there: There| {
            kernels_own.into_iter().fold(there, |there, text| there.without(text)).with("").join("\n")
        };
        let there = There::on(&self.node).map(shown);
        format!("--- what is there\n{}", there.unwrap_or_else(|error| format!("{error:#}")))
    }

    pub(crate) fn families(&self) -> &'static [Family] {
        self.stack.families()
    }

    /// Whether our own plugin attaches pods.
    pub(crate) fn is_ours(&self) -> bool {
        self.path != Path::Reference
    }

    /// The network in version 1.1.0, in which GC and STATUS are.
    pub(crate) fn newest(&self) -> List {
        self.list.in_version("1.1.0")
    }

    /// Has the plugin of the network take other settings.
    pub(crate) fn set(&mut self, key: &str, value: Value) -> Result<()> {
        let plugin = self.list.plugins.first_mut().and_then(Value::as_object_mut).context("no plugin")?;
        plugin.insert(key.to_owned(), value);
        Ok(())
    }

    /// Has addresses taken from other ranges, or otherwise.
    pub(crate) fn set_ipam(&mut self, key: &str, value: Value) -> Result<()> {
        let plugin = self.list.plugins.first_mut().context("no plugin")?;
        let ipam = plugin["ipam"].as_object_mut().context("no ipam")?;
        ipam.insert(key.to_owned(), value);
        Ok(())
    }

    /// A pod that is attached, and answers.
    pub(crate) fn pod(&self, name: &str) -> Result<Pod> {
        let mut pod = Pod::new(name)?;
        self.attach(&mut pod)?;
        pod.answer()?;
        Ok(pod)
    }

    /// Attaches a pod.
    pub(crate) fn attach(&self, pod: &mut Pod) -> Result<()> {
        pod.result = self.runtime.add(&self.list, &pod.attachment)?;
        Ok(())
    }

    /// Detaches a pod.
    pub(crate) fn detach(&self, pod: &Pod) -> Result<()> {
        self.runtime.del(&self.list, &pod.attachment)
    }

    /// What is there.
    pub(crate) fn there(&self) -> Result<There> {
        There::on(&self.node)
    }

    /// What is there when a first pod has come and gone: a bridge, chains without rules, and how far addresses were given
    /// out stay.
    pub(crate) fn ground(&self) -> Result<There> {
        self.ground_of(|attachment| attachment)
    }

    /// The same when the first pod was attached in a certain way.
    pub(crate) fn ground_of(&self, how: impl FnOnce(Attachment) -> Attachment) -> Result<There> {
        let mut first = Pod::new("first")?;
        first.attachment = how(first.attachment);
        self.attach(&mut first)?;
        self.detach(&first)?;
        self.there()
    }

    /// Waits until nothing is there but what was there before: the kernel takes a namespace down by and by.
    pub(crate) fn await_as(&self, before: &There) -> Result<()> {
        let waited = await_that("all is as before", || Ok(self.must_be_as(before).is_ok()));
        waited.or_else(|_| self.must_be_as(before))
    }

    /// Has the node's addresses run out soon.
    pub(crate) fn small_ranges(&mut self) -> Result<()> {
        let subnets = self.families().iter().map(|family| match family {
            Family::V4 => json!([{ "subnet": "10.88.0.0/29" }]),
            // The same number of pods as the other, and one less.
            Family::V6 => {
                json!([{ "subnet": "fd00:88::/64", "rangeStart": "fd00:88::2", "rangeEnd": "fd00:88::5" }])
            }
        });
        let subnets: Vec<_> = subnets.collect();
        self.set_ipam("ranges", json!(subnets))
    }

    /// How many pods there is room for in small ranges.
    pub(crate) fn small(&self) -> u16 {
        // Neither the network, nor the gateway, nor broadcast.
        if self.stack == Stack::V4 { 5 } else { 4 }
    }

    /// Tells plugins of the node's network, as the daemon does.
    pub(crate) fn publish(&self, mtu: u32) -> Result<()> {
        let ranges: Vec<&str> = self.families().iter().map(|family| subnet(*family)).collect();
        let data_path = if self.path == Path::Bridge { "bridge" } else { "routed" };
        let published = json!({
            "podCIDRs": ranges, "clusterCIDRs": ["10.80.0.0/12", "fd00:80::/28"], "mtu": mtu,
            "dataPath": data_path, "backend": "vxlan",
        });
        self.node.run(|| fs::write(PUBLISHED, published.to_string()))??;
        Ok(())
    }

    /// Tells plugins that the node's network is not ready.
    pub(crate) fn unpublish(&self) -> Result<()> {
        Ok(self.node.run(|| fs::remove_file(PUBLISHED))??)
    }

    /// Somebody outside reaches a pod.
    pub(crate) fn outside_must_reach(&self, protocol: Protocol, to: SocketAddr, pod: &str) -> Result<()> {
        let outcome = Place::of(&self.outside).connect(protocol, to)?;
        let answered = matches!(&outcome, Outcome::Answered { by, .. } if by == pod);
        ensure!(answered, "from outside to {to} over {protocol:?}: {outcome}");
        Ok(())
    }

    /// Fails unless nothing is there but what was there before.
    pub(crate) fn must_be_as(&self, before: &There) -> Result<()> {
        self.there()?.must_be_as(before)
    }
}

/// Ranges as `host-local` is told of them.
pub(crate) fn ranges(stack: Stack) -> Value {
    let ranges: Vec<_> =
        stack.families().iter().map(|family| json!([{ "subnet": subnet(*family) }])).collect();
    json!(ranges)
}

/// A plugin that joins pods so.
pub(crate) fn plugin(path: Path, ranges: &Value) -> Value {
    let ours = |mode: &str| {
        json!({
            "type": "pointsman-cni", "mode": mode, "gate": "off",
            "ipam": { "type": "pointsman-ipam", "ranges": ranges },
            "capabilities": { "portMappings": true, "bandwidth": true, "ips": true, "mac": true },
        })
    };
    match path {
        Path::Routed => ours("routed"),
        Path::Bridge => {
            let mut plugin = ours("bridge");
            plugin["hairpinMode"] = json!(true);
            plugin
        }
        Path::Reference => json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "ranges": ranges,
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
            "capabilities": { "ips": true, "mac": true },
        }),
    }
}

/// What the network's plugin reads.
pub(crate) fn configuration_of(s: &Scene) -> Vec<u8> {
    let mut configuration = s.list.plugins.first().cloned().unwrap_or_default();
    configuration["name"] = json!(s.list.name);
    configuration["cniVersion"] = json!(s.list.version);
    configuration.to_string().into_bytes()
}
