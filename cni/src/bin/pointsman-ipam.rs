//! The CNI plugin `pointsman-ipam`. See `cni::plugin`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::plugin::ipam_main()
}
