//! The file that says which local port each service port has, so that the next process gives it the same.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use endpoint_cache::{Protocol, ServicePortName};
use serde::{Deserialize, Serialize};

/// A hundred thousand ports are some 10 MB.
const LARGEST: u64 = 64 << 20;

/// What is in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    ports: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    namespace: Arc<str>,
    service: Arc<str>,
    port: Arc<str>,
    protocol: Word,
    local_port: u16,
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Tcp,
    Udp,
}

/// The file's place.
#[derive(Debug)]
pub(super) struct PortsFile {
    path: PathBuf,
    /// Whether it was said that it cannot be written.
    told: bool,
}

impl PortsFile {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, told: false }
    }

    /// What it holds: nothing if it is not there, or cannot be read, which is said.
    pub(super) fn read(&self) -> Vec<(Arc<ServicePortName>, u16)> {
        match read(&self.path) {
            Ok(contents) => contents.ports.into_iter().map(Entry::into_pair).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let path = self.path.display();
                tracing::warn!("{path} is replaced, and local ports may be others now: {error}");
                Vec::new()
            }
        }
    }

    /// Replaces it, as one. What fails is said once; the ports are in force all the same.
    pub(super) fn write<'a>(&mut self, ports: impl Iterator<Item = (&'a Arc<ServicePortName>, u16)>) {
        let contents = Contents { ports: ports.filter_map(Entry::of).collect() };
        let written = write(&self.path, &contents);
        let told = std::mem::replace(&mut self.told, written.is_err());
        if let Err(error) = written
            && !told
        {
            let path = self.path.display();
            tracing::warn!(
                "cannot write {path}: {error}; the next start may choose other local ports (--userspace-ports-file)"
            );
        }
    }
}

fn read(path: &Path) -> io::Result<Contents> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn write(path: &Path, contents: &Contents) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut text = serde_json::to_vec_pretty(contents)?;
    text.push(b'\n');
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&draft, path)
    };
    write().inspect_err(|_| {
        // It may not even be there.
        let _ = fs::remove_file(&draft);
    })
}

impl Entry {
    fn of((name, local_port): (&Arc<ServicePortName>, u16)) -> Option<Self> {
        let protocol = match name.protocol {
            Protocol::Tcp => Word::Tcp,
            Protocol::Udp => Word::Udp,
            Protocol::Sctp => return None,
        };
        let ServicePortName { namespace, name, port, .. } = (**name).clone();
        Some(Self { namespace, service: name, port, protocol, local_port })
    }

    fn into_pair(self) -> (Arc<ServicePortName>, u16) {
        let protocol = match self.protocol {
            Word::Tcp => Protocol::Tcp,
            Word::Udp => Protocol::Udp,
        };
        let Self { namespace, service: name, port, local_port, .. } = self;
        (Arc::new(ServicePortName { namespace, name, port, protocol }), local_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(port: &str, protocol: Protocol) -> Arc<ServicePortName> {
        let (namespace, name) = ("ns".into(), "web".into());
        Arc::new(ServicePortName { namespace, name, port: port.into(), protocol })
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/ports.json");
        let mut file = PortsFile::at(path.clone());
        assert_eq!(file.read(), []);
        let ports = [(name("", Protocol::Tcp), 5432), (name("dns", Protocol::Udp), 20_053)];
        file.write(ports.iter().map(|(name, port)| (name, *port)));
        assert_eq!(PortsFile::at(path.clone()).read(), ports);
        file.write(std::iter::empty());
        assert_eq!(file.read(), []);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn what_makes_no_sense_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.json");
        for text in ["", "{", r#"{"ports":[{"local_port":70000}]}"#, "[]", "\u{0}"] {
            fs::write(&path, text).unwrap();
            let mut file = PortsFile::at(path.clone());
            assert_eq!(file.read(), [], "{text:?}");
            let ports = [(name("", Protocol::Tcp), 5432)];
            file.write(ports.iter().map(|(name, port)| (name, *port)));
            assert_eq!(file.read(), ports);
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_survived() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let mut file = PortsFile::at(folder.path().join("file/ports.json"));
        file.write(std::iter::empty());
        assert!(file.told);
    }
}
