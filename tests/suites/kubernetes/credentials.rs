//! What proves who the server is, and who we are to it, is replaced while the proxy runs: nothing else happens.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::subject::Subject;

/// Where a pod finds its service account.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
const REFUSED: &str = "is the token or client certificate still valid?";

/// Serves `web` and watches everything.
fn serve_web(subject: &mut Subject, launch: impl FnOnce(&mut Subject) -> Result<()>) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    launch(subject)?;
    subject.proxy()?.await_line_with("synced")?;
    subject.await_watches()?;
    subject.await_leads_to(10, 1)
}

/// What was valid is refused from now on, in these words, and after `renewed` all goes on: the watches where they were,
/// with nothing listed again and nothing programmed but what changed meanwhile.
fn goes_on(subject: &mut Subject, refused: &str, renewed: impl FnOnce(&Subject) -> Result<()>) -> Result<()> {
    subject.await_quiet()?;
    let synced = subject.proxy()?.last_line_with("synced");
    subject.server.cut_connections();
    subject.proxy()?.await_line_with(refused)?;
    subject.check_leads_to(10, 1)?;
    renewed(subject)?;
    subject.await_watches()?;
    subject.await_quiet()?;
    ensure!(subject.proxy()?.last_line_with("synced") == synced, "something was programmed");
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)?;
    let lists = subject.metric(r#"pointsman_api_lists_total{kind="Service"}"#)?;
    ensure!(lists == 1.0, "the watch was resumed, but {lists} lists were read");
    Ok(())
}

/// As [`Subject::start`], with a kubeconfig that names files.
fn launch_as(subject: &mut Subject, user: &str) -> Result<()> {
    fs::write("/run/kubeconfig", subject.server.kubeconfig_of(user))?;
    subject.launch_with(&["--kubeconfig", "/run/kubeconfig"], Vec::new())
}

pub(crate) fn a_servers_new_certificate_is_as_good(subject: &mut Subject) -> Result<()> {
    serve_web(subject, Subject::launch)?;
    subject.server.rotate_certificate()?;
    subject.await_new_watches(4, || subject.server.cut_connections())?;
    ensure!(subject.proxy()?.last_line_with("invalid peer certificate").is_none(), "it was not trusted");
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.await_leads_to(10, 2)
}

pub(crate) fn a_new_authority_is_taken_from_the_kubeconfig(subject: &mut Subject) -> Result<()> {
    serve_web(subject, Subject::launch)?;
    subject.server.rotate_authority()?;
    goes_on(subject, "invalid peer certificate", Subject::reconfigure)
}

pub(crate) fn a_token_file_is_read_again(subject: &mut Subject) -> Result<()> {
    let token = Path::new("/run/token");
    fs::write(token, subject.server.token())?;
    serve_web(subject, |subject| launch_as(subject, "tokenFile: /run/token"))?;
    subject.server.rotate_token();
    goes_on(subject, REFUSED, |subject| Ok(fs::write(token, subject.server.token())?))
}

pub(crate) fn a_client_certificate_is_read_again(subject: &mut Subject) -> Result<()> {
    let write = |(certificate, key): (String, String)| -> Result<()> {
        fs::write("/run/client.crt", certificate)?;
        Ok(fs::write("/run/client.key", key)?)
    };
    write(subject.server.rotate_client()?)?;
    let user = "client-certificate: /run/client.crt\n    client-key: /run/client.key";
    serve_web(subject, |subject| launch_as(subject, user))?;
    let next = subject.server.rotate_client()?;
    goes_on(subject, REFUSED, |_| write(next))
}

/// The kubelet writes the files of a service account into a folder of their own and then moves a link.
pub(crate) fn a_service_accounts_token_is_replaced_by_a_link(subject: &mut Subject) -> Result<()> {
    let account = Path::new(ACCOUNT);
    let write = |subject: &Subject, folder: &str| -> Result<()> {
        let data = account.join(folder);
        fs::create_dir_all(&data)?;
        fs::write(data.join("token"), subject.server.token())?;
        fs::write(data.join("ca.crt"), subject.server.ca_certificate())?;
        fs::write(data.join("namespace"), "kube-system")?;
        symlink(folder, account.join("..data_tmp"))?;
        fs::rename(account.join("..data_tmp"), account.join("..data")).context("cannot move the link")
    };
    write(subject, "..2026_01_01")?;
    for file in ["token", "ca.crt", "namespace"] {
        symlink(Path::new("..data").join(file), account.join(file))?;
    }
    serve_web(subject, Subject::launch_in_pod)?;
    subject.server.rotate_token();
    subject.server.rotate_authority()?;
    goes_on(subject, "invalid peer certificate", |subject| write(subject, "..2026_01_02"))
}
