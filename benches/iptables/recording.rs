//! What the mode has `iptables-restore` read, recorded.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use modes::Mode;
use modes::iptables::Backend;
use testbed::Namespace;

use crate::workload::{self, CHANGES, Workload};

/// Where the scripts are put.
const FOLDER: &str = "RECORDED_SCRIPTS";

/// The scripts of one pass.
pub(crate) struct Recording {
    /// Those of the first sync.
    pub(crate) load: Vec<String>,
    /// Those of each change.
    pub(crate) changes: Vec<Vec<String>>,
}

impl Recording {
    /// Has this program run the mode with programs that note what they are given.
    pub(crate) fn make(services: u32, backend: Backend) -> Result<Self> {
        let scripts = env::temp_dir().join("scripts");
        fs::create_dir(&scripts)?;
        let path = path_with_wrapper(&env::temp_dir().join("wrappers"), backend)?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["--measure", "record", "--sizes", &services.to_string()]);
        command.args(["--backends", &backend.to_string()]).env("PATH", path).env(FOLDER, &scripts);
        let output = Namespace::new("recorded")?.run(|| command.output())??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the pass that records failed: {said}");
        let counts: Vec<usize> = serde_json::from_slice(&output.stdout)?;
        let read = |number| fs::read_to_string(scripts.join(file(number)));
        let between = |from, to| (from..to).map(read).collect::<Result<Vec<_>, _>>();
        let changes = counts.windows(2).map(|pair| between(pair[0], pair[1]));
        let load = between(0, *counts.first().context("nothing was recorded")?)?;
        let recording = Self { load, changes: changes.collect::<Result<_, _>>()? };
        // It may be a hundred megabytes of memory.
        fs::remove_dir_all(&scripts)?;
        Ok(recording)
    }

    /// What the first sync wrote, as one script with one transaction for each table.
    pub(crate) fn load_at_once(&self) -> String {
        let text = self.load.concat();
        let whole = |table: &str| {
            let of_table = text.split("COMMIT\n").filter_map(|part| part.strip_prefix(table));
            format!("{table}{}COMMIT\n", of_table.collect::<String>())
        };
        ["*filter\n", "*nat\n", "*mangle\n"].map(whole).concat()
    }
}

/// The pass that is recorded. Prints how many scripts there are after the first sync and after each change.
pub(crate) fn run_recorded(services: u32, backend: Backend) -> Result<()> {
    let folder = PathBuf::from(env::var_os(FOLDER).context("nobody records")?);
    let count = || -> Result<usize> { Ok(fs::read_dir(&folder)?.count()) };
    let (mut workload, mut mode) = (Workload::new(services), workload::mode(backend)?);
    mode.resync(&workload.desired())?;
    let mut counts = vec![count()?];
    for number in 0..CHANGES {
        mode.apply(&workload.change(number)?)?;
        counts.push(count()?);
    }
    println!("{}", serde_json::to_string(&counts)?);
    Ok(())
}

/// `PATH` with a program in front that keeps what it is given and hands it to the real one.
fn path_with_wrapper(folder: &Path, backend: Backend) -> Result<OsString> {
    let program = super::floor::program(backend);
    let wrapper = format!(
        "#!/bin/sh\n\
         file=$(printf '%s/%06d' \"${FOLDER}\" $(ls \"${FOLDER}\" | wc -l))\n\
         cat > \"$file\"\n\
         PATH=${{PATH#*:}}\n\
         exec {program} \"$@\" < \"$file\"\n"
    );
    fs::create_dir(folder)?;
    let file = folder.join(&program);
    fs::write(&file, wrapper)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").context("no PATH")?);
    Ok(path)
}

fn file(number: usize) -> String {
    format!("{number:06}")
}
