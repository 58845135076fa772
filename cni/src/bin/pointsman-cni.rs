//! The CNI plugin `pointsman-cni`. See `cni::plugin`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::plugin::main()
}
