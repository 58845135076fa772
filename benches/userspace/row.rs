//! What is measured of a subject, and what comes of it.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use benches::figures::{median, p99};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use socket2::Type;

use crate::frontend::{self, Frontend};
use crate::load::{self, Connections, Download, Load, Pace, Requests, Tally, Upload};
use crate::place::Place;
use crate::report as what;
use crate::subject::{Limits, Running, Subject};

/// Connections, and requests, under way at once.
pub(crate) const CONCURRENCY: usize = 64;
/// New connections in a second when latency is measured.
pub(crate) const MODERATE_CONNECTIONS: u32 = 1_000;
/// Requests in a second when latency is measured.
pub(crate) const MODERATE_REQUESTS: u32 = 5_000;

/// A load, and what is looked at under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    Connections,
    Requests,
    Upload,
    Download,
    ConnectionLatency,
    RequestLatency,
    Idle,
    Datagrams,
    FanOut,
}

/// Figures by what they are of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample(pub(crate) Vec<(String, f64)>);

impl Sample {
    fn add(&mut self, what: &str, value: f64) {
        self.0.push((what.to_owned(), value));
    }

    fn add_all<const N: usize>(&mut self, names: [&str; N], values: [f64; N]) {
        names.into_iter().zip(values).for_each(|(name, value)| self.add(name, value));
    }
}

impl Row {
    /// Whether it makes sense for a subject.
    pub(crate) fn concerns(self, subject: Subject) -> bool {
        match self {
            Self::Upload | Self::Download => true,
            _ if subject == Subject::HaproxySplice => false,
            Self::Idle => subject.is_a_proxy(),
            Self::Datagrams => subject != Subject::Haproxy,
            Self::FanOut => subject != Subject::Direct,
            _ => true,
        }
    }

    /// Measures it, for so long.
    pub(crate) fn measure(
        self,
        place: &Place,
        subject: &Running,
        limits: Limits,
        time: Duration,
    ) -> Result<Sample> {
        let frontend = self.frontend();
        let entry = subject.entry(frontend)?;
        let mut sample = Sample::default();
        match self {
            Self::Idle => idle(place, subject, entry, limits.connections, &mut sample)?,
            Self::FanOut => fan_out(place, subject, &mut sample)?,
            _ => place.client().run(|| self.put_on(place, subject, entry, time, &mut sample))??,
        }
        Ok(sample)
    }

    fn frontend(self) -> Frontend {
        match self {
            Self::Connections | Self::ConnectionLatency => frontend::ONCE,
            Self::Requests | Self::RequestLatency | Self::Idle => frontend::ECHO,
            Self::Upload => frontend::SINK,
            Self::Download => frontend::SOURCE,
            Self::Datagrams => frontend::DATAGRAMS,
            Self::FanOut => frontend::FAN_OUTS[0],
        }
    }

    /// What its rate is called, and the time on a processor of the proxy and of everybody.
    fn names(self) -> [&'static str; 3] {
        match self {
            Self::Requests | Self::RequestLatency | Self::Idle => {
                [what::REQUESTS, what::REQUESTS_CPU, what::REQUESTS_ALL]
            }
            Self::Upload => [what::UPLOAD, what::UPLOAD_CPU, what::UPLOAD_ALL],
            Self::Download => [what::DOWNLOAD, what::DOWNLOAD_CPU, what::DOWNLOAD_ALL],
            Self::Datagrams => [what::DATAGRAMS, what::DATAGRAMS_CPU, what::DATAGRAMS_ALL],
            Self::Connections | Self::ConnectionLatency | Self::FanOut => {
                [what::CONNECTIONS, what::CONNECTIONS_CPU, what::CONNECTIONS_ALL]
            }
        }
    }

    fn load(self, to: SocketAddr) -> Result<Box<dyn Load>> {
        let closed = Pace::Closed(CONCURRENCY);
        let every = |rate: u32| Pace::Every(Duration::from_secs(1) / rate);
        Ok(match self {
            Self::Connections => Box::new(Connections::new(to, closed)?),
            Self::ConnectionLatency => Box::new(Connections::new(to, every(MODERATE_CONNECTIONS))?),
            Self::Requests => Box::new(Requests::open(to, Type::STREAM, CONCURRENCY, closed)?),
            Self::RequestLatency => {
                Box::new(Requests::open(to, Type::STREAM, CONCURRENCY, every(MODERATE_REQUESTS))?)
            }
            Self::Datagrams => Box::new(Requests::open(to, Type::DGRAM, CONCURRENCY, closed)?),
            Self::Upload => Box::new(Upload::open(to)?),
            Self::Download => Box::new(Download::open(to)?),
            Self::Idle | Self::FanOut => anyhow::bail!("{self:?} is no load"),
        })
    }

    fn put_on(
        self,
        place: &Place,
        subject: &Running,
        to: SocketAddr,
        time: Duration,
        sample: &mut Sample,
    ) -> Result<()> {
        let mut load = self.load(to)?;
        load.run(time / 4)?;
        let (own, others) = (subject.cpu()?, place.cpu_of_load()?);
        let mut tally = load.run(time)?;
        let own = subject.cpu()? - own;
        let all = own + place.cpu_of_load()? - others;
        let done = tally.done as f64;
        let rate = done / tally.took.as_secs_f64();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / done;
        match self {
            Self::ConnectionLatency => {
                latency(sample, [what::CONNECTION_P50, what::CONNECTION_P99], &mut tally);
            }
            Self::RequestLatency => latency(sample, [what::REQUEST_P50, what::REQUEST_P99], &mut tally),
            Self::Upload | Self::Download => {
                // A microsecond for a byte is a million milliseconds for a gigabyte.
                sample.add_all(self.names(), [rate / 1e6, each(own) * 1e6, each(all) * 1e6]);
            }
            _ => sample.add_all(self.names(), [rate, each(own), each(all)]),
        }
        Ok(())
    }
}

fn latency(sample: &mut Sample, [half, most]: [&str; 2], tally: &mut Tally) {
    sample.add(half, median(&mut tally.latencies).as_secs_f64() * 1e6);
    sample.add(most, p99(&mut tally.latencies).as_secs_f64() * 1e6);
}

fn fan_out(place: &Place, subject: &Running, sample: &mut Sample) -> Result<()> {
    for frontend in frontend::FAN_OUTS {
        let (to, endpoints) = (subject.entry(frontend)?, frontend.endpoints);
        let spread = place.client().run(|| load::spread(to, endpoints))??;
        sample.add(&what::fan_out(endpoints), spread as f64);
    }
    Ok(())
}

/// What a proxy uses.
struct Used {
    resident: f64,
    proportional: f64,
    descriptors: f64,
}

fn idle(
    place: &Place,
    subject: &Running,
    to: SocketAddr,
    connections: usize,
    sample: &mut Sample,
) -> Result<()> {
    // Whatever the first connections bring about has been brought about.
    drop(place.client().run(|| load::hold(to, CONCURRENCY))??);
    let before = used(subject)?;
    let held = place.client().run(|| load::hold(to, connections))??;
    let after = used(subject)?;
    let each = |before: f64, after: f64| (after - before) / connections as f64;
    sample.add(what::IDLE_RSS, each(before.resident, after.resident));
    sample.add(what::IDLE_PSS, each(before.proportional, after.proportional));
    sample.add(what::IDLE_DESCRIPTORS, each(before.descriptors, after.descriptors));
    drop(held);
    Ok(())
}

fn used(subject: &Running) -> Result<Used> {
    let mut used = Used { resident: 0.0, proportional: 0.0, descriptors: 0.0 };
    for pid in subject.processes()? {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let bytes = |field: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
        };
        used.resident += bytes("Rss:")?;
        used.proportional += bytes("Pss:")?;
        used.descriptors += fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64;
    }
    Ok(used)
}
