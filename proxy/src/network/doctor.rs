//! `pointsman ipam doctor`: who has which address, and whether anybody uses it.

use std::process::ExitCode;

use cni::ipam::doctor::{Finding, State, examine};

use crate::cli::{DoctorFlags, IpamTool};
use crate::output::{self, Look, finish, table};

/// Something is wrong with an address.
const SICK: u8 = 1;
/// Nothing can be told.
const CANNOT_TELL: u8 = 2;

/// Answers, and prints the answer.
pub(crate) fn main(tool: &IpamTool) -> ExitCode {
    let IpamTool::Doctor(flags) = tool;
    match doctor(flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SICK),
        Err(error) => crate::fail(CANNOT_TELL, &format!("{error:#}")),
    }
}

/// Whether all is well.
fn doctor(flags: &DoctorFlags) -> anyhow::Result<bool> {
    let findings =
        examine(&flags.data_dir, &flags.state_dir).map_err(|error| anyhow::Error::msg(error.to_string()))?;
    output::show(&findings, flags.output, |findings, look| render(findings, look))?;
    Ok(findings.iter().all(|finding| matches!(finding.state, State::InUse | State::Unknown)))
}

fn render(findings: &[Finding], look: Look) -> String {
    if findings.is_empty() {
        return "no address is taken\n".to_owned();
    }
    let mut rows = table(&["network", "address", "pod", "container", "interface", "state", "why"]);
    for finding in findings {
        let container = finding.container.as_deref().unwrap_or_default();
        // As container runtimes show it.
        let container = if look.wide { container } else { container.get(..12).unwrap_or(container) };
        rows.add_row(
            [
                &finding.network,
                &finding.address.to_string(),
                finding.pod.as_deref().unwrap_or_default(),
                container,
                finding.interface.as_deref().unwrap_or_default(),
                word(finding.state),
                &finding.why,
            ]
            .map(output::plain),
        );
    }
    finish(rows, look.colour) + "\n"
}

fn word(state: State) -> &'static str {
    match state {
        State::InUse => "in use",
        State::Leaked => "leaked",
        State::Unreserved => "unreserved",
        State::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_with_their_owners() {
        let finding = Finding {
            network: "pointsman".to_owned(),
            address: "10.244.1.7".parse().unwrap(),
            container: Some("0123456789abcdef".to_owned()),
            interface: Some("eth0".to_owned()),
            pod: Some("shop/web".to_owned()),
            plugin: None,
            state: State::Leaked,
            why: "network namespace /run/netns/a is gone".to_owned(),
        };
        let look = Look { wide: false, colour: false };
        let expected = "\
network    address     pod       container     interface  state   why
pointsman  10.244.1.7  shop/web  0123456789ab  eth0       leaked  network namespace /run/netns/a is gone
";
        assert_eq!(render(std::slice::from_ref(&finding), look), expected);
        assert!(render(&[finding], Look { wide: true, ..look }).contains("0123456789abcdef"));
        assert_eq!(render(&[], look), "no address is taken\n");
    }
}
