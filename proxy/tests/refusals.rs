//! The binary given what it cannot work with: its exit status, and the one line it says.

use std::io;
use std::process::{Command, Stdio};

/// Runs the binary; returns its exit status, and what it printed to stdout and stderr. One that refuses nothing would go
/// on for ever, and is ended.
fn run(args: &[&str]) -> io::Result<(Option<i32>, String, String)> {
    let output = Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_pointsman")])
        .args(args)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}

/// Runs the binary, which must exit with this status after one line that has all of these words in it.
fn refuses(status: i32, args: &[&str], words: &[&str]) {
    let (code, stdout, stderr) = run(args).unwrap_or_default();
    assert_eq!((code, &*stdout), (Some(status), ""), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("pointsman: "), "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: {word:?} is not in: {stderr}");
    }
}

#[test]
fn bad_usage_is_status_2() {
    refuses(2, &["--iptables-sync-period", "0"], &["--iptables-sync-period", "1m30s"]);
    refuses(2, &["--iptables-sync-period", "soon"], &["--iptables-sync-period", "1m30s"]);
    refuses(2, &["--cluster-cidr", "10.0.0.0/99"], &["--cluster-cidr", "10.0.0.0/99", "10.244.0.0/16"]);
    refuses(2, &["--cluster-cidr", "10.0.0.0/8,11.0.0.0/8"], &["--cluster-cidr", "IPv4"]);
    refuses(2, &["--nodeport-addresses", "primary,10.0.0.0/8"], &["--nodeport-addresses", "primary"]);
    refuses(2, &["--nodeport-addresses", "everywhere"], &["--nodeport-addresses", "everywhere"]);
    refuses(2, &["--proxy-mode", "pigeon"], &["--proxy-mode", "pigeon", "nftables"]);
    refuses(2, &["--detect-local-mode", "BridgeInterface"], &["--pod-bridge-interface"]);
    refuses(2, &["--iptables-masquerade-bit", "32"], &["--iptables-masquerade-bit", "32"]);
    let taken = ["--proxy-mode=userspace", "--iptables-masquerade-bit=13"];
    refuses(2, &taken, &["--iptables-masquerade-bit", "13", "userspace"]);
    refuses(2, &["--proxy-port-range", "9-1"], &["--proxy-port-range", "1024-65535"]);
    refuses(2, &["--hostname-override= "], &["--hostname-override"]);
    refuses(2, &["--manifest", "x"], &["--manifest", "--manifests"]);
    refuses(2, &["--manifests"], &["--manifests"]);
}

#[test]
fn what_cannot_be_done_is_status_1() {
    refuses(1, &["--manifests", "/no/such/folder"], &["/no/such/folder", "No such file"]);
    refuses(1, &["--manifests", "/dev/null"], &["/dev/null", "neither a folder nor a regular file"]);
    refuses(1, &[], &["--manifests", "--kubeconfig", "service account"]);
    refuses(1, &["--kubeconfig", "/no/such/config"], &["--kubeconfig /no/such/config", "No such file"]);
    refuses(1, &["--kubeconfig", "/dev/null"], &["--kubeconfig /dev/null"]);
    refuses(1, &["--master", "https://a b"], &["--master", "a b", "https://10.0.0.1:6443"]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let nowhere = "--userspace-bound-address=192.0.2.1,2001:db8::1";
    let bound = ["--manifests", folder, "--proxy-mode=userspace", "--userspace-entry=bound", nowhere];
    let (code, _, stderr) = run(&bound).unwrap();
    assert!(code == Some(1) && stderr.contains("cannot bind local ports: cannot listen on"), "{stderr}");
}

/// A file with the head of a configuration and these fields.
fn configuration(fields: &str) -> io::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    std::fs::write(file.path(), format!("{head}{fields}"))?;
    Ok(file)
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_by_field() {
    for (fields, word) in [
        ("mode: pigeon", "mode: \"pigeon\""),
        ("conntrack: {min: many}", "conntrack.min: "),
        ("detectLocalMode: BridgeInterface", "needs detectLocal.bridgeInterface"),
        ("a: [", "YAML"),
    ] {
        let file = configuration(fields).unwrap();
        let path = file.path().to_str().unwrap();
        refuses(1, &["--config", path], &["--config", path, word]);
        refuses(1, &["check-config", path], &[path, word]);
    }
    refuses(1, &["--config", "/no/such/file"], &["--config /no/such/file", "No such file"]);
    refuses(1, &["check-config", "/dev/null"], &["/dev/null", "no file"]);
}

#[test]
fn doubts_are_refused_by_the_check_alone() {
    let file = configuration("mode: iptables\nmode: ipvs\nconntrack: {maxPerCoer: 1}").unwrap();
    let path = file.path().to_str().unwrap();
    let (code, stdout, stderr) = run(&["check-config", path]).unwrap();
    assert_eq!((code, &*stdout, stderr.lines().count()), (Some(1), "", 2), "{stderr}");
    assert!(stderr.contains("did you mean maxPerCore?") && stderr.contains("mode"), "{stderr}");
    let written = tempfile::NamedTempFile::new().unwrap();
    let to = format!("--write-config-to={}", written.path().display());
    let (code, ..) = run(&["--config", path, &to]).unwrap();
    assert_eq!(code, Some(0));
    assert!(std::fs::read_to_string(written.path()).unwrap().contains("mode: ipvs"));
}

#[test]
fn what_is_written_passes_the_check() {
    let written = tempfile::NamedTempFile::new().unwrap();
    let path = written.path().to_str().unwrap();
    let to = format!("--write-config-to={path}");
    let flags = [&*to, "--proxy-mode=iptables", "--cluster-cidr=10.0.0.0/8", "-v=3", "--kube-api-qps=50"];
    assert_eq!(run(&flags).unwrap(), (Some(0), String::new(), String::new()));
    let text = std::fs::read_to_string(path).unwrap();
    for line in ["mode: iptables", "clusterCIDR: 10.0.0.0/8", "  verbosity: 3", "  syncPeriod: 30s"] {
        assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
    }
    let (code, stdout, stderr) = run(&["check-config", path]).unwrap();
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(
        stdout.contains("good, for iptables mode") && stdout.contains("clientConnection.qps"),
        "{stdout}"
    );
}

#[test]
fn completions_and_the_manual_are_made() {
    for (args, word) in [
        (["completion", "bash"].as_slice(), "--proxy-mode"),
        (&["completion", "zsh"], "#compdef pointsman"),
        (&["completion", "fish"], "proxy-mode"),
        (&["manual"], ".TH pointsman"),
    ] {
        let (code, stdout, _) = run(args).unwrap();
        assert!(code == Some(0) && stdout.contains(word), "{args:?}: {stdout}");
    }
    let (_, raw, _) = run(&["--version=raw"]).unwrap();
    assert!(
        raw.contains(env!("CARGO_PKG_VERSION")) && raw.contains("kubeproxy.config.k8s.io/v1alpha1"),
        "{raw}"
    );
}

#[test]
fn help_and_version_are_no_errors() {
    let (code, stdout, stderr) = run(&["--version"]).unwrap();
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert_eq!(stdout.trim_end(), concat!("pointsman ", env!("CARGO_PKG_VERSION")));
    let (code, stdout, stderr) = run(&["--help"]).unwrap();
    assert_eq!((code, &*stderr), (Some(0), ""));
    for words in ["--manifests <PATH>", "Example:", "Exit status:", "--cleanup"] {
        assert!(stdout.contains(words), "{words} is not in: {stdout}");
    }
}

#[test]
fn a_closed_stderr_is_no_reason_to_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(["--manifests", "/no/such/folder"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
