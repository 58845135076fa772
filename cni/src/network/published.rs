//! What the daemon tells the plugin about the node's part of the pod network: a small file beside its socket.
//!
//! The file is there exactly while the network is ready, so that a plugin that finds none can say so.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where the daemon writes it, unless it is told otherwise.
pub const PUBLISHED_FILE: &str = "/run/pointsman/network.json";

/// More than this is none of ours.
const MOST_BYTES: u64 = 64 * 1024;
/// A node has one podCIDR a family; clusters with several ranges have a handful.
const MOST_RANGES: usize = 64;
/// IPv4 asks for 68 bytes; nobody carries more than 65535.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

/// What the plugin must know of the node's part of the pod network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The ranges that this node's pods have their addresses from.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// The ranges of all pods of the cluster.
    #[serde(rename = "clusterCIDRs", default)]
    pub cluster_cidrs: Vec<IpNet>,
    /// Bytes of the largest packet that reaches other nodes' pods.
    pub mtu: u32,
    /// How pods are joined to the node: `routed` or `bridge`.
    #[serde(rename = "dataPath")]
    pub data_path: String,
    /// How nodes are joined: `vxlan`, `host-gw` or `bgp`.
    pub backend: String,
}

/// Why what was published cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// There is none: the daemon does not run, or its network is not ready.
    #[error(
        "{0} is not there: the node's pod network is not ready, or pointsman does not run with --pod-network"
    )]
    Missing(String),
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// It makes no sense.
    #[error("{path}: {why}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Published {
    /// What is published in `path`.
    pub fn read(path: &Path) -> Result<Self, PublishedError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PublishedError::Missing(name.clone()),
            _ => PublishedError::Io { path: name.clone(), error },
        })?;
        let mut text = Vec::new();
        let read = file.take(MOST_BYTES + 1).read_to_end(&mut text);
        read.map_err(|error| PublishedError::Io { path: name.clone(), error })?;
        Self::decode(&text).map_err(|why| PublishedError::Invalid { path: name, why })
    }

    /// What `text` says, if it makes sense.
    pub(crate) fn decode(text: &[u8]) -> Result<Self, String> {
        if text.len() as u64 > MOST_BYTES {
            return Err(format!("longer than {MOST_BYTES} bytes"));
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let published: Self =
            serde_path_to_error::deserialize(&mut json).map_err(|error| error.to_string())?;
        published.validate()?;
        Ok(published)
    }

    fn validate(&self) -> Result<(), String> {
        if self.pod_cidrs.is_empty() {
            return Err("podCIDRs: empty".into());
        }
        for (name, ranges) in [("podCIDRs", &self.pod_cidrs), ("clusterCIDRs", &self.cluster_cidrs)] {
            if ranges.len() > MOST_RANGES {
                return Err(format!("{name}: more than {MOST_RANGES} ranges"));
            }
            if let Some(range) = ranges.iter().find(|range| **range != range.trunc()) {
                return Err(format!(
                    "{name}: {range} has bits set beyond its prefix; {} is meant",
                    range.trunc()
                ));
            }
        }
        if !MTU.contains(&self.mtu) {
            return Err(format!("mtu: {} is not within {} to {}", self.mtu, MTU.start(), MTU.end()));
        }
        if !matches!(self.data_path.as_str(), "routed" | "bridge") {
            return Err(format!("dataPath: {:?} is neither routed nor bridge", self.data_path));
        }
        Ok(())
    }

    /// Publishes it in `path`: whoever reads finds what was there before or all of this.
    pub fn write(&self, path: &Path) -> Result<(), PublishedError> {
        let name = path.display().to_string();
        self.validate().map_err(|why| PublishedError::Invalid { path: name.clone(), why })?;
        let text = serde_json::to_vec(self)
            .map_err(|error| PublishedError::Invalid { path: name.clone(), why: error.to_string() })?;
        replace(path, &text).map_err(|error| PublishedError::Io { path: name, error })
    }

    /// Says that there is no network to use any more. That there was none is fine.
    pub fn withdraw(path: &Path) -> Result<(), PublishedError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PublishedError::Io { path: path.display().to_string(), error })
            }
            _ => Ok(()),
        }
    }
}

/// Writes `text` beside `path` and gives it the name when it is all there.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let mut file = File::create(&beside)?;
    let written = file.write_all(text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Published {
        Published {
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            mtu: 1450,
            data_path: "routed".into(),
            backend: "vxlan".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/network.json");
        assert!(matches!(Published::read(&path), Err(PublishedError::Missing(_))));
        published().write(&path).unwrap();
        assert_eq!(Published::read(&path).unwrap(), published());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        Published::withdraw(&path).unwrap();
        Published::withdraw(&path).unwrap();
        assert!(matches!(Published::read(&path), Err(PublishedError::Missing(_))));
    }

    #[test]
    fn the_names_are_those_agreed_upon() {
        let text = serde_json::to_string(&published()).unwrap();
        let expected = concat!(
            r#"{"podCIDRs":["10.244.1.0/24","fd00:10:244:1::/64"],"clusterCIDRs":["10.244.0.0/16"],"#,
            r#""mtu":1450,"dataPath":"routed","backend":"vxlan"}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        let refused = |change: fn(&mut Published)| {
            let mut published = published();
            change(&mut published);
            Published::decode(&serde_json::to_vec(&published).unwrap()).unwrap_err()
        };
        assert!(refused(|p| p.pod_cidrs.clear()).contains("podCIDRs"));
        assert!(refused(|p| p.cluster_cidrs = vec!["10.0.0.1/8".parse().unwrap()]).contains("10.0.0.0/8"));
        assert!(refused(|p| p.mtu = 67).contains("mtu"));
        assert!(refused(|p| p.data_path = "tunnel".into()).contains("dataPath"));
        assert!(Published::decode(br#"{"podCIDRs":["nonsense"]}"#).unwrap_err().contains("podCIDRs[0]"));
        assert!(Published::decode(&vec![b' '; 70_000]).unwrap_err().contains("longer"));
        assert!(Published::decode(b"").is_err());
    }
}
