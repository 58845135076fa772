//! A node, which is the test's own network namespace, and pods on it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cni::attach::{Assigned, DataPath, PortMapper, Wanted, host_interface_name};
use kernel::netns::Netns;

/// For what surely comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// What must not come has not come after this.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(300);

/// A pod's network namespace. It is as container runtimes make it: nothing is set up.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) netns: Netns,
}

impl Pod {
    pub(crate) fn new(name: &str) -> Result<Self> {
        ip(&format!("netns add {name}"))?;
        let netns = Netns::open(Path::new(&format!("/run/netns/{name}")))?;
        Ok(Self { name: name.to_owned(), netns })
    }

    pub(crate) fn ip(&self, command: &str) -> Result<String> {
        ip(&format!("-n {} {command}", self.name))
    }

    pub(crate) fn wanted(&self, path: DataPath, addresses: &[&str]) -> Result<Wanted> {
        let assigned = |text: &&str| {
            let address: ipnet::IpNet = text.parse()?;
            let first = match address.network() {
                IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + 1).into(),
                IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + 1).into(),
            };
            anyhow::Ok(Assigned { address, gateway: Some(first) })
        };
        Ok(Wanted {
            container: format!("container-{}", self.name),
            interface: "eth0".to_owned(),
            netns: self.netns.path().to_owned(),
            host_interface: host_interface_name(&format!("container-{}", self.name), "eth0"),
            path,
            mtu: None,
            mac: None,
            addresses: addresses.iter().map(assigned).collect::<Result<_>>()?,
            routes: Vec::new(),
            ports: Vec::new(),
            port_mapper: PortMapper::Auto,
            bandwidth: None,
        })
    }

    /// Answers what comes to a port, over TCP and UDP, with the source that it sees.
    pub(crate) fn serve(&self, port: u16) -> Result<()> {
        self.netns.run(|| serve(port))?
    }

    /// Whom a server at an address takes this pod for; `None` if it cannot be reached. One packet must do over UDP.
    pub(crate) fn ask(&self, over: Over, to: SocketAddr) -> Result<Option<SocketAddr>> {
        self.netns.run(|| ask(over, None, to, PATIENCE))?
    }
}

pub(crate) fn ip(command: &str) -> Result<String> {
    run("ip", command)
}

pub(crate) fn run(program: &str, arguments: &str) -> Result<String> {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.with_context(|| format!("cannot run {program}: is it installed?"))?;
    ensure!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) const ROUTED: DataPath = DataPath::Routed;

pub(crate) fn bridge() -> DataPath {
    DataPath::Bridge { name: "cni0".to_owned(), hairpin: false, promiscuous: false }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Udp,
}

pub(crate) const BOTH: [Over; 2] = [Over::Tcp, Over::Udp];

fn unspecified(to: SocketAddr) -> SocketAddr {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, 0)
}

/// Serves where this thread is.
pub(crate) fn serve(port: u16) -> Result<()> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let (listener, socket) = (TcpListener::bind(any)?, UdpSocket::bind(any)?);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(source) = stream.peer_addr() else { continue };
            let _ = stream.write_all(source.to_string().as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, source)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(source.to_string().as_bytes(), source);
        }
    });
    Ok(())
}

/// Asks a server from where this thread is.
pub(crate) fn ask(
    over: Over,
    from: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Result<Option<SocketAddr>> {
    let mut answer = Vec::new();
    let asked = match over {
        Over::Tcp => TcpStream::connect_timeout(&to, patience).and_then(|mut stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.read_to_end(&mut answer).map(drop)
        }),
        Over::Udp => (|| {
            let socket = UdpSocket::bind(from.map_or(unspecified(to), |from| SocketAddr::new(from, 0)))?;
            socket.set_read_timeout(Some(patience))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            answer.resize(64, 0);
            let length = socket.recv(&mut answer)?;
            answer.truncate(length);
            Ok(())
        })(),
    };
    match asked {
        Ok(()) => {
            let seen: SocketAddr = String::from_utf8(answer)?.parse()?;
            let address = seen.ip().to_canonical();
            Ok(Some(SocketAddr::new(address, seen.port())))
        }
        Err(error) => match error.kind() {
            ErrorKind::TimedOut
            | ErrorKind::WouldBlock
            | ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => Ok(None),
            _ => bail!("{over:?} to {to}: {error}"),
        },
    }
}
