//! Two pods and their node, and what they send each other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use policy::Enforcer;
use socket2::{Domain, Socket, Type};
use testbed::Namespace;

use crate::contender::Contender;
use crate::world;

/// Both in the same namespace.
const CLIENT: u32 = 0;
const SERVER: u32 = 100;
/// Where pods send everything.
const GATEWAY: &str = "169.254.1.1";

/// What is sent at once.
const DATAGRAMS: u32 = 100;
const REQUESTS: u32 = 50;
const CONNECTIONS: u32 = 20;
const CHUNKS: u32 = 8;
const CHUNK: usize = 32 << 10;

/// What the node has programmed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Node {
    /// Nothing, and it knows of no connections.
    Blank,
    /// Nothing, but conntrack is at work.
    Tracking,
    /// Every policy, and so many that isolate the server.
    Policies(u32),
}

/// A way of sending.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Traffic {
    Datagrams,
    Requests,
    Transfer,
    Connections,
}

pub(crate) struct Network {
    client: Namespace,
    /// They stay as long as somebody is in them.
    _others: [Namespace; 2],
    _enforcer: Option<Box<dyn Enforcer>>,
    datagrams: [UdpSocket; 2],
    stream: [TcpStream; 2],
    listener: TcpListener,
    address: SocketAddr,
}

impl Network {
    pub(crate) fn new(of: Contender, node: Node, number: usize) -> Result<Self> {
        let new = |name: &str| Namespace::new(&format!("{name}-{number}"));
        let (client, middle, server) = (new("client")?, new("node")?, new("server")?);
        join(&middle, &client, CLIENT)?;
        join(&middle, &server, SERVER)?;
        middle.sysctl("net/ipv4/ip_forward", "1")?;
        let enforcer = match node {
            Node::Blank => None,
            Node::Tracking => {
                // That a rule somewhere asks for it is enough.
                middle.feed(
                    "nft",
                    &["-f", "-"],
                    "table ip tracking {\nchain unused {\nct state new\n}\n}\n",
                )?;
                None
            }
            Node::Policies(of_server) => Some(middle.run(|| enforce(of, of_server))??),
        };
        let address = SocketAddr::from((world::address(world::local(SERVER)), world::POD_PORT));
        let (bound, listener) = server.run(|| -> Result<_> {
            let bound = UdpSocket::bind(address)?;
            bound.set_nonblocking(true)?;
            Ok((bound, TcpListener::bind(address)?))
        })??;
        let (sender, stream) = client.run(|| -> Result<_> {
            let sender = UdpSocket::bind("0.0.0.0:0")?;
            sender.connect(address)?;
            Ok((sender, TcpStream::connect(address).context("the policies are to allow it")?))
        })??;
        let (accepted, _) = listener.accept()?;
        for end in [&stream, &accepted] {
            end.set_nodelay(true)?;
        }
        listener.set_nonblocking(true)?;
        Ok(Self {
            client,
            _others: [middle, server],
            _enforcer: enforcer,
            datagrams: [sender, bound],
            stream: [stream, accepted],
            listener,
            address,
        })
    }

    /// How long it takes to send something once.
    pub(crate) fn time(&mut self, traffic: Traffic) -> Result<Duration> {
        match traffic {
            Traffic::Datagrams => self.send_datagrams(),
            Traffic::Requests => self.ask(),
            Traffic::Transfer => self.transfer(),
            Traffic::Connections => self.connect(),
        }
    }

    fn send_datagrams(&self) -> Result<Duration> {
        let [sender, receiver] = &self.datagrams;
        let started = Instant::now();
        for _ in 0..DATAGRAMS {
            sender.send(&[7; 32])?;
        }
        let time = started.elapsed();
        let received = std::iter::from_fn(|| receiver.recv(&mut [0; 64]).ok()).count();
        ensure!(received == DATAGRAMS as usize, "{received} datagrams came at once");
        Ok(time / DATAGRAMS)
    }

    fn ask(&mut self) -> Result<Duration> {
        let ([asking, answering], mut byte) = (&mut self.stream, [0]);
        let started = Instant::now();
        for _ in 0..REQUESTS {
            asking.write_all(&byte)?;
            answering.read_exact(&mut byte)?;
            answering.write_all(&byte)?;
            asking.read_exact(&mut byte)?;
        }
        Ok(started.elapsed() / REQUESTS)
    }

    fn transfer(&mut self) -> Result<Duration> {
        let ([sender, receiver], mut chunk) = (&mut self.stream, vec![0; CHUNK]);
        let started = Instant::now();
        for _ in 0..CHUNKS {
            sender.write_all(&chunk)?;
            receiver.read_exact(&mut chunk)?;
        }
        Ok(started.elapsed())
    }

    /// Connections are reset when they are closed, so that they leave no state behind that waits for a timer.
    fn connect(&self) -> Result<Duration> {
        let socket = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_linger(Some(Duration::ZERO))?;
            Ok(socket)
        };
        let sockets: std::io::Result<Vec<Socket>> =
            self.client.run(|| (0..CONNECTIONS).map(socket).collect())?;
        let (sockets, to) = (sockets?, self.address.into());
        let started = Instant::now();
        for socket in &sockets {
            socket.connect(&to).context("cannot connect")?;
        }
        let time = started.elapsed();
        drop(sockets);
        while self.listener.accept().is_ok() {}
        Ok(time / CONNECTIONS)
    }
}

/// Gives a pod of the node its interface and address.
fn join(node: &Namespace, pod: &Namespace, index: u32) -> Result<()> {
    let (device, address) = (format!("to-{index}"), world::address(world::local(index)));
    node.ip(&format!(
        "link add {device} type veth peer name eth0 netns {}\n\
         addr add {GATEWAY}/32 dev {device}\nlink set {device} up",
        pod.name()
    ))?;
    pod.ip(&format!(
        "addr add {address}/32 dev eth0\nlink set eth0 up\n\
         route add {GATEWAY} dev eth0 scope link\nroute add default via {GATEWAY}"
    ))?;
    node.ip(&format!("route add {address} dev {device}"))
}

fn enforce(of: Contender, of_server: u32) -> Result<Box<dyn Enforcer>> {
    let mut compiler = world::compiled()?;
    for number in world::POLICIES_OF_A_POD..of_server {
        // Names that come before the others': what allows the traffic is asked last.
        let (name, port) = (format!("a-{number}"), 7_000 + u16::try_from(number)?);
        compiler.apply(world::update(world::more(world::local(SERVER), &name, port))?);
    }
    compiler.take_delta();
    let mut enforcer = of.open()?;
    enforcer.resync(compiler.program())?;
    Ok(enforcer)
}
