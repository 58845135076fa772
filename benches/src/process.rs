//! What a process and the kernel use, as `/proc` tells.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A process that is measured.
pub struct Process(PathBuf);

impl Process {
    /// The process of this id.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{pid}")))
    }

    /// Time on a processor, of all threads there are.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> Result<Duration> {
        let mut total = 0;
        for task in fs::read_dir(self.0.join("task")).context("the process has ended")? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Time on a processor, of all threads that there ever were and of every process that it has run and waited for. In
    /// hundredths of a second.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_of_tree(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.0.join("stat")).context("the process has ended")?;
        // Fields are counted behind the program's name, which may have any characters: utime is the twelfth.
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(4).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(10 * ticks))
    }

    /// Bytes resident now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// Most bytes that were ever resident.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak(&self) -> Result<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> Result<f64> {
        kilobytes(&fs::read_to_string(self.0.join("status")).context("the process has ended")?, field)
    }

    /// Waits until the process has used next to no processor time for a second.
    ///
    /// # Errors
    /// When it never comes to rest.
    pub fn await_rest(&self) -> Result<()> {
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

/// Waits until nobody has used the processors for a second: the kernel takes namespaces of former measurements down when
/// their processes have long gone. For a quarter of a minute at
/// most.
///
/// # Errors
/// When `/proc` does not tell.
pub fn await_idle_machine() -> Result<()> {
    let times = || -> Result<(u64, u64)> {
        let stat = fs::read_to_string("/proc/stat")?;
        let times = stat.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
        let times = times.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        Ok((times.iter().skip(3).take(2).sum(), times.iter().sum()))
    };
    let mut before = times()?;
    for _ in 0..15 {
        std::thread::sleep(Duration::from_secs(1));
        let now = times()?;
        if 20 * (now.0 - before.0) > 19 * (now.1 - before.1) {
            break;
        }
        before = now;
    }
    Ok(())
}

/// Bytes that the kernel holds for itself: slabs, vmalloc and per-processor memory.
///
/// # Errors
/// When `/proc` does not tell.
pub fn kernel_memory() -> Result<f64> {
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
