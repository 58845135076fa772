//! A subject at work.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::process::Process;
use testbed::{Protocol, Proxy};

use crate::frontend::{self, Frontend};
use crate::place::Place;

/// Something that takes longer to serve has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// It ends with the process namespace.
pub(crate) struct Running {
    /// The first of its processes, if it has any.
    process: Option<u32>,
    entries: BTreeMap<u16, SocketAddr>,
    _pointsman: Option<Proxy>,
}

impl Running {
    /// Clients talk to the endpoints.
    pub(crate) fn nothing() -> Self {
        let entries =
            frontend::all().filter_map(|frontend| Some((frontend.port, frontend.targets().next()?)));
        Self { process: None, entries: entries.collect(), _pointsman: None }
    }

    /// A proxy that listens on the node's address, on the ports of the frontends.
    pub(crate) fn program(place: &Place, mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let spawned = place.bed.node.run(|| command.spawn())?;
        let mut child = spawned.with_context(|| format!("cannot run {name}"))?;
        let entries: BTreeMap<_, _> =
            frontend::all().map(|frontend| (frontend.port, (place.node(), frontend.port).into())).collect();
        place.bed.node.run(|| await_listening(&mut child, &entries))?.with_context(|| name)?;
        Ok(Self { process: Some(child.id()), entries, _pointsman: None })
    }

    /// Pointsman, with the address that frontends have.
    pub(crate) fn pointsman(proxy: Proxy, at: IpAddr) -> Result<Self> {
        // Its process is the only one of this name.
        let pids = pids()?;
        let named = |pid: &&u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "pointsman")
        };
        let process = pids.iter().find(named).copied().context("pointsman is not running")?;
        let entries = frontend::all().map(|frontend| (frontend.port, (at, frontend.port).into()));
        Ok(Self { process: Some(process), entries: entries.collect(), _pointsman: Some(proxy) })
    }

    /// Where clients find a frontend.
    pub(crate) fn entry(&self, frontend: Frontend) -> Result<SocketAddr> {
        self.entries.get(&frontend.port).copied().with_context(|| format!("nobody serves {frontend:?}"))
    }

    /// Its processes, by their ids.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let Some(first) = self.process else { return Ok(Vec::new()) };
        let of_it = |pid: &u32| *pid == first || parent(*pid) == Some(first);
        Ok(pids()?.into_iter().filter(of_it).collect())
    }

    /// Processor time of all of them.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.processes()?.into_iter().map(|pid| Process::new(pid).cpu()).sum()
    }
}

fn await_listening(child: &mut Child, entries: &BTreeMap<u16, SocketAddr>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let tcp = frontend::all().filter(|frontend| frontend.protocol == Protocol::Tcp);
    for address in tcp.filter_map(|frontend| entries.get(&frontend.port)) {
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("it ended: {status}");
            }
            if Instant::now() > deadline {
                bail!("it does not listen on {address}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

fn pids() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have any characters: the state, and the parent.
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}
