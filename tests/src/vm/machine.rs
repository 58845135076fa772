//! Running the machine, and reading what it says.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::Plan;
use super::kernel::Kernel;
use super::report::{Event, Heard};

/// Lines of the console that are shown when something went wrong.
const CONSOLE_LINES: usize = 40;

/// Boots, and hands over what is said, until the machine is done.
pub(super) fn run(
    plan: &Plan,
    kernel: &Kernel,
    archive: &Path,
    console: &Path,
    heard: &mut dyn FnMut(&Heard),
) -> Result<()> {
    let mut machine = Machine(start(kernel, archive, console)?);
    let lines = lines_of(&mut machine.0)?;
    listen(plan, &lines, heard).with_context(|| format!("its console said last:\n{}", last_lines(console)))
}

/// Ends with us.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(kernel: &Kernel, archive: &Path, console: &Path) -> Result<Child> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "3072", "-no-reboot", "-nodefaults"]);
    command.args(["-display", "none", "-monitor", "none"]);
    command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(archive);
    command.args(["-append", "console=ttyS0 quiet panic=-1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().context("cannot run qemu-system-x86_64: run cargo xtask setup")
}

fn lines_of(machine: &mut Child) -> Result<Receiver<String>> {
    let output = BufReader::new(machine.stdout.take().context("the machine has no output")?);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in output.split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim().to_owned()).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

fn listen(plan: &Plan, lines: &Receiver<String>, heard: &mut dyn FnMut(&Heard)) -> Result<()> {
    let deadline = Instant::now() + plan.patience;
    let mut current = 0;
    let mut lacking = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = match lines.recv_timeout(plan.silence.min(left)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) if left < plan.silence => {
                bail!("the virtual machine was not done after {:?}", plan.patience)
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("the virtual machine said nothing for {:?}", plan.silence)
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the virtual machine ended before it was done"),
        };
        match Event::read(&line) {
            Some(Event::Machine(Heard::Done)) => return Ok(()),
            Some(Event::Lacks(module)) => lacking.push(module),
            Some(Event::Machine(event)) => {
                heard(&event);
                // Without them some tests would fail in odd ways, and others prove nothing.
                ensure!(lacking.is_empty(), "the virtual machine's kernel has no {}", lacking.join(", "));
                if let Heard::Begins { run } = event {
                    current = run;
                }
            }
            Some(Event::Test(outcome)) => heard(&Heard::Tested { run: current, outcome }),
            Some(Event::Measured(what)) => heard(&Heard::Measured { run: current, what }),
            None => {}
        }
    }
}

fn last_lines(console: &Path) -> String {
    let said = fs::read(console).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}
