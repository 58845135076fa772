//! What the process uses, read from `/proc` when somebody asks: what Prometheus' own clients tell under these names.

use std::fmt;

use procfs::process::{LimitValue, Process as Proc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads them.
#[derive(Debug)]
pub(super) struct Process;

/// Times are in seconds, sizes in bytes.
#[derive(Debug)]
struct Figures {
    cpu: f64,
    open_descriptors: usize,
    /// `None` if there is no bound.
    most_descriptors: Option<u64>,
    resident: u64,
    addressed: u64,
    most_addressed: Option<u64>,
    /// Unix time.
    started: f64,
}

impl Figures {
    fn read() -> procfs::ProcResult<Self> {
        let this = Proc::myself()?;
        let (stat, limits) = (this.stat()?, this.limits()?);
        let seconds = |ticks: u64| as_float(ticks) / as_float(procfs::ticks_per_second());
        Ok(Self {
            cpu: seconds(stat.utime + stat.stime),
            open_descriptors: this.fd_count()?,
            most_descriptors: bound(limits.max_open_files.soft_limit),
            resident: stat.rss * procfs::page_size(),
            addressed: stat.vsize,
            most_addressed: bound(limits.max_address_space.soft_limit),
            started: as_float(procfs::boot_time_secs()?) + seconds(stat.starttime),
        })
    }
}

fn bound(limit: LimitValue) -> Option<u64> {
    match limit {
        LimitValue::Value(most) => Some(most),
        LimitValue::Unlimited => None,
    }
}

/// None of these is beyond the 53 bits that are exact.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn as_float(number: u64) -> f64 {
    number as f64
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Without /proc there is nothing to tell.
        Figures::read().map_or(Ok(()), |figures| Page(encoder).write(&figures))
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn write(&mut self, figures: &Figures) -> fmt::Result {
        let unbounded = |bound: Option<u64>| bound.map_or(f64::INFINITY, as_float);
        let cpu = "Total user and system CPU time spent in seconds";
        let encoder = self.0.encode_descriptor("process_cpu_seconds", cpu, None, MetricType::Counter)?;
        ConstCounter::new(figures.cpu).encode(encoder)?;
        let open = u64::try_from(figures.open_descriptors).unwrap_or(u64::MAX);
        self.gauge("open_fds", "Number of open file descriptors", as_float(open))?;
        let most = unbounded(figures.most_descriptors);
        self.gauge("max_fds", "Maximum number of open file descriptors", most)?;
        self.gauge("resident_memory_bytes", "Resident memory size in bytes", as_float(figures.resident))?;
        self.gauge("virtual_memory_bytes", "Virtual memory size in bytes", as_float(figures.addressed))?;
        let most = unbounded(figures.most_addressed);
        self.gauge("virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes", most)?;
        let started = "Start time of the process since unix epoch in seconds";
        self.gauge("start_time_seconds", started, figures.started)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let (name, gauge) = (format!("process_{name}"), ConstGauge::new(value));
        gauge.encode(self.0.encode_descriptor(&name, help, None, MetricType::Gauge)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_of_this_process() {
        let before = Figures::read().unwrap();
        let held = std::fs::File::open("/proc/self/stat").unwrap();
        let after = Figures::read().unwrap();
        // Other tests run in this process too.
        assert!(before.open_descriptors > 0 && after.cpu >= before.cpu);
        assert!(after.resident > 1 << 20 && after.addressed > after.resident);
        let age = super::super::now() - after.started;
        assert!((-1.0..3600.0).contains(&age), "{age} s");
        drop(held);
    }
}
