//! The real `pointsman`, running on the node of a [`Bed`](crate::Bed).

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::api_server::ApiServer;
use crate::cluster::Cluster;
use crate::log::Log;
use crate::namespace::Namespace;
use crate::ordinary::{User, program_as};
use crate::{await_that, vm};

/// The verbosity at which every sync is logged.
const DETAILS: &str = "4";
/// The file that says how to reach an API server.
const KUBECONFIG: &str = "kubeconfig";

/// Variables besides those that are inherited.
pub type Environment = Vec<(&'static str, String)>;

/// What it is started with.
#[derive(Debug)]
struct Start {
    user: User,
    args: Vec<String>,
    environment: Environment,
}

/// The proxy's process, its folder of manifests, and its log.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// Reads its log until it ends.
    reader: Option<JoinHandle<()>>,
    /// All that it is started with.
    start: Start,
    /// Its manifests, or its kubeconfig.
    folder: PathBuf,
    /// Where a file is written before it is moved into the folder, so that it appears whole.
    staging: TempDir,
    log: Arc<Log>,
}

impl Proxy {
    /// Starts it on a node with a cluster's objects, and waits until they are programmed.
    ///
    /// # Errors
    /// When it is not built, or does not sync; with its log.
    pub fn start(node: &Namespace, cluster: &Cluster, args: &[String]) -> Result<Self> {
        let proxy = Self::launch(node, cluster, Environment::new(), args)?;
        proxy.log.await_syncs(1)?;
        Ok(proxy)
    }

    /// Starts it on a node with a cluster's objects and these variables in its environment, and does not wait.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch(
        node: &Namespace,
        cluster: &Cluster,
        environment: Environment,
        args: &[String],
    ) -> Result<Self> {
        Self::launch_with_rights(node, cluster, User::Starter, environment, args)
    }

    /// The same, run by somebody whose rights end at the manifests: whoever starts it, or a container's root.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch_with_rights(
        node: &Namespace,
        cluster: &Cluster,
        user: User,
        environment: Environment,
        args: &[String],
    ) -> Result<Self> {
        let staging = tempfile::tempdir().context("cannot make a folder for manifests")?;
        let folder = staging.path().join("manifests");
        fs::create_dir(&folder)?;
        fs::write(folder.join("cluster.json"), cluster.manifest())?;
        let source = ["--manifests".to_owned(), folder.to_string_lossy().into_owned()];
        let start = Start { user, args: [&source, args].concat(), environment };
        Self::launch_with(node, folder, staging, start)
    }

    /// Starts it on a copy of a folder of manifests.
    ///
    /// # Errors
    /// As [`Proxy::start`], and when the folder cannot be copied.
    pub fn start_on_copy_of(node: &Namespace, manifests: &Path, args: &[String]) -> Result<Self> {
        let staging = tempfile::tempdir().context("cannot make a folder for manifests")?;
        let folder = staging.path().join("manifests");
        fs::create_dir(&folder)?;
        let context = || format!("cannot copy {}", manifests.display());
        for entry in fs::read_dir(manifests).with_context(context)? {
            let entry = entry?;
            fs::copy(entry.path(), folder.join(entry.file_name())).with_context(context)?;
        }
        let proxy = Self::launch_on_folder(node, folder, staging, Environment::new(), args)?;
        proxy.log.await_syncs(1)?;
        Ok(proxy)
    }

    fn launch_on_folder(
        node: &Namespace,
        folder: PathBuf,
        staging: TempDir,
        environment: Environment,
        args: &[String],
    ) -> Result<Self> {
        let source = ["--manifests".to_owned(), folder.to_string_lossy().into_owned()];
        Self::launch_as(node, folder, staging, &[&source, args].concat(), environment)
    }

    /// Starts it with an API server, by a kubeconfig, and does not wait.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch_with_api(node: &Namespace, server: &ApiServer, args: &[String]) -> Result<Self> {
        let staging = tempfile::tempdir().context("cannot make a folder for a kubeconfig")?;
        let folder = staging.path().join("configuration");
        fs::create_dir(&folder)?;
        let kubeconfig = folder.join(KUBECONFIG);
        fs::write(&kubeconfig, server.kubeconfig())?;
        let source = ["--kubeconfig".to_owned(), kubeconfig.to_string_lossy().into_owned()];
        Self::launch_as(node, folder, staging, &[&source, args].concat(), Environment::new())
    }

    /// Starts it with an API server, by a kubeconfig, and waits until the server's objects are programmed.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_with_api(node: &Namespace, server: &ApiServer, args: &[String]) -> Result<Self> {
        let proxy = Self::launch_with_api(node, server, args)?;
        proxy.log.await_syncs(1)?;
        Ok(proxy)
    }

    /// Starts it with these variables in its environment, as in a pod, and does not wait.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch_with_environment(
        node: &Namespace,
        environment: Environment,
        args: &[String],
    ) -> Result<Self> {
        let staging = tempfile::tempdir().context("cannot make an empty folder")?;
        Self::launch_as(node, staging.path().to_path_buf(), staging, args, environment)
    }

    fn launch_as(
        node: &Namespace,
        folder: PathBuf,
        staging: TempDir,
        args: &[String],
        environment: Environment,
    ) -> Result<Self> {
        let start = Start { user: User::Starter, args: args.to_vec(), environment };
        Self::launch_with(node, folder, staging, start)
    }

    fn launch_with(node: &Namespace, folder: PathBuf, staging: TempDir, start: Start) -> Result<Self> {
        let log = Arc::new(Log::default());
        let (child, reader) = spawn(node, &start, &log)?;
        Ok(Self { child, reader: Some(reader), start, folder, staging, log })
    }

    /// Starts it as an ordinary user, with these variables in its environment, and does not wait.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch_ordinary(
        node: &Namespace,
        source: Objects<'_>,
        environment: Environment,
        args: &[String],
    ) -> Result<Self> {
        let staging = tempfile::tempdir().context("cannot make a folder for objects")?;
        fs::set_permissions(staging.path(), Permissions::from_mode(0o755))?;
        let folder = staging.path().join("objects");
        fs::create_dir(&folder)?;
        let (flag, path) = match source {
            Objects::Manifests(cluster) => {
                fs::write(folder.join("cluster.json"), cluster.manifest())?;
                ("--manifests", folder.clone())
            }
            Objects::Api(server) => {
                fs::write(folder.join(KUBECONFIG), server.kubeconfig())?;
                ("--kubeconfig", folder.join(KUBECONFIG))
            }
        };
        let source = [flag.to_owned(), path.to_string_lossy().into_owned()];
        let start = Start { user: User::Ordinary, args: [&source, args].concat(), environment };
        Self::launch_with(node, folder, staging, start)
    }

    /// Waits until it has synced so often.
    ///
    /// # Errors
    /// When it does not; with its log.
    pub fn await_syncs(&self, count: usize) -> Result<()> {
        self.log.await_syncs(count)
    }

    /// The effective user and capabilities of the process, as `/proc` writes them.
    ///
    /// # Errors
    /// When it has ended.
    pub fn identity(&self) -> Result<(String, String)> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).context("pointsman has ended")?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let user = field("Uid:").split_whitespace().nth(1).unwrap_or_default();
        Ok((user.to_owned(), field("CapEff:").trim().to_owned()))
    }

    /// The number of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The folder of manifests that it watches.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces a manifest, as one save, and waits until the proxy has synced it.
    ///
    /// # Errors
    /// When it does not sync; with its log.
    pub fn save(&self, file: &str, text: &str) -> Result<()> {
        self.await_sync_after(|| self.write(file, text))
    }

    /// Replaces a manifest, as one save, and does not wait.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let written = self.staging.path().join(file);
        fs::write(&written, text)?;
        Ok(fs::rename(&written, self.folder.join(file))?)
    }

    /// Waits until it has logged nothing for longer than it may put a repair off.
    ///
    /// # Errors
    /// When it does not come to rest.
    pub fn await_quiet(&self) -> Result<()> {
        // In the virtual machine, the repair itself takes seconds.
        self.log.await_quiet(vm::patience(Duration::from_millis(600)))
    }

    /// Waits until what the last changes left without use is gone, which happens when there is nothing else to do.
    ///
    /// # Errors
    /// When it does not tidy.
    pub fn await_tidied(&self) -> Result<()> {
        let last = |lines: &[String], what: &str| lines.iter().rposition(|line| line.contains(what));
        self.log.await_that("tidy", |lines| last(lines, " tidied ") > last(lines, " synced changes="))
    }

    /// What the process uses.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resources(&self) -> Result<Resources> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(process.join("status")).context("pointsman has ended")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|value| value.trim().strip_suffix(" kB")).context("no VmRSS")?;
        let descriptors = fs::read_dir(process.join("fd"))?.count();
        Ok(Resources { resident_kb: resident.parse()?, descriptors })
    }

    /// Lets the running process have no more descriptors than this.
    ///
    /// # Errors
    /// When it has ended, or `prlimit` is missing.
    pub fn bound_descriptors(&self, most: usize) -> Result<()> {
        let (process, bound) = (format!("--pid={}", self.child.id()), format!("--nofile={most}:{most}"));
        let output = std::process::Command::new("prlimit")
            .args([process, bound])
            .output()
            .context("cannot run prlimit")?;
        ensure!(output.status.success(), "prlimit: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Whether the process has a file open.
    ///
    /// # Errors
    /// When it has ended.
    pub fn has_open(&self, file: &Path) -> Result<bool> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).context("pointsman has ended")?;
        Ok(open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|path| path == file))
    }

    /// Whether the process is running a program that has this in its command line.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn is_running(&self, words: &str) -> Result<bool> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).context("pointsman has ended")?;
        let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        let children = children.collect::<Vec<_>>().concat();
        let lines = children.split_whitespace().map(|id| fs::read(format!("/proc/{id}/cmdline")));
        Ok(lines.filter_map(Result::ok).any(|line| String::from_utf8_lossy(&line).contains(words)))
    }

    /// Does something that the proxy will notice by itself, and waits until it has synced.
    ///
    /// # Errors
    /// When that fails, or it does not sync; with its log.
    pub fn await_sync_after(&self, doing: impl FnOnce() -> Result<()>) -> Result<()> {
        let syncs = self.log.syncs();
        doing()?;
        self.log.await_syncs(syncs + 1)
    }

    /// Replaces all objects, as one save, and waits until they are programmed.
    ///
    /// # Errors
    /// As [`Proxy::save`].
    pub fn serve(&self, cluster: &Cluster) -> Result<()> {
        self.save("cluster.json", &cluster.manifest())
    }

    /// Replaces the kubeconfig of one that was started with an API server.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn reconfigure(&self, server: &ApiServer) -> Result<()> {
        self.write(KUBECONFIG, &server.kubeconfig())
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        self.ended()
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        self.ended()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn await_end(&mut self) -> Result<ExitStatus> {
        await_that("pointsman ends", || Ok(self.child.try_wait()?.is_some()))?;
        self.ended()
    }

    /// Waits until it has ended and its log has been read.
    fn ended(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        if let Some(Err(panic)) = self.reader.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        Ok(status)
    }

    /// Starts it again after it ended, and waits until it has synced.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_again(&mut self, node: &Namespace) -> Result<()> {
        let syncs = self.log.syncs();
        let (child, reader) = spawn(node, &self.start, &self.log)?;
        (self.child, self.reader) = (child, Some(reader));
        self.log.await_syncs(syncs + 1)
    }

    /// Starts it again after it ended, on what was written meanwhile, and waits until it has logged a line with this in it.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub fn start_again_until(&mut self, node: &Namespace, text: &str) -> Result<()> {
        let matching = |lines: &[String]| lines.iter().filter(|line| line.contains(text)).count();
        let before = matching(&self.log.lines().lines);
        let (child, reader) = spawn(node, &self.start, &self.log)?;
        (self.child, self.reader) = (child, Some(reader));
        self.log.await_that(&format!("log {text:?}"), |lines| matching(lines) > before)
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lines().lines.join("\n")
    }

    /// The last line of its log that has a word in it.
    #[must_use]
    pub fn last_line_with(&self, word: &str) -> Option<String> {
        self.log.lines().lines.iter().rev().find(|line| line.contains(word)).cloned()
    }

    /// Waits until it has logged a line with this in it.
    ///
    /// # Errors
    /// When it does not.
    pub fn await_line_with(&self, text: &str) -> Result<String> {
        self.log
            .await_that(&format!("log {text:?}"), |lines| lines.iter().any(|line| line.contains(text)))?;
        self.last_line_with(text).context("the line vanished")
    }

    /// Does something, and waits until the proxy has then logged a line with this in it.
    ///
    /// # Errors
    /// When that fails, or it does not.
    pub fn await_line_after(&self, text: &str, doing: impl FnOnce() -> Result<()>) -> Result<String> {
        let matching = |lines: &[String]| lines.iter().filter(|line| line.contains(text)).count();
        let before = matching(&self.log.lines().lines);
        doing()?;
        self.log.await_that(&format!("log {text:?}"), |lines| matching(lines) > before)?;
        self.last_line_with(text).context("the line vanished")
    }
}

/// Where an ordinary user's proxy finds objects.
#[derive(Clone, Copy)]
pub enum Objects<'a> {
    /// In a folder of manifests.
    Manifests(&'a Cluster),
    /// At an API server.
    Api(&'a ApiServer),
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Resident memory in KiB.
    pub resident_kb: u64,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary under test, which stands beside the program that tests it.
///
/// # Errors
/// When it is not there.
pub fn binary() -> Result<PathBuf> {
    sibling("pointsman")
}

/// A binary of ours, which stands beside the program that tests it.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this program's own file")?;
    let found = this.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no {name} beside this program: cargo build --workspace --bins"))
}

/// The binary where a user can run it: its own folder may be closed to others.
///
/// # Errors
/// As [`binary`], and when it cannot be mounted elsewhere.
pub fn binary_for(user: User) -> Result<PathBuf> {
    let binary = binary()?;
    if user != User::Ordinary {
        return Ok(binary);
    }
    let open = std::env::temp_dir().join("pointsman");
    if !open.exists() {
        fs::write(&open, "")?;
        mount(Some(&binary), &open, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("cannot mount pointsman on {}", open.display()))?;
    }
    Ok(open)
}

fn spawn(node: &Namespace, start: &Start, log: &Arc<Log>) -> Result<(Child, JoinHandle<()>)> {
    let mut command = program_as(start.user, &binary_for(start.user)?);
    // Tests wait for syncs, also for those that found nothing to do.
    command
        .args(["-v", DETAILS])
        .args(&start.args)
        .envs(start.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = node.run(|| command.spawn())?.context("cannot start pointsman")?;
    let stderr = child.stderr.take().context("pointsman has no stderr")?;
    let log = Arc::clone(log);
    log.began();
    let reader = thread::spawn(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| log.push(line));
        log.ended();
    });
    Ok((child, reader))
}
