use std::path::PathBuf;

use super::*;
use crate::attach::Assigned;
use crate::ipam::store::Store;

/// A folder with a network, a state folder and a namespace, which here is any file.
struct Node {
    folder: tempfile::TempDir,
    boot: Boot,
}

impl Node {
    fn new() -> Self {
        let node = Self { folder: tempfile::tempdir().unwrap(), boot: Boot::current() };
        fs::write(node.netns(), "").unwrap();
        node
    }

    fn netns(&self) -> PathBuf {
        self.folder.path().join("netns")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("networks")
    }

    fn birth(&self, plugin: &str) -> Birth {
        Birth::now(&self.boot, Some(&self.netns()), Some("shop/web".into()), plugin)
    }

    fn take(&self, address: &str, container: &str, birth: Option<&Birth>) {
        let attachment = Attachment::new(container, "eth0").unwrap();
        let store = Store::open(&self.data(), "pods").unwrap();
        if let Some(birth) = birth {
            store.write_note(&attachment, birth).unwrap();
        }
        store.reserve(address.parse().unwrap(), 0, &attachment).unwrap();
    }

    fn record(&self, container: &str, address: &str, ipam: Chooser) {
        let attachment = Attachment::new(container, "eth0").unwrap();
        let mut wanted = Record::skeleton(&attachment);
        wanted.addresses =
            vec![Assigned { address: format!("{address}/24").parse().unwrap(), gateway: None }];
        let birth = self.birth("pointsman-cni");
        let record = Record { network: "pods".into(), attachment, birth, ipam, wanted: Some(wanted) };
        assert!(Records::of(&self.folder.path().join("state")).create(&record).unwrap());
    }

    fn examine(&self) -> Vec<(String, State, String)> {
        let findings = examine(&self.data(), &self.folder.path().join("state")).unwrap();
        findings.into_iter().map(|f| (f.address.to_string(), f.state, f.why)).collect()
    }
}

#[test]
fn a_node_without_networks_has_no_addresses() {
    assert!(Node::new().examine().is_empty());
}

#[test]
fn every_address_has_its_owner_and_state() {
    let node = Node::new();
    let elsewhere = Birth { boot: "older".into(), ..node.birth("pointsman-ipam") };
    let gone = Birth { netns: Some("/nonexistent".into()), ..node.birth("pointsman-ipam") };
    node.take("10.0.0.2", "used", Some(&node.birth("pointsman-cni")));
    node.record("used", "10.0.0.2", Chooser::Own(node.data()));
    node.take("10.0.0.3", "norecord", Some(&node.birth("pointsman-cni")));
    node.take("10.0.0.4", "others", Some(&node.birth("pointsman-ipam")));
    node.take("10.0.0.5", "rebooted", Some(&elsewhere));
    node.take("10.0.0.6", "vanished", Some(&gone));
    node.take("10.0.0.7", "hostlocal", None);
    node.take("10.0.0.8", "delegated", None);
    node.record("delegated", "10.0.0.8", Chooser::Plugin("host-local".into()));
    node.record("freed", "10.0.0.9", Chooser::Own(node.data()));
    fs::write(node.data().join("pods/10.0.0.10"), "").unwrap();
    fs::write(node.data().join("pods/10.0.0.11"), "old").unwrap();

    let findings = examine(&node.data(), &node.folder.path().join("state")).unwrap();
    let said: Vec<_> = findings
        .iter()
        .map(|f| (f.address.to_string(), f.container.as_deref().unwrap_or("-"), f.state))
        .collect();
    let expected = [
        ("10.0.0.2", "used", State::InUse),
        ("10.0.0.3", "norecord", State::Leaked),
        ("10.0.0.4", "others", State::InUse),
        ("10.0.0.5", "rebooted", State::Leaked),
        ("10.0.0.6", "vanished", State::Leaked),
        ("10.0.0.7", "hostlocal", State::Unknown),
        ("10.0.0.8", "delegated", State::InUse),
        ("10.0.0.9", "freed", State::Unreserved),
        ("10.0.0.10", "-", State::Leaked),
        ("10.0.0.11", "old", State::Unknown),
    ];
    assert_eq!(said, expected.map(|(address, owner, state)| (address.to_owned(), owner, state)));
    assert_eq!(findings[0].pod.as_deref(), Some("shop/web"));
    assert_eq!(findings[6].plugin.as_deref(), Some("host-local"));
    assert!(findings[4].why.contains("/nonexistent"));
    let json = serde_json::to_value(&findings[0]).unwrap();
    assert_eq!(json["state"], "inuse");
}

#[test]
fn what_is_no_network_is_passed_over() {
    let node = Node::new();
    fs::create_dir_all(node.data().join(".hidden/10.0.0.1")).unwrap();
    fs::write(node.data().join("file"), "").unwrap();
    fs::create_dir_all(node.data().join("pods/10.0.0.2")).unwrap();
    let listed = node.examine();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].1, State::Unknown, "a folder by the name of an address");
}
