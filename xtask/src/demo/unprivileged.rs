//! A demonstration for ordinary users: Services of a folder, at local ports, forwarded by the real binary.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use comfy_table::{Cell, CellAlignment};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{User, program_as};

use super::{step, table};

/// Where the servers are; each is all of an endpoint.
const SERVERS: [(&str, Ipv4Addr); 3] = [
    ("server-1", Ipv4Addr::new(127, 0, 0, 11)),
    ("server-2", Ipv4Addr::new(127, 0, 0, 12)),
    ("server-3", Ipv4Addr::new(127, 0, 0, 13)),
];
const CONNECTIONS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs it in a folder of its own, which goes with it.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    let home = tempfile::tempdir().context("cannot make a folder")?;
    step("Starting three servers on loopback addresses of this machine");
    let port = serve()?;
    SERVERS.iter().for_each(|(name, address)| println!("  {name}  {address}:{port}, TCP and UDP"));
    println!();
    show(&home, port)?;
    drop(home);
    println!(
        "Everything was as expected, and nothing is left of it. {:.1} s.",
        started.elapsed().as_secs_f32()
    );
    Ok(())
}

fn show(home: &TempDir, port: u16) -> Result<()> {
    let demo = Demo::prepare(home.path())?;
    demo.save(&manifest(port, &SERVERS.map(|(_, address)| address)))?;
    step("Starting pointsman as an ordinary user, with a folder of manifests that name these servers");
    let mut pointsman = demo.start()?;
    println!("  {}\n", pointsman.await_line("synced")?);
    step("pointsman status");
    println!("{}", demo.status("table")?);
    let mapping = demo.mapping()?;
    step(&format!("Connecting {CONNECTIONS} times to each of the Services' local ports"));
    fan_out(&mapping, &SERVERS.map(|(name, _)| name))?;
    step("Taking server-2 out of the manifest, and connecting again");
    demo.save(&manifest(port, &[SERVERS[0].1, SERVERS[2].1]))?;
    println!("  {}\n", pointsman.await_line("synced")?);
    fan_out(&mapping, &["server-1", "server-3"])
}

/// Answers on one port of all servers' addresses, for as long as this process lives; returns the port.
fn serve() -> Result<u16> {
    let bind = |port| -> std::io::Result<Vec<_>> {
        let sockets = |(name, address): (_, Ipv4Addr)| {
            Ok((name, TcpListener::bind((address, port))?, UdpSocket::bind((address, port))?))
        };
        SERVERS.map(sockets).into_iter().collect()
    };
    // A port that is free at the first address may be taken at the others.
    let attempt = || {
        let free = TcpListener::bind((SERVERS[0].1, 0))?.local_addr()?.port();
        Ok((free, bind(free)?))
    };
    let found = (0..16).map(|_| attempt()).find(std::io::Result::is_ok);
    let (port, servers) = found.unwrap_or_else(attempt).context("cannot listen on loopback addresses")?;
    for (name, listener, socket) in servers {
        thread::spawn(move || greet(&listener, name));
        thread::spawn(move || answer(&socket, name));
    }
    Ok(port)
}

fn greet(listener: &TcpListener, name: &str) {
    for mut stream in listener.incoming().flatten() {
        // Whoever has gone away already needs no answer.
        let _ = stream.write_all(name.as_bytes());
    }
}

fn answer(socket: &UdpSocket, name: &str) {
    let mut question = [0; 16];
    while let Ok((_, from)) = socket.recv_from(&mut question) {
        let _ = socket.send_to(name.as_bytes(), from);
    }
}

/// Services with these endpoints, as `kubectl get -o json` would print them.
fn manifest(port: u16, addresses: &[Ipv4Addr]) -> Value {
    let services = [("web", 10, "TCP", 80), ("db", 11, "TCP", 5432), ("dns", 12, "UDP", 53)];
    let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    let objects = services.map(|(name, number, protocol, own)| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "demo"},
            "spec": {"clusterIP": format!("172.30.0.{number}"), "ports": [{"protocol": protocol, "port": own}]},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "demo", "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "", "protocol": protocol, "port": port}], "endpoints": endpoints,
        });
        [service, slice]
    });
    json!({"apiVersion": "v1", "kind": "List", "items": objects.as_flattened()})
}

/// A user's home, in which pointsman runs.
struct Demo<'a> {
    home: &'a Path,
    program: PathBuf,
}

impl<'a> Demo<'a> {
    fn prepare(home: &'a Path) -> Result<Self> {
        // As root, the process becomes another user, who must find everything and may write here.
        fs::set_permissions(home, Permissions::from_mode(0o777))?;
        fs::create_dir(home.join("manifests"))?;
        let program = home.join("pointsman");
        fs::copy(testbed::binary()?, &program).context("cannot copy pointsman")?;
        Ok(Self { home, program })
    }

    /// Replaces the manifest, as one.
    fn save(&self, manifest: &Value) -> Result<()> {
        let draft = self.home.join("draft");
        fs::write(&draft, serde_json::to_vec_pretty(manifest)?)?;
        Ok(fs::rename(draft, self.home.join("manifests/demo.json"))?)
    }

    fn command(&self) -> Command {
        let mut command = program_as(User::Ordinary, &self.program);
        let variables = [("HOME", "."), ("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state")];
        command.envs(variables.map(|(name, folder)| (name, self.home.join(folder))));
        command
    }

    fn start(&self) -> Result<Pointsman> {
        let mut command = self.command();
        command.args(["--proxy-mode", "userspace", "--userspace-entry", "bound", "--manifests"]);
        command.arg(self.home.join("manifests"));
        // What else runs on this machine is to keep its ports.
        command.args(["--healthz-bind-address=", "--metrics-bind-address="]);
        let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start pointsman")?;
        let log = child.stderr.take().context("pointsman has no stderr")?;
        Ok(Pointsman { child, log: BufReader::new(log) })
    }

    fn status(&self, form: &str) -> Result<String> {
        let output = self.command().args(["status", "--output", form]).output();
        let output = output.context("cannot run pointsman")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Where each Service is, with its protocol.
    fn mapping(&self) -> Result<Vec<(String, String, SocketAddr)>> {
        let status: Value = serde_json::from_str(&self.status("json")?)?;
        let targets = status["targets"].as_array().context("pointsman listens nowhere")?;
        let text = |target: &Value, field: &str| target[field].as_str().unwrap_or_default().to_owned();
        let read = |target| {
            let [service, protocol] = ["servicePort", "protocol"].map(|field| text(target, field));
            Ok((service, protocol, text(target, "listens").parse()?))
        };
        targets.iter().map(read).collect()
    }
}

/// The running process, which ends with this.
struct Pointsman {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Pointsman {
    /// The next line of its log that has a word in it.
    fn await_line(&mut self, word: &str) -> Result<String> {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            ensure!(self.log.read_line(&mut line)? > 0, "pointsman has ended:\n{said}");
            if line.contains(word) {
                return Ok(line.trim_end().to_owned());
            }
            said += &line;
        }
    }
}

impl Drop for Pointsman {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects to every place, which must lead to these servers in turn.
fn fan_out(mapping: &[(String, String, SocketAddr)], servers: &[&str]) -> Result<()> {
    let mut table = table(&["Service", "", "at", "server-1", "server-2", "server-3"]);
    for (service, protocol, place) in mapping {
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..CONNECTIONS {
            let who = if protocol == "udp" { ask(*place) } else { connect(*place) };
            *shares.entry(who.with_context(|| format!("no answer from {place}"))?).or_default() += 1;
        }
        ensure!(shares.keys().eq(servers), "{service} leads to {shares:?}");
        ensure!(shares.values().all(|count| *count == CONNECTIONS / servers.len()), "{shares:?}");
        let mut cells = vec![Cell::new(service), Cell::new(protocol), Cell::new(place)];
        let count = |name: &str| shares.get(name).copied().unwrap_or_default();
        cells.extend(SERVERS.map(|(name, _)| Cell::new(count(name)).set_alignment(CellAlignment::Right)));
        table.add_row(cells);
    }
    println!("{table}\n");
    Ok(())
}

fn connect(to: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut who = String::new();
    stream.read_to_string(&mut who)?;
    Ok(who)
}

fn ask(to: SocketAddr) -> Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"who?", to)?;
    let mut who = [0; 64];
    let length = socket.recv(&mut who)?;
    Ok(String::from_utf8_lossy(&who[..length]).into_owned())
}
