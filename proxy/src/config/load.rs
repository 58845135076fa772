//! Which configuration counts: the file's, if one is given, else the flags'.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use super::decode::{Decoded, Doubt, decode};
use super::fields::differences;
use super::schema::KubeProxyConfiguration;
use crate::BadUsage;
use crate::cli::{self, Cli};
use crate::options::{Invalid, Options};

/// A larger file is a mistake: a ConfigMap has a megabyte at most.
const LARGEST: u64 = 4 << 20;

/// Fields that are accepted, and make no difference.
const UNHEEDED: [&str; 13] = [
    "clientConnection.acceptContentTypes",
    "clientConnection.burst",
    "clientConnection.contentType",
    "clientConnection.qps",
    "configSyncPeriod",
    "enableProfiling",
    "featureGates",
    "logging.flushFrequency",
    "logging.options.",
    "portRange",
    "showHiddenMetricsForVersion",
    "windowsRunAsService",
    "winkernel.",
];

/// A configuration, and what it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) configuration: KubeProxyConfiguration,
    pub(crate) options: Options,
    pub(crate) doubts: Vec<Doubt>,
}

impl Loaded {
    /// The fields that say something, and make no difference.
    pub(crate) fn unheeded(&self) -> Vec<String> {
        let said = differences(&KubeProxyConfiguration::default(), &self.configuration);
        let is_unheeded = |field: &String| {
            UNHEEDED.iter().any(|known| field == known || (known.ends_with('.') && field.starts_with(known)))
        };
        said.into_keys().filter(is_unheeded).collect()
    }
}

/// What the command line asks for, or the file that it names.
///
/// # Errors
/// When the flags, or the file, make no sense.
pub(crate) fn load(cli: &Cli) -> anyhow::Result<Loaded> {
    if !cli.config.is_empty() {
        return reload(cli).map_err(|reasons| anyhow!("cannot use --config {}: {reasons}", cli.config));
    }
    let mut configuration = cli.configured.configuration();
    cli.logging.override_in(&mut configuration.logging);
    let decoded = Decoded { configuration, doubts: Vec::new() };
    Ok(understood(decoded, |invalid| invalid.told(cli::flag)).map_err(BadUsage)?)
}

/// What the file that the command line names says now, with the flags that count all the same.
///
/// # Errors
/// With all reasons why it cannot be used, on one line.
pub(crate) fn reload(cli: &Cli) -> Result<Loaded, String> {
    let mut decoded = read(Path::new(&cli.config)).map_err(|error| format!("{error:#}"))?;
    let configuration = &mut decoded.configuration;
    if !cli.configured.hostname_override.is_empty() {
        configuration.hostname_override.clone_from(&cli.configured.hostname_override);
    }
    cli.logging.override_in(&mut configuration.logging);
    understood(decoded, Invalid::to_string)
}

/// What a file asks for, by itself.
///
/// # Errors
/// When it cannot be read, or makes no sense.
pub(super) fn load_file(file: &Path) -> anyhow::Result<Loaded> {
    understood(read(file)?, Invalid::to_string).map_err(|reasons| anyhow!(reasons))
}

fn read(file: &Path) -> anyhow::Result<Decoded> {
    let text = String::from_utf8(read_bytes(file)?).context("it is not UTF-8")?;
    decode(&text).context("it cannot be decoded")
}

/// A file's content, which is bounded.
///
/// # Errors
/// When it cannot be read, or is too large.
pub(super) fn read_bytes(file: &Path) -> anyhow::Result<Vec<u8>> {
    // Opening a pipe would block until somebody writes to it.
    if !file.metadata()?.is_file() {
        bail!("it is no file");
    }
    let mut content = Vec::new();
    File::open(file)?.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        bail!("it is larger than {} MiB", LARGEST >> 20);
    }
    Ok(content)
}

/// Makes sense of a configuration, or tells all that makes none on one line.
fn understood(decoded: Decoded, tell: impl Fn(&Invalid) -> String) -> Result<Loaded, String> {
    let Decoded { configuration, doubts } = decoded;
    let options = Options::of(&configuration)
        .map_err(|invalid| invalid.iter().map(tell).collect::<Vec<_>>().join("; "))?;
    Ok(Loaded { configuration, options, doubts })
}
