//! BIRD tells and learns.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use cni::network::{Backend, BgpPeer, BgpSettings, News, Settings, Update, bird};
use testbed::suite::Test;
use testbed::{Place, under_traffic};

use crate::cluster::{Cluster, Node, PORT};
use crate::settings;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("nodes_learn_from_each_other", mesh),
        Test::new("no_connection_is_lost_to_bgp_and_back", there_and_back),
        Test::new("nodes_learn_by_way_of_a_router", top_of_rack),
    ]
}

/// BIRD in a namespace, until the end of the test.
struct Bird {
    child: Child,
    folder: tempfile::TempDir,
}

impl Bird {
    fn start(host: &testbed::Namespace, configuration: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (file, control) = (folder.path().join("bird.conf"), folder.path().join("bird.ctl"));
        fs::write(&file, configuration)?;
        let mut command = Command::new("bird");
        command.args(bird::arguments(&file, &control)).stderr(Stdio::null());
        let child = host.run(|| command.spawn())?.context("apt-get install bird2")?;
        Ok(Self { child, folder })
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("bird.ctl")
    }

    fn ask(&self, question: &str) -> Result<String> {
        let mut command = Command::new("birdc");
        command.arg("-s").arg(self.control()).args(question.split(' '));
        let output = command.output().context("apt-get install bird2")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn established(&self) -> Result<usize> {
        let shown = bird::protocols(&self.ask("show protocols")?);
        Ok(shown.iter().filter(|shown| shown.is_established()).count())
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts BIRD on every node.
fn start(cluster: &Cluster) -> Result<Vec<Bird>> {
    let bird = |node: &Node| {
        let wanted = node.model.desired().bgp.as_ref().context("nothing for BIRD")?;
        Bird::start(&node.host, &bird::configuration(wanted))
    };
    cluster.nodes.iter().map(bird).collect()
}

fn learned(node: &mut Node) -> Result<BTreeMap<ipnet::IpNet, cni::network::Way>> {
    let applier = &mut node.applier;
    Ok(node.host.run(|| applier.learned())??)
}

/// Waits until every node has learned of every other in both families, and takes that in.
fn learn(cluster: &mut Cluster) -> Result<()> {
    let others = cluster.nodes.len() - 1;
    for node in &mut cluster.nodes {
        testbed::await_that(&format!("{} learns", node.name), || Ok(learned(node)?.len() == 2 * others))?;
        let routes = learned(node)?;
        node.model.apply(Update::Learned { routes, settled: true });
        node.apply()?;
    }
    cluster.settle()
}

fn mesh() -> Result<()> {
    let mut cluster = Cluster::new(3, 0, &settings(Backend::Vxlan))?;
    for at in 0..3 {
        cluster.set(at, &settings(Backend::Bgp))?;
    }
    // Until all is learned, things stay as they were.
    cluster.check_all_reach_all()?;
    ensure!(cluster.nodes[0].object.metadata.annotations["flannel.alpha.coreos.com/backend-type"] == "vxlan");
    let Node { applier, host, .. } = &mut cluster.nodes[0];
    let mut monitor = host.run(|| applier.watch())??;
    let birds = start(&cluster)?;
    while monitor.next()? != News::Learned {}
    learn(&mut cluster)?;
    ensure!(birds[0].established()? == 4, "{}", birds[0].ask("show protocols")?);
    let known = bird::routes(&birds[0].ask("show route")?);
    let best = known.iter().filter(|known| known.best && known.gateway.is_some()).count();
    ensure!(best == 4, "{known:?}");
    cluster.count(0)?;
    cluster.check_all_reach_all()?;
    ensure!(cluster.counted("vxlan")? == 0 && cluster.counted("plain")? > 10);
    let node = &mut cluster.nodes[0];
    let shown = node.shows("ip route show 10.244.2.0/24")?;
    ensure!(shown.contains("via 192.0.2.2 dev eth0 proto 112"), "{shown}");
    ensure!(!node.shows("ip link")?.contains("flannel"), "a device that nobody needs");
    // What BIRD wrote stays when it ends, and is not told on.
    drop(birds);
    ensure!(learned(node)?.len() == 4);
    cluster.check_all_reach_all()
}

/// From VXLAN, and back to it; BIRD ends only when all have gone over.
fn there_and_back() -> Result<()> {
    let mut cluster = Cluster::new(3, 0, &settings(Backend::Vxlan))?;
    let (client, server) = (cluster.nodes[0].pod.again()?, cluster.nodes[1].pod_address(false));
    let to = std::net::SocketAddr::new(server, PORT);
    let mut open = Place::of(&client).open(to)?;
    under_traffic(Place::of(&client), to, || {
        for at in 0..3 {
            cluster.set(at, &settings(Backend::Bgp))?;
            open.echo()?;
        }
        let birds = start(&cluster)?;
        learn(&mut cluster)?;
        open.echo()?;
        for at in 0..3 {
            cluster.set(at, &settings(Backend::Vxlan))?;
            open.echo()?;
        }
        drop(birds);
        open.echo()
    })?;
    cluster.count(0)?;
    cluster.check_all_reach_all()?;
    ensure!(cluster.counted("plain")? == 0 && cluster.counted("vxlan")? > 10);
    Ok(())
}

fn top_of_rack() -> Result<()> {
    let peer = |address: &str| -> Result<BgpPeer> {
        Ok(BgpPeer { address: address.parse()?, autonomous_system: 65000 })
    };
    let mut cluster = Cluster::new(2, 0, &settings(Backend::Vxlan))?;
    let bgp = BgpSettings {
        mesh: false,
        peers: vec![peer("192.0.2.254")?, peer("2001:db8::fe")?],
        ..BgpSettings::default()
    };
    for at in 0..2 {
        cluster.set(at, &Settings { bgp: bgp.clone(), ..settings(Backend::Bgp) })?;
    }
    let mut text = "router id 192.0.2.254;\nprotocol device {}\n".to_owned();
    for (family, addresses) in [(4, ["192.0.2.1", "192.0.2.2"]), (6, ["2001:db8::1", "2001:db8::2"])] {
        text +=
            &format!("protocol kernel k{family} {{ ipv{family} {{ export where source = RTS_BGP; }}; }}\n");
        for (at, address) in addresses.iter().enumerate() {
            text += &format!(
                "protocol bgp n{family}{at} {{ local as 65000; neighbor {address} as 64512; direct;\n\
                 connect delay time 1;\nipv{family} {{ import all; export all; next hop self; }}; }}\n"
            );
        }
    }
    let router = Bird::start(&cluster.wire, &text)?;
    let birds = start(&cluster)?;
    learn(&mut cluster)?;
    ensure!(birds[0].established()? == 2 && router.established()? == 4);
    let shown = cluster.nodes[0].shows("ip route show 10.244.2.0/24")?;
    ensure!(shown.contains("via 192.0.2.254 dev eth0 proto 112"), "{shown}");
    cluster.check_all_reach_all()
}
