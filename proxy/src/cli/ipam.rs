//! `pointsman ipam`: questions about pods' addresses.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;

/// Where the reference plugin host-local keeps addresses, and ours too.
const DATA_DIR: &str = "/var/lib/cni/networks";
/// Where the CNI plugin writes down what it has made.
const STATE_DIR: &str = "/var/lib/cni/pointsman";

const DOCTOR: &str = "\
Exit status: 0 if every address is in use, 1 if one is leaked or its owner does
not have it for itself, 2 if that cannot be told. Nothing is changed: leaked
addresses are given back by the next pod that finds none free, and when the
container runtime asks the plugin to tidy up (GC).";

/// Questions about pods' addresses.
#[derive(Clone, Debug, Subcommand)]
pub enum IpamTool {
    /// Show who has which address of this node, and whether anybody uses it.
    Doctor(DoctorFlags),
}

/// What `pointsman ipam doctor` is told.
#[derive(Args, Clone, Debug)]
#[command(after_help = DOCTOR)]
pub struct DoctorFlags {
    /// Where addresses are kept: a folder for each network, as the reference plugin host-local has it.
    #[arg(long, value_name = "PATH", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// Where the CNI plugin writes down what it has made.
    #[arg(long, value_name = "PATH", default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    /// How to print it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}
