//! Keeping other people's pages from reading ours by DNS rebinding: a name of theirs that leads to this machine.

use std::net::IpAddr;

/// Whether a header `Host` names this machine in a way that nobody else's DNS has a say in: by address or as localhost.
pub(super) fn is_of_this_machine(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').map(|(name, _)| name),
        None => host.split(':').next(),
    };
    let is_address = |name: &str| name.parse::<IpAddr>().is_ok();
    name.is_some_and(|name| name.eq_ignore_ascii_case("localhost") || is_address(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_dns_answers_for_are_foreign() {
        for own in ["localhost", "LocalHost:10249", "127.0.0.1:10249", "127.0.0.1", "[::1]:8080", "[::1]"] {
            assert!(is_of_this_machine(own.as_bytes()), "{own}");
        }
        for foreign in
            ["evil.example:10249", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "::1"]
        {
            assert!(!is_of_this_machine(foreign.as_bytes()), "{foreign}");
        }
        assert!(!is_of_this_machine(b"\xff"));
    }
}
