//! What it says if it cannot tell.

use std::fs;

use anyhow::{Result, ensure};
use testbed::{Subject, User};

testbed::scenarios![
    Subject:
    nobody_to_ask_is_one_helpful_line,
    a_server_that_cannot_be_reached_is_one_helpful_line,
    no_privilege_is_one_helpful_line,
    what_makes_no_sense_is_one_helpful_line,
];

/// It says that it cannot tell, in a line that has all of these words.
fn is_told(s: &Subject, user: User, args: &[&str], words: &[&str]) -> Result<()> {
    let said = s.diff(user, args)?;
    ensure!(said.status == Some(2) && said.text.is_empty(), "{said:?}");
    ensure!(said.complaint.lines().count() == 1, "{said:?}");
    ensure!(words.iter().all(|word| said.complaint.contains(word)), "{said:?}");
    Ok(())
}

fn nobody_to_ask_is_one_helpful_line(s: &mut Subject) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("pointsman.sock");
    let words = ["no pointsman answers at", "--socket", "--manifests", "--kubeconfig"];
    is_told(s, User::Starter, &["--socket", &socket.to_string_lossy()], &words)
}

fn a_server_that_cannot_be_reached_is_one_helpful_line(s: &mut Subject) -> Result<()> {
    let server = "https://127.0.0.1:1";
    is_told(s, User::Starter, &["--master", server], &["127.0.0.1:1", "refused"])
}

fn no_privilege_is_one_helpful_line(s: &mut Subject) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let args = ["--manifests", &*folder.path().to_string_lossy()];
    is_told(s, User::Ordinary, &args, &["cannot use nftables", "CAP_NET_ADMIN"])
}

fn what_makes_no_sense_is_one_helpful_line(s: &mut Subject) -> Result<()> {
    is_told(s, User::Starter, &["--proxy-mode", "magic"], &["magic", "--help"])?;
    is_told(s, User::Starter, &["--manifests", "/nowhere"], &["/nowhere"])
}
