//! Pages that tell of the configuration and the process, in the form that Kubernetes' components have for them. Pure.

use serde_json::json;

use crate::cli::Flag;
use crate::config::KubeProxyConfiguration;
use crate::status::Status;

const NOT_FOR_PROGRAMS: &str = "\
Warning: This page is for people: its form may change.
";

/// `/configz`: the configuration in force, as JSON.
pub(super) fn configuration(configuration: &KubeProxyConfiguration) -> String {
    json!({ "kubeproxy.config.k8s.io": configuration }).to_string()
}

/// `/flagz`: every flag, given or not.
pub(super) fn flags(flags: &[Flag]) -> String {
    let lines: String = flags.iter().map(|Flag { name, value, .. }| format!("{name}={value}\n")).collect();
    format!("\npointsman flags\n{NOT_FOR_PROGRAMS}\n{lines}")
}

/// `/statusz`: which process this is, and where to look further.
pub(super) fn status(status: &Status, with_page: bool) -> String {
    let up = status.current_time.duration_since(status.started);
    let (hours, minutes, seconds) = (up.as_hours(), up.as_mins() % 60, up.as_secs() % 60);
    let synced = status.last_synced.map_or_else(|| "never".to_owned(), |time| time.to_string());
    let status_page = if with_page { " /status-page" } else { "" };
    format!(
        "\npointsman statusz\n{NOT_FOR_PROGRAMS}\nStarted: {}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\n\
         Binary version: {}\nMode: {}\nNode: {}\nLast synced: {synced}\nService ports: {}\n\
         Paths: /configz /flagz /healthz /metrics /proxyMode{status_page} /statusz\n",
        status.started, status.version, status.mode, status.node, status.service_ports
    )
}
