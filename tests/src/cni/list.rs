//! What a runtime is told: a network, and what is to be attached to it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// A network: a list of plugins, each with its configuration.
#[derive(Clone, Debug)]
pub struct List {
    /// Name.
    pub name: String,
    /// `cniVersion`
    pub version: String,
    /// The plugins' configurations.
    pub plugins: Vec<Value>,
    /// `disableCheck`
    pub disable_check: bool,
}

impl List {
    /// A network without plugins.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self { name: name.to_owned(), version: version.to_owned(), plugins: Vec::new(), disable_check: false }
    }

    /// The same with another plugin behind those that there are.
    #[must_use]
    pub fn then(mut self, plugin: Value) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// The same in another version.
    #[must_use]
    pub fn in_version(&self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self.clone() }
    }

    /// Reads a file as a runtime finds it.
    ///
    /// # Errors
    /// When it is no configuration list.
    pub fn read(text: &str) -> Result<Self> {
        let list: Value = serde_json::from_str(text).context("no JSON")?;
        let field = |name: &str| list[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        Ok(Self {
            name: field("name")?,
            version: field("cniVersion")?,
            plugins: list["plugins"].as_array().context("no plugins")?.clone(),
            disable_check: list["disableCheck"].as_bool().unwrap_or_default(),
        })
    }

    /// What a plugin is told, apart from what it has to do with an attachment.
    pub(super) fn configuration(&self, plugin: &Value) -> Map<String, Value> {
        let mut configuration = plugin.as_object().cloned().unwrap_or_default();
        configuration.insert("name".to_owned(), json!(self.name));
        configuration.insert("cniVersion".to_owned(), json!(self.version));
        configuration
    }
}

/// What a pod has, or is to have, of a network.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The runtime's name of the container.
    pub container: String,
    /// The interface's name in the pod.
    pub interface: String,
    /// The pod's network namespace.
    pub netns: PathBuf,
    /// `CNI_ARGS`
    pub args: Vec<(String, String)>,
    /// What is told to plugins that have the capability.
    pub capabilities: Map<String, Value>,
}

impl Attachment {
    /// `eth0` of a container, which is in a network namespace.
    #[must_use]
    pub fn new(container: &str, netns: impl AsRef<Path>) -> Self {
        Self {
            container: container.to_owned(),
            interface: "eth0".to_owned(),
            netns: netns.as_ref().to_owned(),
            args: Vec::new(),
            capabilities: Map::new(),
        }
    }

    /// The same with another interface.
    #[must_use]
    pub fn interface(self, name: &str) -> Self {
        Self { interface: name.to_owned(), ..self }
    }

    /// The same with a pair more in `CNI_ARGS`.
    #[must_use]
    pub fn arg(mut self, key: &str, value: &str) -> Self {
        self.args.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The same, as the pod of a cluster.
    #[must_use]
    pub fn pod(self, namespace: &str, name: &str) -> Self {
        let container = self.container.clone();
        self.arg("IgnoreUnknown", "1")
            .arg("K8S_POD_NAMESPACE", namespace)
            .arg("K8S_POD_NAME", name)
            .arg("K8S_POD_INFRA_CONTAINER_ID", &container)
    }

    /// The same with what a capability is to be told.
    #[must_use]
    pub fn capability(mut self, name: &str, value: Value) -> Self {
        self.capabilities.insert(name.to_owned(), value);
        self
    }

    /// How garbage collection names it.
    pub(super) fn valid(&self) -> Value {
        json!({ "containerID": self.container, "ifname": self.interface })
    }
}
