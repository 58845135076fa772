//! `pointsman check-config`: is there anything doubtful in a file?

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};

use super::load;

/// Checks a file, and says what is good about it.
///
/// # Errors
/// When anything in it is doubtful: everything that is, a line each.
pub(crate) fn check(file: &Path) -> anyhow::Result<()> {
    let name = file.display();
    let loaded = load::load_file(file).with_context(|| format!("{name}"))?;
    if !loaded.doubts.is_empty() {
        let doubts: Vec<_> = loaded.doubts.iter().map(|doubt| format!("{name}: {doubt}")).collect();
        bail!("{}", doubts.join("\npointsman: "));
    }
    let mut out = io::stdout();
    for field in loaded.unheeded() {
        writeln!(out, "{name}: {field} is accepted, and makes no difference to pointsman")?;
    }
    writeln!(out, "{name}: good, for {} mode", loaded.options.mode)?;
    Ok(())
}
