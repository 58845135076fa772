//! `pointsman diff`.

use std::path::PathBuf;

use clap::Args;

use super::{Cli, ConfiguredFlags, IptablesBackend, KERNEL, Output, SOURCE, UserspaceFlags, backend};

/// What `pointsman diff` is told: what should be in the kernel, by the flags that tell it to a process that programs it.
#[derive(Args, Clone, Debug)]
pub struct DiffFlags {
    /// How to print it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,

    /// A KubeProxyConfiguration.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true, help_heading = SOURCE)]
    pub config: String,

    /// A folder of manifests, or one file.
    #[arg(long, value_name = "PATH", help_heading = SOURCE)]
    pub manifests: Option<PathBuf>,

    /// Address of the Kubernetes API server.
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true, help_heading = SOURCE)]
    pub master: String,

    /// What a configuration file can say as well.
    #[command(flatten)]
    pub configured: ConfiguredFlags,

    /// Which iptables to use.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend, help_heading = KERNEL)]
    pub iptables_backend: IptablesBackend,

    /// What only userspace mode asks.
    #[command(flatten)]
    pub userspace: UserspaceFlags,
}

impl DiffFlags {
    /// The command line of a process that would have in the kernel what this asks about.
    #[must_use]
    pub fn into_desired(self, cli: Cli) -> Cli {
        let Self { config, manifests, master, configured, iptables_backend, userspace, .. } = self;
        Cli { command: None, config, manifests, master, configured, iptables_backend, userspace, ..cli }
    }
}
