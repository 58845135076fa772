//! What is there: all that plugins could leave behind.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::namespace::Namespace;

/// Folders in which plugins keep what they know. What a runtime remembers itself is no business of theirs.
const FOLDERS: [&str; 4] = ["/etc/cni", "/run/pointsman", "/var/lib/cni/networks", "/var/lib/cni/pointsman"];

/// Everything there is on a node, as lines that say what each is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    lines: Vec<String>,
}

impl There {
    /// Looks at a node, or into a pod.
    ///
    /// # Errors
    /// When a tool is missing: ip, tc or nft.
    pub fn on(node: &Namespace) -> Result<Self> {
        let mut lines = links(node)?;
        let told: [(&str, &str, &[&str]); 8] = [
            ("route", "ip", &["-4", "route", "show", "table", "all"]),
            ("route", "ip", &["-6", "route", "show", "table", "all"]),
            ("rule", "ip", &["-4", "rule"]),
            ("rule", "ip", &["-6", "rule"]),
            ("neighbour", "ip", &["neighbour", "show", "nud", "permanent"]),
            ("proxied neighbour", "ip", &["neighbour", "show", "proxy"]),
            ("qdisc", "tc", &["qdisc", "show"]),
            ("nft", "nft", &["--stateless", "list", "ruleset"]),
        ];
        for (what, program, args) in told {
            let output = node.output(program, args)?;
            let lasting = output.lines().filter(|line| !passes(line));
            // Whether a device has a carrier shows in its routes a moment later.
            lines.extend(lasting.map(|line| format!("{what}: {}", line.replace(" linkdown", ""))));
        }
        for folder in FOLDERS {
            node.run(|| files(Path::new(folder), &mut lines))??;
        }
        Ok(Self { lines })
    }

    /// The same without what has this in its line.
    #[must_use]
    pub fn without(&self, text: &str) -> Self {
        Self { lines: self.lines.iter().filter(|line| !line.contains(text)).cloned().collect() }
    }

    /// What is there that has this in its line.
    #[must_use]
    pub fn with(&self, text: &str) -> Vec<String> {
        self.lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Fails unless everything is there that was there before, and nothing else.
    ///
    /// # Errors
    /// With what came and what went.
    pub fn must_be_as(&self, before: &Self) -> Result<()> {
        let beyond = |one: &Self, other: &Self| {
            let mut rest = other.lines.clone();
            let is_new = |line: &&String| match rest.iter().position(|known| known == *line) {
                Some(position) => {
                    rest.swap_remove(position);
                    false
                }
                None => true,
            };
            one.lines.iter().filter(is_new).cloned().collect::<Vec<_>>()
        };
        let (came, went) = (beyond(self, before), beyond(before, self));
        ensure!(
            came.is_empty() && went.is_empty(),
            "not as it was\n  what came:\n    {}\n  what went:\n    {}",
            came.join("\n    "),
            went.join("\n    ")
        );
        Ok(())
    }
}

/// What comes and goes by itself: the kernel gives devices link-local addresses some time after they are up.
fn passes(line: &str) -> bool {
    let is_link_local = line.contains(" fe80:") && line.contains(" table local ");
    line.contains(" expires ") || line.starts_with("qdisc noqueue ") || is_link_local
}

/// Devices and their addresses.
fn links(node: &Namespace) -> Result<Vec<String>> {
    let links: Value = serde_json::from_str(&node.output("ip", &["-json", "address", "show"])?)?;
    let mut lines = Vec::new();
    for link in links.as_array().into_iter().flatten() {
        let name = link["ifname"].as_str().unwrap_or_default();
        lines.push(format!("link: {name} master {} mtu {}", link["master"], link["mtu"]));
        for address in link["addr_info"].as_array().into_iter().flatten() {
            let local = address["local"].as_str().unwrap_or_default();
            if local.starts_with("fe80:") {
                continue;
            }
            lines.push(format!("address: {local}/{} on {name}", address["prefixlen"]));
        }
    }
    Ok(lines)
}

/// Files under a folder, by their paths.
fn files(folder: &Path, lines: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        match path.is_dir() {
            true => files(&path, lines)?,
            false => lines.push(format!("file: {}", path.display())),
        }
    }
    Ok(())
}
