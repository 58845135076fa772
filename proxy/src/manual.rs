//! What the program tells of itself without working: its version, its manual, and how shells complete its command line.

use std::io::{self, Write};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Version};

/// Of the program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the version.
///
/// # Errors
/// When stdout takes nothing.
pub(crate) fn print_version(version: Version) -> anyhow::Result<()> {
    print(&match version {
        Version::Raw => format!(
            "pointsman {VERSION} {}-{} (configuration {}, behaviour of kube-proxy v1.36)\n",
            std::env::consts::ARCH,
            std::env::consts::OS,
            crate::config::API_VERSION
        ),
        Version::No | Version::Short => format!("pointsman {VERSION}\n"),
    })
}

/// Prints what makes a shell complete the command line.
///
/// # Errors
/// As [`print_version`].
pub(crate) fn print_completion(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pointsman", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints the manual page.
///
/// # Errors
/// As [`print_version`].
pub(crate) fn print_page() -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).context("cannot make the manual page")?;
    print(&String::from_utf8_lossy(&page))
}

/// Prints to stdout; whoever reads may have seen enough before the end.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print"),
    }
}
