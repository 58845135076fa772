//! Runs programs in the workspace's folder, saying so first.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::{env, io};

use anyhow::{Context, Result, ensure};

/// What programs are run with besides the environment that is there.
#[derive(Default)]
pub(crate) struct Shell {
    variable: Option<(&'static str, &'static str)>,
}

/// A shell whose programs see this environment variable.
pub(crate) fn with_env(name: &'static str, value: &'static str) -> Shell {
    Shell { variable: Some((name, value)) }
}

/// Runs cargo, the same one that runs this.
pub(crate) fn cargo(args: &[&str], more: &[String]) -> Result<()> {
    Shell::default().cargo(args, more)
}

/// A program that runs beside others; what it prints is kept for later.
pub(crate) struct Beside {
    line: String,
    child: Child,
    printed: JoinHandle<io::Result<String>>,
}

/// Starts a program of this workspace, which has been built, beside what follows.
pub(crate) fn beside(name: &str, args: &[&str]) -> Result<Beside> {
    let line = format!("{name} {}", args.join(" "));
    eprintln!("$ {line} &");
    let (output, printing) = io::pipe()?;
    let mut command = Command::new(env::current_exe()?.with_file_name(name));
    command.args(args).stdout(printing.try_clone()?).stderr(printing).stdin(Stdio::null());
    let child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    // Our own copies of the pipe's writing end go with the command, or its end would never come.
    drop(command);
    let printed = thread::spawn(move || io::read_to_string(output));
    Ok(Beside { line, child, printed })
}

impl Beside {
    /// Waits until it has ended, and prints what it has printed.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        if let Ok(printed) = self.printed.join() {
            eprint!("$ {}\n{}", self.line, printed?);
        }
        ensure!(status.success(), "{}: {status}", self.line);
        Ok(())
    }
}

/// Runs a program.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<()> {
    Shell::default().run(program, program, args)
}

/// What a program prints, or `None` if it fails or is not there.
pub(crate) fn ask(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Shell {
    /// Runs cargo, the same one that runs this.
    pub(crate) fn cargo(&self, args: &[&str], more: &[String]) -> Result<()> {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let args: Vec<&str> = args.iter().copied().chain(more.iter().map(String::as_str)).collect();
        self.run("cargo", &cargo, &args)
    }

    fn run(&self, name: &str, program: &str, args: &[&str]) -> Result<()> {
        let set = self.variable.map(|(name, value)| format!("{name}={value} ")).unwrap_or_default();
        let line = format!("{set}{name} {}", args.join(" "));
        eprintln!("$ {line}");
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new(program);
        command.args(args).current_dir(workspace).envs(self.variable);
        let status = command.status().with_context(|| format!("cannot run {name}"))?;
        ensure!(status.success(), "{line}: {status}");
        Ok(())
    }
}
