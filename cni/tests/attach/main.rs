//! Attachments against the kernel: real packets between pods, their node, and others.

mod checks;
mod edges;
mod paths;
mod ports;
mod scene;

use std::process::ExitCode;

use testbed::suite::run;

fn main() -> ExitCode {
    let all = [paths::tests(), edges::tests(), checks::tests(), ports::tests()];
    run(all.into_iter().flatten().collect())
}
