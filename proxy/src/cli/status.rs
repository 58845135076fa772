//! `pointsman status`.

use clap::{Args, ValueEnum};

/// What `pointsman status` is told.
#[derive(Clone, Copy, Debug, Args)]
pub struct StatusFlags {
    /// How to print it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Words of `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For people, with more rows or columns
    Wide,
    /// For programs
    Json,
    /// For programs
    Yaml,
}
