//! A named network namespace.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// Where what a node writes is kept, by the node's name. Goes with everything else there.
const KEPT: &str = "/run/kept";

/// A network namespace, and a mount namespace if it is to have folders of its own. Goes with the process namespace it was
/// made in.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    mounts: Option<File>,
}

impl Namespace {
    /// Makes a namespace, with loopback up and addresses usable at once.
    ///
    /// # Errors
    /// When `ip` is missing or refuses.
    pub fn new(name: &str) -> Result<Self> {
        ip(&["netns", "add", name], "")?;
        let file = File::open(format!("/run/netns/{name}")).context("cannot open a network namespace")?;
        let namespace = Self { name: name.to_owned(), file, mounts: None };
        // Without duplicate address detection, IPv6 addresses work from the first moment.
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The same once more, for a thread of its own.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn again(&self) -> Result<Self> {
        let mounts = self.mounts.as_ref().map(File::try_clone).transpose()?;
        Ok(Self { name: self.name.clone(), file: self.file.try_clone()?, mounts })
    }

    /// The same with folders that nobody else sees: `empty` ones, and `layered` ones that begin as they are on this machine.
    /// What is written there stays in memory. Network namespaces that are made later are seen all the same.
    ///
    /// # Errors
    /// When the kernel refuses, which is for lack of overlayfs.
    pub fn with_own_folders(mut self, layered: &[&str], empty: &[&str]) -> Result<Self> {
        let kept = PathBuf::from(KEPT).join(&self.name);
        let own = thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<File> {
                unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
                for folder in layered {
                    layer(&kept, Path::new(folder))
                        .with_context(|| format!("cannot put a layer on {folder}"))?;
                }
                for folder in empty {
                    fs::create_dir_all(folder)?;
                    mount(Some("tmpfs"), *folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
                        .with_context(|| format!("cannot mount a tmpfs on {folder}"))?;
                }
                Ok(File::open("/proc/thread-self/ns/mnt")?)
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        self.mounts = Some(own.with_context(|| format!("{} cannot have folders of its own", self.name))?);
        Ok(self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` commands in it, one a line.
    ///
    /// # Errors
    /// When one fails; says which.
    pub fn ip(&self, commands: &str) -> Result<()> {
        ip(&["-n", &self.name, "-batch", "-"], commands)
    }

    /// Sets a kernel parameter, by its path under `/proc/sys`.
    ///
    /// # Errors
    /// When it does not exist here or is refused.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.run(|| fs::write(format!("/proc/sys/{path}"), value))?
            .with_context(|| format!("cannot set {path} in namespace {}", self.name))
    }

    /// Runs a closure on a thread that is in this namespace. Sockets it makes stay there, and so does a process it
    /// starts.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When the closure does.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter().with_context(|| format!("cannot enter namespace {}", self.name))?;
                Ok(body())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread there.
    fn enter(&self) -> nix::Result<()> {
        if let Some(mounts) = &self.mounts {
            // Who shares a working directory with others may not go.
            unshare(CloneFlags::CLONE_FS)?;
            setns(mounts, CloneFlags::CLONE_NEWNS)?;
        }
        setns(&self.file, CloneFlags::CLONE_NEWNET)
    }

    /// Runs a program in it and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be run or fails; with what it said.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        self.feed(program, args, "")
    }

    /// Runs a program in it on some input and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be run or fails; with what it said and the input.
    pub fn feed(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(program);
        command.args(args);
        self.run(|| feed(&mut command, input))?
    }
}

/// Has a folder look as it does, while what is written to it is kept elsewhere.
fn layer(kept: &Path, folder: &Path) -> Result<()> {
    let name = folder.to_string_lossy().replace('/', "-");
    let [upper, work] = ["upper", "work"].map(|part| kept.join(format!("{name}-{part}")));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", folder.display(), upper.display(), work.display());
    Ok(mount(Some("overlay"), folder, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?)
}

/// Runs a program on some input and returns what it printed.
fn feed(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("cannot run {name}: is it installed?"))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // It may end before it has read everything; then its status tells.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.with_context(|| format!("cannot wait for {name}"))?;
    if !output.status.success() {
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
        bail!("{name} {}: {}\n{input}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ip(args: &[&str], input: &str) -> Result<()> {
    feed(Command::new("ip").args(args), input).map(drop)
}
