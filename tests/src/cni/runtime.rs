//! A container runtime that calls plugins as libcni does.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::call::{Answer, Call};
use super::list::{Attachment, List};
use super::search_path;
use crate::namespace::Namespace;

/// Where results are kept, as libcni does.
const RESULTS: &str = "/var/lib/cni/results";

/// What runs plugins on a node.
#[derive(Debug)]
pub struct Runtime {
    node: Namespace,
    path: Vec<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Runtime {
    /// The runtime of a node.
    ///
    /// # Errors
    /// When plugins are missing.
    pub fn on(node: &Namespace) -> Result<Self> {
        Ok(Self { node: node.again()?, path: search_path()?, environment: Vec::new() })
    }

    /// The same with a variable that plugins see in their environment.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn with(&self, name: &str, value: &str) -> Result<Self> {
        let mut environment = self.environment.clone();
        environment.push((name.to_owned(), value.to_owned()));
        Ok(Self { node: self.node.again()?, path: self.path.clone(), environment })
    }

    /// The same that looks for plugins elsewhere.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn looking_in(&self, path: Vec<PathBuf>) -> Result<Self> {
        Ok(Self { node: self.node.again()?, path, environment: self.environment.clone() })
    }

    /// Calls a plugin with whatever input.
    ///
    /// # Errors
    /// When it is not there.
    pub fn call(&self, plugin: &str, call: &Call, stdin: &[u8]) -> Result<Answer> {
        let found = self.path.iter().map(|folder| folder.join(plugin)).find(|file| file.is_file());
        let program = found.with_context(|| format!("there is no plugin {plugin}"))?;
        let path: Vec<_> = self.path.iter().map(|folder| folder.to_string_lossy()).collect();
        let call = self.environment.iter().fold(call.clone(), |call, (name, value)| call.with(name, value));
        call.run(&self.node, &program, &path.join(":"), stdin)
    }

    /// Attaches.
    ///
    /// # Errors
    /// [`Refused`](super::Refused), and when a plugin fails otherwise. As with libcni, what was made until then is there
    /// until DEL.
    pub fn add(&self, list: &List, attachment: &Attachment) -> Result<Value> {
        let mut previous = None;
        for plugin in &list.plugins {
            let input = input(list, plugin, attachment, previous.as_ref());
            previous = Some(self.plugin(plugin, &Call::about("ADD", attachment), &input)?.result()?);
        }
        let result = previous.context("a list without plugins")?;
        self.remember(list, attachment, &result)?;
        Ok(result)
    }

    /// Checks.
    ///
    /// # Errors
    /// As [`Runtime::add`], and when nothing is remembered.
    pub fn check(&self, list: &List, attachment: &Attachment) -> Result<()> {
        if list.disable_check {
            return Ok(());
        }
        let result = self.result_of(list, attachment)?.context("nothing is remembered to check")?;
        for plugin in &list.plugins {
            let input = input(list, plugin, attachment, Some(&result));
            self.plugin(plugin, &Call::about("CHECK", attachment), &input)?.result()?;
        }
        Ok(())
    }

    /// Detaches.
    ///
    /// # Errors
    /// As [`Runtime::add`]. What is remembered stays then.
    pub fn del(&self, list: &List, attachment: &Attachment) -> Result<()> {
        let previous = if knows_results(list) { self.result_of(list, attachment)? } else { None };
        for plugin in list.plugins.iter().rev() {
            let input = input(list, plugin, attachment, previous.as_ref());
            self.plugin(plugin, &Call::about("DEL", attachment), &input)?.result()?;
        }
        self.forget(list, attachment)
    }

    /// Removes what belongs to none of these.
    ///
    /// # Errors
    /// As [`Runtime::add`], of the first plugin that fails; the others are asked all the same.
    pub fn gc(&self, list: &List, valid: &[&Attachment]) -> Result<()> {
        let valid: Vec<Value> = valid.iter().map(|attachment| attachment.valid()).collect();
        let outcomes: Vec<Result<Value>> = list
            .plugins
            .iter()
            .map(|plugin| {
                let mut input = list.configuration(plugin);
                input.insert("cni.dev/valid-attachments".to_owned(), json!(valid));
                self.plugin(plugin, &Call::new("GC"), &Value::Object(input))?.result()
            })
            .collect();
        outcomes.into_iter().collect::<Result<Vec<_>>>().map(drop)
    }

    /// Asks whether attaching would work.
    ///
    /// # Errors
    /// As [`Runtime::add`].
    pub fn status(&self, list: &List) -> Result<()> {
        for plugin in &list.plugins {
            let input = Value::Object(list.configuration(plugin));
            self.plugin(plugin, &Call::new("STATUS"), &input)?.result()?;
        }
        Ok(())
    }

    /// The versions that a plugin knows.
    ///
    /// # Errors
    /// As [`Runtime::add`].
    pub fn versions(&self, plugin: &str, version: &str) -> Result<Vec<String>> {
        let input = json!({ "cniVersion": version }).to_string();
        let answer = self.call(plugin, &Call::new("VERSION"), input.as_bytes())?.result()?;
        let versions = answer["supportedVersions"].as_array().context("no supportedVersions")?;
        Ok(versions.iter().filter_map(|version| version.as_str().map(str::to_owned)).collect())
    }

    /// What ADD came to, as it is remembered.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn result_of(&self, list: &List, attachment: &Attachment) -> Result<Option<Value>> {
        let file = file(list, attachment);
        let text = self.node.run(|| match fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        })??;
        let kept: Option<Value> = text.map(|text| serde_json::from_str(&text)).transpose()?;
        Ok(kept.map(|mut kept| kept["result"].take()))
    }

    /// Forgets what ADD came to, as a runtime does that lost its state.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget(&self, list: &List, attachment: &Attachment) -> Result<()> {
        let file = file(list, attachment);
        self.node.run(|| match fs::remove_file(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        })??;
        Ok(())
    }

    fn remember(&self, list: &List, attachment: &Attachment, result: &Value) -> Result<()> {
        let kept = json!({
            "kind": "cniCacheV1", "containerId": attachment.container, "ifName": attachment.interface,
            "networkName": list.name, "cniArgs": attachment.args, "capabilityArgs": attachment.capabilities,
            "result": result,
        });
        let file = file(list, attachment);
        self.node.run(|| {
            fs::create_dir_all(RESULTS)?;
            fs::write(file, kept.to_string())
        })??;
        Ok(())
    }

    fn plugin(&self, plugin: &Value, call: &Call, input: &Value) -> Result<Answer> {
        let Some(name) = plugin["type"].as_str() else { bail!("a plugin without a type: {plugin}") };
        self.call(name, call, input.to_string().as_bytes())
    }
}

/// What a plugin reads when it is called about an attachment.
pub(super) fn input(list: &List, plugin: &Value, attachment: &Attachment, previous: Option<&Value>) -> Value {
    let mut input = list.configuration(plugin);
    let capable = |name: &String| plugin["capabilities"][name] == json!(true);
    let told = attachment.capabilities.iter().filter(|(name, _)| capable(name));
    let told: Map<String, Value> = told.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !told.is_empty() {
        input.insert("runtimeConfig".to_owned(), Value::Object(told));
    }
    if let Some(previous) = previous {
        input.insert("prevResult".to_owned(), previous.clone());
    }
    Value::Object(input)
}

/// Older plugins are not told on DEL what was made.
fn knows_results(list: &List) -> bool {
    !list.version.starts_with("0.3.")
        && !list.version.starts_with("0.1.")
        && !list.version.starts_with("0.2.")
}

fn file(list: &List, attachment: &Attachment) -> PathBuf {
    let name = format!("{}-{}-{}", list.name, attachment.container, attachment.interface);
    PathBuf::from(RESULTS).join(name)
}
