//! A proxy's binary on a node, with an API server.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::api_server::Options;
use testbed::{ApiServer, Bed, Family, Layout, Outcome, Place, Protocol};

use crate::objects;
use crate::process::Process;

/// A start or a change that takes longer is a failure.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// A node, and an API server that holds many Services and the probed one, which leads to pod 1.
pub struct Cluster {
    /// The node, three pods and a client.
    pub bed: Bed,
    /// The API server.
    pub server: ApiServer,
    kubeconfig: String,
}

impl Cluster {
    /// With so many Services besides the probed one.
    ///
    /// # Errors
    /// When the machine lacks something.
    pub fn new(services: u32) -> Result<Self> {
        let bed = Bed::new(Layout::Routed, 3, 0)?;
        let server = bed.node.run(|| ApiServer::start(Options::default()))??;
        server.load(objects::objects(services)?)?;
        server.load(vec![objects::probed_service(), objects::probed_slice(&bed, 1)])?;
        server.put(testbed::cluster::node(None, &Family::BOTH.map(Family::node), &[]))?;
        let kubeconfig = std::env::temp_dir().join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig())?;
        Ok(Self { bed, server, kubeconfig: kubeconfig.to_string_lossy().into_owned() })
    }

    /// The arguments that lead a proxy to the API server.
    #[must_use]
    pub fn source(&self) -> [&str; 2] {
        ["--kubeconfig", &self.kubeconfig]
    }

    /// Leads the probed Service to another pod. Returns how long it takes until that answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn lead_to(&self, pod: u8) -> Result<Duration> {
        let slice = objects::probed_slice(&self.bed, pod);
        let changed = Instant::now();
        self.server.put(slice)?;
        await_pod(&self.bed, pod)?;
        Ok(changed.elapsed())
    }
}

/// Connects to the probed Service until this pod answers.
///
/// # Errors
/// When it never does.
pub fn await_pod(bed: &Bed, pod: u8) -> Result<()> {
    let name = &bed.pod(pod).name;
    let answers = |outcome: &Outcome| matches!(outcome, Outcome::Answered { by, .. } if by == name);
    let from = Place::of(bed.pod_namespace(3));
    from.connect_until(Protocol::Tcp, objects::probed_address(), PATIENCE, answers).map(drop)
}

/// A running proxy.
pub struct Contender {
    child: Child,
    /// What it uses.
    pub process: Process,
}

impl Contender {
    /// Starts a binary that takes kube-proxy's flags on the node.
    ///
    /// # Errors
    /// When it cannot be run, or ends at once.
    pub fn start<A: AsRef<OsStr>>(bed: &Bed, mut command: Command, args: &[A]) -> Result<Self> {
        let log = File::create(std::env::temp_dir().join("log"))?;
        command.args(args).args(["--hostname-override", objects::NODE]);
        command.args(["--cluster-cidr", Family::V4.cluster_cidr()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = bed.node.run(|| command.spawn())?;
        let mut child = child.with_context(|| format!("cannot run {:?}", command.get_program()))?;
        ensure!(child.try_wait()?.is_none(), "{:?} ended at once", command.get_program());
        Ok(Self { process: Process::new(child.id()), child })
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}
