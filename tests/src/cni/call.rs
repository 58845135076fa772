//! One call of one plugin.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::list::Attachment;
use crate::namespace::Namespace;

/// What a plugin is asked to do, by its environment.
#[derive(Clone, Debug)]
pub struct Call {
    environment: Vec<(String, String)>,
}

impl Call {
    /// A call that concerns no attachment.
    #[must_use]
    pub fn new(verb: &str) -> Self {
        Self { environment: vec![("CNI_COMMAND".to_owned(), verb.to_owned())] }
    }

    /// A call about an attachment.
    #[must_use]
    pub fn about(verb: &str, attachment: &Attachment) -> Self {
        let args: Vec<_> = attachment.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self::new(verb)
            .with("CNI_CONTAINERID", &attachment.container)
            .with("CNI_IFNAME", &attachment.interface)
            .with("CNI_NETNS", &attachment.netns.to_string_lossy())
            .with("CNI_ARGS", &args.join(";"))
    }

    /// The same with a variable set.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        let mut call = self.without(name);
        call.environment.push((name.to_owned(), value.to_owned()));
        call
    }

    /// The same with a variable that is not set.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(set, _)| set != name);
        self
    }

    /// The value of a variable.
    fn value(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
    }

    /// Runs a plugin on a node.
    pub(super) fn run(&self, node: &Namespace, program: &Path, path: &str, stdin: &[u8]) -> Result<Answer> {
        let mut command = Command::new(program);
        // Plugins run other programs, which are looked for where everybody looks.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("CNI_PATH", path).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = node.run(|| command.spawn())?.context("cannot run a plugin")?;
        let input = child.stdin.take();
        let output = thread::scope(|scope| {
            // A plugin that reads nothing may have ended by then.
            scope.spawn(|| input.map(|mut input| input.write_all(stdin)));
            child.wait_with_output()
        })?;
        Ok(Answer {
            plugin: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            verb: self.value("CNI_COMMAND").unwrap_or_default().to_owned(),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who was asked.
    pub plugin: String,
    /// For what.
    pub verb: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it said to the runtime.
    pub stdout: String,
    /// What it said to people.
    pub stderr: String,
}

impl Answer {
    /// The result, or `Null` if it printed none.
    ///
    /// # Errors
    /// [`Refused`] when it failed as the specification says; else when it failed otherwise, or printed no JSON.
    pub fn result(self) -> Result<Value> {
        let who = format!("{} {}", self.plugin, self.verb);
        let said = || format!("stdout {:?}, stderr {:?}", self.stdout, self.stderr);
        if self.status.success() {
            if self.stdout.trim().is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_str(&self.stdout).with_context(|| format!("{who}: {}", said()));
        }
        let Ok(error) = serde_json::from_str::<Value>(&self.stdout) else {
            bail!("{who}: {}, without an error object: {}", self.status, said());
        };
        let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
        ensure!(error["code"].is_u64() && error["msg"].is_string(), "{who}: no error object: {}", said());
        let refused = Refused {
            plugin: self.plugin.clone(),
            verb: self.verb.clone(),
            code: error["code"].as_u64().unwrap_or_default(),
            message: text("msg"),
            details: text("details"),
            version: text("cniVersion"),
        };
        Err(refused.into())
    }
}

/// An error object of the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Who refused.
    pub plugin: String,
    /// What.
    pub verb: String,
    /// `code`
    pub code: u64,
    /// `msg`
    pub message: String,
    /// `details`
    pub details: String,
    /// `cniVersion`
    pub version: String,
}

impl Refused {
    /// All that it says to people.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}", self.message, self.details)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: code {}: {} ({})", self.plugin, self.verb, self.code, self.message, self.details)
    }
}

impl std::error::Error for Refused {}

/// The refusal that something must have come to.
///
/// # Errors
/// When it came to anything else.
pub fn refused<T: fmt::Debug>(result: Result<T>) -> Result<Refused> {
    match result {
        Ok(value) => bail!("this was not refused, but came to {value:?}"),
        Err(error) => error.downcast::<Refused>(),
    }
}
