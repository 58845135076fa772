//! What a process and the kernel use, as `/proc` tells.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A process that is measured.
pub(crate) struct Process(PathBuf);

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{pid}")))
    }

    /// Time on a processor, of all threads.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut total = 0;
        for task in fs::read_dir(self.0.join("task")).context("the process has ended")? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Bytes resident now.
    pub(crate) fn resident(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// Most bytes that were ever resident.
    pub(crate) fn peak(&self) -> Result<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> Result<f64> {
        kilobytes(&fs::read_to_string(self.0.join("status")).context("the process has ended")?, field)
    }

    /// Waits until the process has used next to no processor time for a second.
    pub(crate) fn await_rest(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut before = self.cpu()?;
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.cpu()?;
            if now - before < Duration::from_millis(5) {
                return Ok(());
            }
            before = now;
        }
        bail!("the process does not come to rest")
    }
}

/// Bytes that the kernel holds for itself: slabs, vmalloc and per-processor memory.
pub(crate) fn kernel_memory() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let fields = ["Slab:", "VmallocUsed:", "Percpu:"];
    fields.iter().map(|field| kilobytes(&text, field)).sum()
}

fn kilobytes(text: &str, field: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let number: f64 = number.with_context(|| format!("no {field}"))?.parse()?;
    Ok(number * 1024.0)
}
