//! The verbs: ADD, DEL, CHECK, GC, STATUS and VERSION.
//!
//! Each run is one request. What an attachment is made of is written down (`record.rs`) before anything is made, so an
//! `ADD` that is interrupted at any point is undone by `DEL`, by `GC`, or by itself if it can. `DEL` goes the other way:
//! the kernel's objects first, then the addresses, so that nobody gets one that still leads elsewhere, then the record.
//! Neither `DEL` nor `GC` nor `CHECK` needs the daemon.

mod add;
mod addresses;
mod check;
mod del;
mod delegate;
mod gc;
mod ipam;
mod record;
mod status;

use std::io::{self, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use crate::network::{Published, PublishedError};
use crate::spec::{self, Attachment, Code, Command, Config, Environment, Error, Version};

pub(crate) use record::{Chooser, Found, Record, Records};

/// What the plugin `pointsman-cni` does: it gives a pod an interface.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("steps") {
        return list_steps();
    }
    serve(&|request| match request.environment.command {
        Command::Add => add::add(request).map(Some),
        Command::Del => del::del(request).map(|()| None),
        Command::Check => check::check(request).map(|()| None),
        Command::Gc => gc::gc(request).map(|()| None),
        Command::Status => status::status(request).map(|()| None),
        Command::Version => Ok(None),
    })
}

/// What the plugin `pointsman-ipam` does: it chooses addresses for other plugins.
#[must_use]
pub fn ipam_main() -> ExitCode {
    serve(&ipam::run)
}

/// A request.
#[derive(Debug)]
struct Request {
    environment: Environment,
    config: Config,
}

impl Request {
    /// For whom it is.
    fn attachment(&self) -> Result<&Attachment, Error> {
        let attachment = self.environment.attachment.as_ref();
        attachment.ok_or_else(|| Error::new(Code::ENVIRONMENT, "the environment lacks CNI_CONTAINERID"))
    }

    /// The container's network namespace.
    fn netns(&self) -> Result<&Path, Error> {
        let netns = self.environment.netns.as_deref();
        netns.ok_or_else(|| Error::new(Code::ENVIRONMENT, "the environment lacks CNI_NETNS"))
    }

    /// What the daemon tells of the node's network, if it does.
    fn published(&self) -> Result<Option<Published>, Error> {
        match Published::read(&self.config.network_file) {
            Ok(published) => Ok(Some(published)),
            Err(PublishedError::Missing(_)) => Ok(None),
            Err(error) => Err(Error::new(Code::STATE, "what the daemon tells of the network cannot be used")
                .with(error.to_string())),
        }
    }
}

/// Something that the operator should know, and no reason to fail.
fn warn(what: &str) {
    // The runtime keeps it in its log. If nobody listens, nobody does.
    let _ = writeln!(io::stderr(), "pointsman: {what}");
}

/// Takes a request apart, has it done, and prints what came of it.
fn serve(run: &dyn Fn(&Request) -> Result<Option<Value>, Error>) -> ExitCode {
    let mut version = Version::NEWEST;
    let answer = catch_unwind(AssertUnwindSafe(|| answer(run, &mut version)));
    let answer = answer.unwrap_or_else(|_| {
        // What it says of itself is on standard error.
        Err(Error::new(Code::STATE, "this is a mistake in the plugin").with("standard error tells more"))
    });
    let (value, code) = match answer {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(value)) => (value, ExitCode::SUCCESS),
        Err(error) => (error.to_json(version), ExitCode::FAILURE),
    };
    let mut out = io::stdout().lock();
    match writeln!(out, "{value}").and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(error) => {
            warn(&format!("cannot tell what came of it: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn answer(
    run: &dyn Fn(&Request) -> Result<Option<Value>, Error>,
    version: &mut Version,
) -> Result<Option<Value>, Error> {
    let environment = Environment::of(|name| std::env::var_os(name)).inspect_err(|_| tell_terminal())?;
    let text = spec::read(io::stdin().lock());
    if environment.command == Command::Version {
        // Whoever asks need not say in which version.
        let asked: Option<Value> = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
        let asked = asked.as_ref().and_then(|asked| asked.get("cniVersion")).and_then(Value::as_str);
        return Ok(Some(Version::report(asked)));
    }
    let text = text?;
    *version = Config::version_of(&text).unwrap_or(Version::NEWEST);
    let config = Config::decode(text)?;
    match environment.command {
        Command::Check => config.version.must_have("CHECK", Version::V0_4_0)?,
        Command::Gc => config.version.must_have("GC", Version::V1_1_0)?,
        Command::Status => config.version.must_have("STATUS", Version::V1_1_0)?,
        _ => {}
    }
    run(&Request { environment, config })
}

/// Somebody who runs it by hand should learn what it is.
fn tell_terminal() {
    if io::stdin().is_terminal() {
        warn("this is a CNI plugin; container runtimes run it, with a request in the environment");
    }
}

/// For tests: the steps that an `ADD` can be killed at.
fn list_steps() -> ExitCode {
    let mut out = io::stdout().lock();
    let told = crate::fault::STEPS.iter().try_for_each(|step| writeln!(out, "{step}"));
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
