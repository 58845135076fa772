//! Flags for logs, by the names that every Kubernetes component has for them. They count with `--config` too.

use clap::Args;

use super::OTHER;
use crate::config::{GoDuration, Logging, VmoduleItem};

/// How much to log of some modules; nothing between two commas.
type Pattern = Option<VmoduleItem>;

/// What to log, and how. What is not given is up to the configuration file, if there is one.
#[derive(Args, Clone, Debug)]
pub struct LoggingFlags {
    /// How much to log: 0 to 3 what was done, 4 and 5 details, 6 and up everything [default: 0].
    #[arg(short, long = "v", value_name = "N", help_heading = OTHER)]
    pub verbosity: Option<u32>,

    /// How much to log of some modules, as PATTERN=N,PATTERN=N: `sync_loop=4`, `nft*=6`.
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',', value_parser = vmodule, help_heading = OTHER)]
    pub vmodule: Vec<Pattern>,

    /// text, a line an event for people; or json, an object an event for machines [default: text].
    #[arg(long, value_name = "FORMAT", help_heading = OTHER)]
    pub logging_format: Option<String>,

    /// Accepted: every line is written at once.
    #[arg(long, value_name = "DURATION", hide_short_help = true, help_heading = OTHER)]
    pub log_flush_frequency: Option<GoDuration>,

    /// Accepted: everything goes to stderr.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = super::boolean, hide_short_help = true, help_heading = OTHER)]
    pub log_text_split_stream: Option<bool>,

    /// Accepted.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = super::boolean, hide_short_help = true, help_heading = OTHER)]
    pub log_json_split_stream: Option<bool>,

    /// Accepted.
    #[arg(long, value_name = "BYTES", hide_short_help = true, help_heading = OTHER)]
    pub log_text_info_buffer_size: Option<String>,

    /// Accepted.
    #[arg(long, value_name = "BYTES", hide_short_help = true, help_heading = OTHER)]
    pub log_json_info_buffer_size: Option<String>,
}

impl LoggingFlags {
    /// Puts what is given over what a file says. Patterns come before the file's.
    pub fn override_in(&self, logging: &mut Logging) {
        if let Some(verbosity) = self.verbosity {
            logging.verbosity = verbosity;
        }
        if let Some(format) = &self.logging_format {
            logging.format.clone_from(format);
        }
        if let Some(frequency) = self.log_flush_frequency {
            logging.flush_frequency = frequency;
        }
        for (given, routing) in [
            ((self.log_text_split_stream, &self.log_text_info_buffer_size), &mut logging.options.text),
            ((self.log_json_split_stream, &self.log_json_info_buffer_size), &mut logging.options.json),
        ] {
            let (split_stream, size) = given;
            routing.split_stream = split_stream.unwrap_or(routing.split_stream);
            if let Some(size) = size {
                routing.info_buffer_size = size.clone().into();
            }
        }
        logging.vmodule.splice(0..0, self.vmodule.iter().flatten().cloned());
    }
}

fn vmodule(text: &str) -> Result<Pattern, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let item = || {
        let (pattern, verbosity) = text.trim().split_once('=')?;
        let pattern = Some(pattern.trim()).filter(|pattern| !pattern.is_empty())?;
        Some(VmoduleItem { file_pattern: pattern.to_owned(), verbosity: verbosity.trim().parse().ok()? })
    };
    item().map(Some).ok_or_else(|| format!("{text:?} is not PATTERN=N such as sync_loop=4"))
}
