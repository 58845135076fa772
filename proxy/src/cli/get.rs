//! `pointsman get` and `pointsman explain`.

use clap::{Args, ValueEnum};

use super::Output;

/// What `pointsman get` is told.
#[derive(Clone, Debug, Args)]
pub struct GetFlags {
    /// What to show.
    #[arg(value_name = "KIND", value_enum)]
    pub kind: GetKind,
    /// Of these Services only: NAME or NAMESPACE/NAME.
    #[arg(value_name = "SERVICE")]
    pub names: Vec<String>,
    /// Of this namespace only.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Of all namespaces, as if no namespace were given.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// How to print it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Kinds of `pointsman get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GetKind {
    /// Services, and how many endpoints traffic may use
    #[value(aliases = ["service", "svc"])]
    Services,
    /// Endpoints, and why they are not used if they are not
    #[value(aliases = ["endpoint", "ep", "endpointslices", "endpointslice"])]
    Endpoints,
}

/// What `pointsman explain` is told.
#[derive(Clone, Debug, Args)]
pub struct ExplainFlags {
    /// The Service: NAME or NAMESPACE/NAME.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The namespace that it is in, if its name does not say.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How to print it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}
