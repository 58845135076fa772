//! What the CNI plugin and container runtimes are told: that there is a network, and which.
//!
//! The file of what the network is like is there exactly while it is ready. The configuration that container runtimes look
//! for comes when it is ready first, and stays: without it they could not take pods' networks away again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cni::network::{PUBLISHED_FILE, Published};
use serde_json::{Value, json};

use super::files;
use crate::cli::{CONFLIST, DataPathWord, GATE, NetworkFlags};

/// The files, and what they are to say.
#[derive(Debug)]
pub(super) struct Offer {
    file: PathBuf,
    conflist: Option<PathBuf>,
    conflist_text: String,
}

impl Offer {
    /// As flags ask for.
    pub(super) fn of(flags: &NetworkFlags) -> Self {
        let conflist = Some(PathBuf::from(&flags.pod_network_cni_config));
        let text = format!("{:#}\n", conflist_of(flags));
        Self {
            file: flags.pod_network_file.clone(),
            conflist: conflist.filter(|path| !path.as_os_str().is_empty()),
            conflist_text: text,
        }
    }

    /// Makes the files say so: `None` while there is no network to offer. What they say already is left alone.
    ///
    /// # Errors
    /// When a file cannot be written or removed.
    pub(super) fn make(&self, published: Option<&Published>) -> anyhow::Result<()> {
        let Some(published) = published else {
            return Published::withdraw(&self.file).context("cannot withdraw the network's file");
        };
        if Published::read(&self.file).ok().as_ref() != Some(published) {
            published.write(&self.file).context("cannot tell the CNI plugin of the network")?;
        }
        let Some(path) = &self.conflist else { return Ok(()) };
        if fs::read_to_string(path).ok().as_ref() != Some(&self.conflist_text) {
            files::write(path, self.conflist_text.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            tracing::info!(file = %path.display(), "container runtimes are told of the network");
            warn_of_others(path);
        }
        Ok(())
    }

    /// Takes both files away. True if there were any.
    ///
    /// # Errors
    /// When one stays.
    pub(super) fn withdraw(&self) -> anyhow::Result<bool> {
        let mut any = false;
        for path in [Some(&self.file), self.conflist.as_ref()].into_iter().flatten() {
            let is_ours = path == &self.file || is_ours(path);
            if is_ours {
                any |= files::remove(path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(any)
    }
}

/// Container runtimes take the first file by its name.
fn warn_of_others(path: &Path) {
    let Some(folder) = path.parent() else { return };
    let Ok(entries) = fs::read_dir(folder) else { return };
    let others = entries.flatten().map(|entry| entry.path());
    let is_configuration = |path: &PathBuf| {
        path.extension().is_some_and(|end| ["conf", "conflist", "json"].iter().any(|known| end == *known))
    };
    let first = others.filter(is_configuration).min();
    if let Some(first) = first.filter(|first| first.as_path() < path) {
        tracing::warn!(file = %first.display(), "container runtimes take this file in place of ours, by its name");
    }
}

/// Whether a configuration is one of ours: another program's of the same name is not to be removed.
fn is_ours(path: &Path) -> bool {
    let Ok(text) = fs::read_to_string(path) else { return false };
    let Ok(list) = serde_json::from_str::<Value>(&text) else { return false };
    list["plugins"][0]["type"] == "pointsman-cni"
}

fn conflist_of(flags: &NetworkFlags) -> Value {
    let mut plugin = json!({
        "type": "pointsman-cni",
        "mode": flags.pod_network_data_path.as_str(),
        "gate": flags.pod_network_gate.as_str(),
        "ipam": { "type": "pointsman-ipam" },
        "capabilities": { "portMappings": true, "bandwidth": true },
    });
    if flags.pod_network_data_path == DataPathWord::Bridge {
        // A pod may be behind a Service that it uses.
        plugin["hairpinMode"] = json!(true);
    }
    for (name, path, usual) in [
        ("networkFile", &flags.pod_network_file, PUBLISHED_FILE),
        ("gateSocket", &flags.pod_network_gate_socket, GATE),
    ] {
        if path != Path::new(usual) {
            plugin[name] = json!(path);
        }
    }
    json!({ "cniVersion": "1.0.0", "name": "pointsman", "plugins": [plugin] })
}

/// Removes the files of a usual process. True if there were any.
///
/// # Errors
/// When one stays.
pub(super) fn cleanup(flags: &NetworkFlags) -> anyhow::Result<bool> {
    let offer = Offer::of(flags);
    let usual = Offer { conflist: Some(CONFLIST.into()), file: PUBLISHED_FILE.into(), ..Offer::of(flags) };
    Ok(offer.withdraw()? | usual.withdraw()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn offer(folder: &Path, more: &[&str]) -> Offer {
        let conflist = format!("--pod-network-cni-config={}/net.d/10-a.conflist", folder.display());
        let file = format!("--pod-network-file={}/run/network.json", folder.display());
        let args = ["pointsman", "--pod-network=vxlan", &conflist, &file];
        let args = args.iter().chain(more).map(|arg| (*arg).into());
        Offer::of(&Cli::read(args).unwrap().network)
    }

    fn published() -> Published {
        Published {
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            cluster_cidrs: Vec::new(),
            mtu: 1450,
            data_path: "routed".to_owned(),
            backend: "vxlan".to_owned(),
        }
    }

    #[test]
    fn the_configuration_comes_when_the_network_is_ready_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let offer = offer(folder.path(), &[]);
        let (file, conflist) = (offer.file.clone(), offer.conflist.clone().unwrap());
        offer.make(None).unwrap();
        assert!(!file.exists() && !conflist.exists());
        let other = conflist.with_file_name("05-other.conflist");
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::write(&other, "{}").unwrap();
        offer.make(Some(&published())).unwrap();
        assert_eq!(Published::read(&file).unwrap(), published());
        let list: Value = serde_json::from_str(&fs::read_to_string(&conflist).unwrap()).unwrap();
        assert_eq!((&list["cniVersion"], &list["name"]), (&json!("1.0.0"), &json!("pointsman")));
        let plugin = &list["plugins"][0];
        assert_eq!((&plugin["type"], &plugin["mode"]), (&json!("pointsman-cni"), &json!("routed")));
        assert_eq!(plugin["networkFile"], json!(file), "it is not the usual one");
        assert_eq!(plugin.get("gateSocket"), None);
        offer.make(None).unwrap();
        assert!(!file.exists() && conflist.exists());
        assert!(offer.withdraw().unwrap() && !offer.withdraw().unwrap());
        assert!(other.exists() && !conflist.exists());
        assert_eq!(fs::read_dir(other.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_damage_is_written_again_and_what_is_theirs_stays() {
        let folder = tempfile::tempdir().unwrap();
        let offer = offer(folder.path(), &["--pod-network-data-path=bridge", "--pod-network-gate=open"]);
        let conflist = offer.conflist.clone().unwrap();
        offer.make(Some(&published())).unwrap();
        fs::write(&conflist, "{}").unwrap();
        offer.make(Some(&published())).unwrap();
        let text = fs::read_to_string(&conflist).unwrap();
        assert_eq!(text, offer.conflist_text);
        assert!(text.contains("hairpinMode") && text.contains("\"gate\": \"open\""), "{text}");
        fs::write(&conflist, r#"{"plugins": [{"type": "flannel"}]}"#).unwrap();
        offer.withdraw().unwrap();
        assert!(conflist.exists(), "it is another program's");
    }
}
