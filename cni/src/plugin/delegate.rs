//! Running another plugin in our place, as the specification has it: the same environment, the same configuration.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::thread;

use crate::spec::{self, Attachment, Code, Command, Error};

use super::Request;

/// Bytes of what a plugin says that a message repeats.
const MOST_REPEATED: usize = 300;

/// What is asked of another plugin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    /// What we are asked ourselves.
    Same,
    /// To undo what it has just done.
    Undo,
    /// To forget an attachment that is no more.
    Forget(&'a Attachment, Option<&'a Path>),
}

/// Runs a plugin and returns what it printed.
pub(super) fn run(name: &str, request: &Request, ask: Ask<'_>) -> Result<Vec<u8>, Error> {
    let program = find(name, &request.environment.path)?;
    let mut process = Process::new(&program);
    match ask {
        Ask::Same => {}
        Ask::Undo => {
            process.env("CNI_COMMAND", Command::Del.as_str());
        }
        Ask::Forget(attachment, netns) => {
            process.env("CNI_COMMAND", Command::Del.as_str());
            process.env("CNI_CONTAINERID", &attachment.container).env("CNI_IFNAME", &attachment.interface);
            process.env("CNI_NETNS", netns.map_or_else(OsString::new, Into::into)).env("CNI_ARGS", "");
        }
    }
    talk(name, &mut process, &request.config.raw)
}

/// The plugin by a name, in the first folder that has it.
fn find(name: &str, folders: &[PathBuf]) -> Result<PathBuf, Error> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let found = folders.iter().map(|folder| folder.join(name)).find(is_program);
    found.ok_or_else(|| {
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let why = match folders.is_empty() {
            true => "CNI_PATH names no folder".to_owned(),
            false => format!("it is in no folder of CNI_PATH, {}", folders.join(":")),
        };
        Error::new(Code::DELEGATE, format!("there is no IPAM plugin {name}")).with(why)
    })
}

fn talk(name: &str, process: &mut Process, input: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |doing: &str, error: &std::io::Error| {
        Error::new(Code::DELEGATE, format!("cannot {doing} IPAM plugin {name}")).with(error.to_string())
    };
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = process.spawn().map_err(|error| failed("run", &error))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let said = thread::scope(|scope| {
        // It may say something before it has read everything, or end without; its status tells then.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let mut said = Vec::new();
        let most = spec::MOST_BYTES + 1;
        stdout.map_or(Ok(0), |stdout| stdout.take(most).read_to_end(&mut said)).map(|_| said)
    });
    let said = match said {
        Ok(said) if said.len() as u64 <= spec::MOST_BYTES => Ok(said),
        Ok(_) => {
            let _ = child.kill();
            Err(Error::new(Code::DELEGATE, format!("IPAM plugin {name} says too much")))
        }
        Err(error) => Err(failed("hear", &error)),
    };
    let status = child.wait().map_err(|error| failed("wait for", &error))?;
    let said = said?;
    if status.success() {
        return Ok(said);
    }
    Err(match Error::from_json(&said) {
        Some(error) => Error { msg: format!("IPAM plugin {name}: {}", error.msg), ..error },
        None => {
            let repeated = String::from_utf8_lossy(&said[..said.len().min(MOST_REPEATED)]).trim().to_owned();
            Error::new(Code::DELEGATE, format!("IPAM plugin {name} failed"))
                .with(format!("{status}: {repeated}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn say(script: &str, input: &[u8]) -> Result<Vec<u8>, Error> {
        talk("p", Process::new("sh").arg("-c").arg(script), input)
    }

    #[test]
    fn what_a_plugin_says_is_taken() {
        assert_eq!(say("cat", b"{}").unwrap(), b"{}");
        let long = vec![b'x'; 900_000];
        assert_eq!(say("cat", &long).unwrap(), long, "more than pipes hold");
        assert_eq!(say("true", &long).unwrap(), b"", "it need not listen");
    }

    #[test]
    fn its_errors_are_passed_on() {
        let error =
            say(r#"echo '{"code": 11, "msg": "later", "details": "soon"}'; exit 1"#, b"").unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::TRY_AGAIN_LATER, "IPAM plugin p: later"));
        assert_eq!(error.details, "soon");
        let error = say("echo panic; exit 3", b"").unwrap_err();
        assert_eq!(error.code, Code::DELEGATE);
        assert!(error.details.contains("panic") && error.details.contains('3'), "{error}");
        assert!(say("kill -9 $$", b"").unwrap_err().details.contains("signal"));
        assert!(say("yes", b"").unwrap_err().msg.contains("too much"));
    }

    #[test]
    fn plugins_are_looked_for_in_order() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [one.path().to_owned(), two.path().to_owned()];
        fs::create_dir(one.path().join("p")).unwrap();
        fs::write(two.path().join("p"), "").unwrap();
        let error = find("p", &folders).unwrap_err();
        assert!(error.details.contains(one.path().to_str().unwrap()), "{error}");
        fs::set_permissions(two.path().join("p"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("p", &folders).unwrap(), two.path().join("p"));
        assert!(find("p", &[]).unwrap_err().details.contains("names no folder"));
    }
}
