//! Attachments against the kernel: real packets between pods, their node, and others.

mod paths;
mod ports;
mod scene;

use std::process::ExitCode;

use testbed::suite::run;

fn main() -> ExitCode {
    run(paths::tests().into_iter().chain(ports::tests()).collect())
}
