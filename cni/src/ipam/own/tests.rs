use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::spec::{Config, Ipam};

/// A folder with networks, and a file that stands for a network namespace.
struct Node {
    folder: tempfile::TempDir,
    boot: Boot,
    gone: Mutex<Vec<String>>,
}

fn attachment(container: &str) -> Attachment {
    Attachment::new(container, "eth0").unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Node {
    fn new() -> Self {
        let node =
            Self { folder: tempfile::tempdir().unwrap(), boot: Boot::current(), gone: Mutex::default() };
        fs::write(node.netns("netns"), "").unwrap();
        node
    }

    fn netns(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("networks")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data().join("pods").join(name)
    }

    fn ipam(&self, mut section: serde_json::Value) -> OwnIpam {
        section["dataDir"] = json!(self.data());
        let config = json!({"cniVersion": "1.0.0", "name": "pods", "ipam": section});
        match Config::decode(config.to_string().into_bytes()).unwrap().ipam {
            Ipam::Own(own) => *own,
            Ipam::Plugin(_) => unreachable!(),
        }
    }

    fn add_from(
        &self,
        ipam: &OwnIpam,
        container: &str,
        netns: &str,
        asked: &[&str],
    ) -> Result<Vec<IpAddr>, Error> {
        let birth = Birth::now(&self.boot, Some(&self.netns(netns)), None, "pointsman-ipam");
        let requested: Vec<_> = asked.iter().map(|text| ip(text)).collect();
        let outcome = add(&Lease {
            network: "pods",
            ipam,
            published: None,
            attachment: &attachment(container),
            birth: &birth,
            requested: &requested,
            gone: &|attachment| self.gone.lock().unwrap().push(attachment.to_string()),
        })?;
        Ok(outcome.ips.iter().map(|ip| ip.address.addr()).collect())
    }

    fn add(&self, ipam: &OwnIpam, container: &str) -> Result<Vec<IpAddr>, Error> {
        self.add_from(ipam, container, "netns", &[])
    }

    fn del(&self, container: &str) {
        del(&self.data(), "pods", &attachment(container)).unwrap();
    }

    /// The addresses that have a file, by what a reader of `host-local`'s layout sees.
    fn taken(&self) -> BTreeSet<(IpAddr, String)> {
        let files = fs::read_dir(self.data().join("pods")).into_iter().flatten().flatten();
        let address = |file: fs::DirEntry| {
            let address = file.file_name().to_str()?.parse().ok()?;
            Some((address, fs::read_to_string(file.path()).ok()?))
        };
        files.filter_map(address).collect()
    }
}

#[test]
fn files_are_those_of_the_reference() {
    let node = Node::new();
    let ipam = node.ipam(json!({"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]}));
    assert_eq!(node.add(&ipam, "a").unwrap(), [ip("10.0.0.2"), ip("fd00::2")]);
    assert_eq!(fs::read(node.file("10.0.0.2")).unwrap(), b"a\r\neth0");
    assert_eq!(fs::read(node.file("fd00::2")).unwrap(), b"a\r\neth0");
    assert_eq!(fs::read(node.file("last_reserved_ip.0")).unwrap(), b"10.0.0.2");
    assert_eq!(fs::read(node.file("last_reserved_ip.1")).unwrap(), b"fd00::2");
    assert!(node.file("lock").exists());
    node.del("a");
    assert!(node.taken().is_empty());
    assert_eq!(fs::read_dir(node.file(".pointsman")).unwrap().count(), 0);
}

#[test]
fn an_attachment_has_its_addresses_once() {
    let node = Node::new();
    let ipam = node.ipam(json!({"subnet": "10.0.0.0/24"}));
    node.add(&ipam, "a").unwrap();
    let error = node.add(&ipam, "a").unwrap_err();
    assert_eq!(error.code, Code::EXISTS);
    assert!(error.details.contains("10.0.0.2"));
    assert_eq!(node.taken().len(), 1);
    let second = Attachment::new("a", "eth1").unwrap();
    let birth = Birth::default();
    let lease = Lease {
        network: "pods",
        ipam: &ipam,
        published: None,
        attachment: &second,
        birth: &birth,
        requested: &[],
        gone: &|_| {},
    };
    assert_eq!(add(&lease).unwrap().ips[0].address.to_string(), "10.0.0.3/24");
    node.del("a");
    assert_eq!(node.taken().len(), 1, "the other interface keeps its address");
    for _ in 0..2 {
        node.del("a");
        node.del("never");
    }
}

#[test]
fn a_full_range_is_named_with_its_owners_and_nothing_is_taken() {
    let node = Node::new();
    let ipam = node.ipam(json!({"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/126"}]]}));
    for container in ["a", "b"] {
        node.add(&ipam, container).unwrap();
    }
    let before = node.taken();
    let error = node.add(&ipam, "c").unwrap_err();
    assert_eq!(error.code, Code::ADDRESS);
    for part in ["range set 1 (fd00::/126", "2 of 2 are taken", "fd00::2 by a/eth0", "fd00::3 by b/eth0"] {
        assert!(error.details.contains(part), "{error}");
    }
    assert_eq!(node.taken(), before, "the first family's address is not kept");
    assert_eq!(status("pods", &ipam, None).unwrap_err().code, Code::NOT_AVAILABLE);
    node.del("a");
    status("pods", &ipam, None).unwrap();
    assert_eq!(node.add(&ipam, "c").unwrap()[1], ip("fd00::2"));
}

#[test]
fn addresses_are_had_as_asked_for() {
    let node = Node::new();
    let ipam = node.ipam(json!({"ranges": [
        [{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.9"}, {"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}));
    let asked = |container: &str, asked: &[&str]| node.add_from(&ipam, container, "netns", asked);
    assert_eq!(asked("a", &["fd00::a", "10.1.0.7"]).unwrap(), [ip("10.1.0.7"), ip("fd00::a")]);
    for (addresses, why) in [
        (&["10.1.0.7"][..], "a/eth0 has it"),
        (&["10.0.0.10"], "none of the ranges"),
        (&["10.9.0.1"], "none of the ranges"),
        (&["10.0.0.1"], "it is the gateway"),
        (&["10.1.0.255"], "none of the ranges"),
        (&["10.1.0.0"], "none of the ranges"),
        (&["10.0.0.5", "10.0.0.6"], "10.0.0.5 is asked for from the same range set"),
    ] {
        let error = asked("b", addresses).unwrap_err();
        assert_eq!(error.code, Code::ADDRESS);
        assert!(error.details.contains(why), "{addresses:?}: {error}");
    }
    assert_eq!(node.taken().len(), 2, "nothing is left of those that were refused");
}

#[test]
fn what_is_torn_is_free_and_what_is_unreadable_is_not() {
    let node = Node::new();
    let ipam = node.ipam(json!({"subnet": "10.0.0.0/29"}));
    fs::create_dir_all(node.file("10.0.0.3")).unwrap();
    fs::write(node.file("10.0.0.2"), "").unwrap();
    fs::write(node.file("10.0.0.4"), "old-container").unwrap();
    fs::write(node.file("last_reserved_ip.0"), "nonsense").unwrap();
    fs::write(node.file("10.0.0.05"), "x").unwrap();
    assert_eq!(node.add(&ipam, "a").unwrap(), [ip("10.0.0.2")]);
    assert_eq!(node.add(&ipam, "b").unwrap(), [ip("10.0.0.5")]);
    assert_eq!(node.add(&ipam, "c").unwrap(), [ip("10.0.0.6")]);
    let error = node.add(&ipam, "d").unwrap_err();
    assert!(error.details.contains("10.0.0.3 by what cannot be read"), "{error}");
    node.del("old-container");
    assert_eq!(node.add(&ipam, "d").unwrap(), [ip("10.0.0.4")]);
}

#[test]
fn addresses_from_before_a_boot_are_free() {
    let mut node = Node::new();
    let ipam = node.ipam(json!({"subnet": "10.0.0.0/24"}));
    node.boot.id = "an-older-boot".into();
    for container in ["a", "b"] {
        node.add(&ipam, container).unwrap();
    }
    fs::write(node.file("10.0.0.9"), "c\r\neth0").unwrap();
    fs::write(node.file("10.0.0.10"), "d\r\neth0").unwrap();
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(node.file("10.0.0.9")).unwrap().set_modified(past).unwrap();
    // So it would be had the kernel been started since.
    fs::write(node.file("lock"), "boot:an-older-boot\n").unwrap();
    node.boot = Boot::current();
    assert_eq!(node.add(&ipam, "e").unwrap(), [ip("10.0.0.4")]);
    let left: Vec<_> = node.taken().into_iter().map(|(address, _)| address).collect();
    assert_eq!(left, [ip("10.0.0.4"), ip("10.0.0.10")], "what the reference took since stays");
    let notes = fs::read_dir(node.file(".pointsman")).unwrap().count();
    assert_eq!(notes, 1, "the new one's");
}

#[test]
fn a_folder_that_is_taken_over_keeps_what_is_in_it() {
    let node = Node::new();
    let ipam = node.ipam(json!({"subnet": "10.0.0.0/24"}));
    fs::create_dir_all(node.data().join("pods")).unwrap();
    fs::write(node.file("10.0.0.2"), "a\r\neth0").unwrap();
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(node.file("10.0.0.2")).unwrap().set_modified(past).unwrap();
    assert_eq!(node.add(&ipam, "b").unwrap(), [ip("10.0.0.3")]);
    assert_eq!(node.taken().len(), 2);
}

#[test]
fn a_full_range_gives_back_what_belongs_to_namespaces_that_are_gone() {
    let node = Node::new();
    let ipam = node.ipam(json!({"subnet": "10.0.0.0/29"}));
    fs::write(node.netns("gone"), "").unwrap();
    for (container, netns) in [("a", "netns"), ("b", "gone"), ("c", "netns"), ("d", "gone"), ("e", "netns")] {
        node.add_from(&ipam, container, netns, &[]).unwrap();
    }
    assert!(node.add(&ipam, "f").is_err());
    fs::remove_file(node.netns("gone")).unwrap();
    status("pods", &ipam, None).unwrap();
    assert_eq!(node.add(&ipam, "f").unwrap(), [ip("10.0.0.3")]);
    assert_eq!(node.add(&ipam, "g").unwrap(), [ip("10.0.0.5")]);
    node.gone.lock().unwrap().sort();
    assert_eq!(*node.gone.lock().unwrap(), ["b/eth0", "d/eth0"], "each is told of once");
    assert!(node.add(&ipam, "h").is_err());
}

#[test]
fn check_and_gc_go_by_the_files() {
    let node = Node::new();
    let ipam = node.ipam(json!({"subnet": "10.0.0.0/24"}));
    for container in ["a", "b", "c"] {
        node.add(&ipam, container).unwrap();
    }
    fs::write(node.file("10.0.0.20"), "old").unwrap();
    fs::write(node.file("10.0.0.21"), "older").unwrap();
    let check = |container: &str, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|text| ip(text)).collect();
        check(&node.data(), "pods", &attachment(container), &expected)
    };
    check("a", &["10.0.0.2"]).unwrap();
    check("a", &[]).unwrap();
    assert!(check("a", &["10.0.0.3"]).unwrap_err().details.contains("belongs to b/eth0"));
    assert!(check("a", &["10.0.0.99"]).unwrap_err().details.contains("is free"));
    assert_eq!(check("x", &[]).unwrap_err().code, Code::NOT_AS_MADE);

    gc(&node.data(), "pods", &[attachment("b"), attachment("old")]).unwrap();
    let left: Vec<_> = node.taken().into_iter().map(|(address, _)| address).collect();
    assert_eq!(left, [ip("10.0.0.3"), ip("10.0.0.20")]);
    assert_eq!(fs::read_dir(node.file(".pointsman")).unwrap().count(), 1);
    gc(&node.data(), "pods", &[]).unwrap();
    assert!(node.taken().is_empty());
    gc(&node.data(), "none", &[]).unwrap();
    assert!(!node.data().join("none").exists(), "nothing is made by looking");
}

#[test]
fn many_at_once_get_addresses_of_their_own() {
    let node = Node::new();
    let ipam = node.ipam(json!({"subnet": "10.0.0.0/24"}));
    let names: Vec<_> = (0..32).map(|at| format!("c{at}")).collect();
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            names.iter().map(|name| scope.spawn(|| node.add(&ipam, name).unwrap()[0])).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert_eq!(node.taken().len(), names.len());
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| node.del(name));
        }
    });
    assert!(node.taken().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Del(u8),
    /// An `ADD` that is killed when it has written so many files.
    Crash(u8, u8),
    /// A file that was begun and not finished.
    Torn(u8),
    Gc(BTreeSet<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..10).prop_map(Step::Add),
        3 => (0u8..10).prop_map(Step::Del),
        1 => (10u8..14, 0u8..4).prop_map(|(who, files)| Step::Crash(who, files)),
        1 => (2u8..7).prop_map(Step::Torn),
        1 => prop::collection::btree_set(0u8..10, 0..6).prop_map(Step::Gc),
    ]
}

/// What an `ADD` that was killed leaves: first the note, then the unfinished file, then addresses.
fn crash(node: &Node, who: &str, files: u8) {
    let store = Store::open(&node.data(), "pods").unwrap();
    store.write_note(&attachment(who), &Birth::default()).unwrap();
    if files > 0 {
        fs::write(node.file(".pointsman/unfinished"), format!("{who}\r\neth0")).unwrap();
    }
    let taken: BTreeSet<_> = node.taken().into_iter().map(|(address, _)| address).collect();
    for (at, last) in ["10.0.0.6", "fd00::7"].iter().enumerate().take(usize::from(files.saturating_sub(1))) {
        if !taken.contains(&ip(last)) {
            store.reserve(ip(last), at, &attachment(who)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_history_gives_an_address_twice_or_loses_one(steps in prop::collection::vec(step(), 0..40)) {
        let node = Node::new();
        let ipam = node.ipam(json!({"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "fd00::/125"}]]}));
        fs::create_dir_all(node.data().join("pods")).unwrap();
        let mut alive: std::collections::BTreeMap<String, Vec<IpAddr>> = Default::default();
        let name = |who: u8| format!("c{who}");
        for step in steps {
            match step {
                Step::Add(who) => match node.add(&ipam, &name(who)) {
                    Ok(addresses) => {
                        prop_assert!(!alive.contains_key(&name(who)), "a second ADD must fail");
                        alive.insert(name(who), addresses);
                    }
                    Err(error) if error.code == Code::EXISTS => prop_assert!(alive.contains_key(&name(who))),
                    Err(error) => {
                        prop_assert_eq!(error.code, Code::ADDRESS);
                        let v4 = node.taken().iter().filter(|(at, by)| at.is_ipv4() && !by.is_empty()).count();
                        let v6 = node.taken().iter().filter(|(at, by)| at.is_ipv6() && !by.is_empty()).count();
                        prop_assert!(v4 == 5 || v6 == 6, "nothing is refused while something is free");
                    }
                },
                Step::Del(who) => {
                    node.del(&name(who));
                    alive.remove(&name(who));
                }
                Step::Crash(who, files) => crash(&node, &name(who), files),
                Step::Torn(last) => {
                    let path = node.file(&format!("10.0.0.{last}"));
                    if !path.exists() {
                        fs::write(path, "").unwrap();
                    }
                }
                Step::Gc(valid) => {
                    let valid: Vec<_> = valid.iter().map(|who| attachment(&name(*who))).collect();
                    gc(&node.data(), "pods", &valid).unwrap();
                    alive.retain(|who, _| valid.contains(&attachment(who)));
                    prop_assert_eq!(node.taken().len(), alive.len() * 2, "what was killed or torn is gone");
                }
            }
            let all: Vec<_> = alive.values().flatten().collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            for (who, addresses) in &alive {
                check(&node.data(), "pods", &attachment(who), addresses).unwrap();
            }
        }
        for who in 0..14 {
            node.del(&name(who));
        }
        prop_assert!(node.taken().iter().all(|(_, by)| by.is_empty()), "DEL leaves nothing of anybody");
    }
}
