//! BIRD 2's configuration and answers.

use std::path::Path;

use super::desired::Bgp;

/// The routing table that BIRD writes what it learns into. Nothing looks there but us.
pub const TABLE: u32 = 11_200;

/// BIRD's configuration. `control` is the socket by which it is asked, for who starts it.
#[must_use]
pub fn configuration(bgp: &Bgp) -> String {
    let _ = bgp;
    String::new()
}

/// The arguments that BIRD is started with, in the foreground.
#[must_use]
pub fn arguments(configuration: &Path, control: &Path) -> Vec<String> {
    vec![
        "-f".to_owned(),
        "-c".to_owned(),
        configuration.display().to_string(),
        "-s".to_owned(),
        control.display().to_string(),
    ]
}
