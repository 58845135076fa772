//! The same rules in the kernel, in a network namespace of their own: read back by way of either back end, they lead
//! where their text does, and a client that was there comes back.

use std::net::UdpSocket;
use std::process::Command;

use endpoint_cache::Protocol::{Tcp, Udp};
use kernel::iptables::{Backend, Iptables};
use testbed::isolation;

use super::node::{CLIENT, NODE, Node, POD, packet, told};
use super::{SERVICES, walk_on};
use crate::trace::iptables::walk;

/// The one test of this module that runs there.
const INSIDE: &str = "trace::iptables::tests::kernel_check::rules_in_the_kernel_lead_where_their_text_does";

/// A service with affinity.
const DNS: &str = "10.96.0.53:53";

#[test]
fn rules_in_the_kernel_lead_where_their_text_does() {
    if isolation::is_isolated() {
        isolation::settle().unwrap();
        Backend::BOTH.into_iter().for_each(check);
        return;
    }
    let args = [INSIDE, "--exact", "--nocapture"].map(Into::into);
    let mut child = isolation::this_program(&args).unwrap().spawn().unwrap();
    // Kept open, since it ends when that closes.
    let stdin = child.stdin.take();
    assert!(child.wait().unwrap().success());
    drop(stdin);
}

fn check(backend: Backend) {
    let programs = Iptables::find(backend, false).unwrap();
    let node = Node::default();
    let asked = packet(POD, "10.96.0.10:80", Tcp);
    assert_eq!(walk(&asked, &node).unwrap(), None, "{backend}: nothing is there yet");
    programs.restore(SERVICES).unwrap();
    for (source, to, protocol) in [
        (POD, "10.96.0.10:80", Tcp),
        (NODE, "10.96.0.12:80", Tcp),
        (CLIENT, "10.96.0.11:80", Tcp),
        (CLIENT, "192.168.1.5:30082", Tcp),
        (CLIENT, "203.0.113.6:80", Tcp),
        (CLIENT, DNS, Udp),
    ] {
        let found = walk(&packet(source, to, protocol), &node).unwrap().unwrap();
        assert_eq!(found, walk_on(&node, SERVICES, source, to, protocol), "{backend}: {source} to {to}");
    }
    comes_back(&node);
    // The other back end is looked at alone next.
    let tables = ["nat", "filter"].map(|table| format!("*{table}\nCOMMIT\n")).concat();
    run(&format!("printf '{tables}' | iptables-{backend}-restore"));
}

fn run(script: &str) {
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success(), "{script}");
}

/// Sends a packet to the service with affinity, from an address that it leaves by.
fn comes_back(node: &Node) {
    run(&format!("ip addr replace {NODE}/24 dev lo && ip route replace 10.0.0.0/8 dev lo src {NODE}"));
    let asked = packet(NODE, DNS, Udp);
    let before = walk(&asked, node).unwrap().unwrap();
    assert_eq!(told(&before).len(), 2, "{before:?}");
    UdpSocket::bind((NODE, 0)).unwrap().send_to(b"x", DNS).unwrap();
    let found = walk(&asked, node).unwrap().unwrap();
    assert_eq!(told(&found).len(), 1, "{found:?}");
    assert!(found.ways[0].steps.iter().any(|step| step.what.contains("--rcheck")), "{found:?}");
}
