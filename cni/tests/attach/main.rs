//! Attachments against the kernel: real packets between pods, their node, and others.

mod checks;
mod edges;
mod killed;
mod paths;
mod ports;
mod scene;

use std::process::ExitCode;

use testbed::suite::run;

fn main() -> ExitCode {
    match killed::is_victim() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            return ExitCode::FAILURE;
        }
    }
    let all = [paths::tests(), edges::tests(), checks::tests(), ports::tests(), killed::tests()];
    run(all.into_iter().flatten().collect())
}
