//! What `pointsman diff` says.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Subject;
use crate::ordinary::{User, program_as};
use crate::proxy::binary_for;
use crate::rules::Edit;

/// What it said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// 0 for no difference, 1 for some, 2 if that cannot be told.
    pub status: Option<i32>,
    /// What it printed.
    pub text: String,
    /// What went wrong.
    pub complaint: String,
}

/// A difference, as it is told to programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `+` for what is missing, `-` for what should not be there.
    pub sign: String,
    /// What it is.
    pub what: String,
    /// The service port that it is about.
    pub service: Option<String>,
}

impl Said {
    /// What differs, as JSON says it.
    ///
    /// # Errors
    /// When that cannot be told, or the exit status says otherwise.
    pub fn differences(&self) -> Result<Vec<Difference>> {
        let told: Value = serde_json::from_str(&self.text).with_context(|| format!("{self:?}"))?;
        let text = |it: &Value, field: &str| it[field].as_str().map(ToOwned::to_owned);
        let read = |it: &Value| {
            let (sign, what) = (text(it, "sign")?, text(it, "what")?);
            Some(Difference { sign, what, service: text(it, "service") })
        };
        let differences = told["differences"].as_array().into_iter().flatten();
        let differences: Option<Vec<_>> = differences.map(read).collect();
        let differences = differences.with_context(|| format!("{self:?}"))?;
        let status = Some(i32::from(!differences.is_empty()));
        ensure!(self.status == status && self.complaint.is_empty(), "{self:?}");
        Ok(differences)
    }
}

impl Subject {
    /// Runs `pointsman diff` with these arguments on the node, as somebody.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn diff(&self, user: User, args: &[&str]) -> Result<Said> {
        let program = binary_for(user)?;
        let run = || -> Result<_> {
            let mut command: Command = program_as(user, &program);
            Ok(command.arg("diff").args(args).output()?)
        };
        let output = self.bed.node.run(run)??;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (text, complaint) = (text(&output.stdout), text(&output.stderr));
        Ok(Said { status: output.status.code(), text, complaint })
    }

    /// What differs from what a proxy in a folder of manifests would do that is started as this one was.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn differences_from(&self, folder: &Path) -> Result<Vec<Difference>> {
        let (args, folder) = (self.all_args(), folder.to_string_lossy());
        let mut all = vec!["-o", "json", "--manifests", &folder];
        all.extend(args.iter().map(String::as_str));
        self.diff(User::Starter, &all)?.differences()
    }

    /// The proxy's folder of manifests tells the kernel apart from what it should be, when the proxy has died and somebody
    /// was there: what a fresh sync left, what was removed, what was added, and nothing is changed by looking.
    ///
    /// # Errors
    /// When something is told that is not so, or not told.
    pub fn check_that_differences_are_told(&mut self) -> Result<()> {
        let folder = self.proxy()?.folder().to_owned();
        self.proxy()?.await_tidied()?;
        self.proxy()?.kill()?;
        let fresh = self.differences_from(&folder)?;
        ensure!(fresh.is_empty(), "a fresh sync differs: {fresh:#?}");
        self.rules().edit(Edit::RemoveService)?;
        let before = self.rules().listing()?;
        let removed = self.differences_from(&folder)?;
        let is_web = |it: &Difference| it.sign == "+" && it.service.as_deref() == Some("test/web:http");
        ensure!(!removed.is_empty() && removed.iter().all(is_web), "{removed:#?}");
        ensure!(self.mode().is("ipvs") || removed.len() == 1, "{removed:#?}");
        self.rules().edit(Edit::BlockEverything)?;
        let added = self.differences_from(&folder)?;
        let (unwanted, missing): (Vec<_>, Vec<_>) = added.into_iter().partition(|it| it.sign == "-");
        ensure!(missing == removed, "{missing:#?}");
        ensure!(unwanted.len() == 1 && unwanted[0].service.is_none(), "{unwanted:#?}");
        self.rules().edit(Edit::FlushServices)?;
        ensure!(self.differences_from(&folder)?.len() > 1);
        let after = self.rules().listing()?;
        ensure!(before != after, "the edits are listed");
        self.differences_from(&folder)?;
        ensure!(self.rules().listing()? == after, "looking changed something");
        Ok(())
    }
}
