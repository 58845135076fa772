//! What it takes to follow another configuration. Pure.

use crate::mode::ModeName;
use crate::options::Options;

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: everything that counts is the same.
    None,
    /// The process can go on.
    InFlight,
    /// Another process.
    Restart,
}

impl Change {
    /// From what is in force to what is asked for now.
    pub(crate) fn between(before: &Options, after: &Options) -> Self {
        if before == after {
            return Self::None;
        }
        // Everything that is not said here takes another process.
        let mut followed = before.clone();
        followed.settings = after.settings.clone();
        followed.stale_after = after.stale_after;
        followed.min_sync_period = after.min_sync_period;
        followed.conntrack = after.conntrack;
        followed.oom_score_adj = after.oom_score_adj;
        followed.log.levels = after.log.levels.clone();
        if before.mode != ModeName::Ipvs {
            followed.ipvs = after.ipvs.clone();
        }
        if followed == *after { Self::InFlight } else { Self::Restart }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KubeProxyConfiguration;

    fn change(make: impl Fn(&mut KubeProxyConfiguration)) -> Change {
        let before = KubeProxyConfiguration::default();
        let mut after = before.clone();
        make(&mut after);
        Change::between(&Options::of(&before).unwrap(), &Options::of(&after).unwrap())
    }

    #[test]
    fn what_makes_no_difference_takes_nothing() {
        assert_eq!(change(|_| {}), Change::None);
        assert_eq!(change(|config| config.mode = "nftables".to_owned()), Change::None);
        assert_eq!(change(|config| config.client_connection.qps = 7.0), Change::None);
        assert_eq!(change(|config| config.healthz_bind_address = "0.0.0.0".to_owned()), Change::None);
        assert_eq!(change(|config| config.iptables.masquerade_bit = 3), Change::None, "another mode's");
    }

    #[test]
    fn rules_limits_and_logs_follow_in_flight() {
        assert_eq!(change(|config| config.cluster_cidr = "10.0.0.0/8".to_owned()), Change::InFlight);
        assert_eq!(change(|config| config.nftables.masquerade_all = true), Change::InFlight);
        assert_eq!(change(|config| config.conntrack.min = 7), Change::InFlight);
        assert_eq!(change(|config| config.logging.verbosity = 4), Change::InFlight);
        assert_eq!(change(|config| config.ipvs.scheduler = "sh".to_owned()), Change::InFlight);
    }

    #[test]
    fn the_rest_takes_another_process() {
        assert_eq!(change(|config| config.mode = "iptables".to_owned()), Change::Restart);
        assert_eq!(change(|config| config.metrics_bind_address = "127.0.0.1:1".to_owned()), Change::Restart);
        assert_eq!(change(|config| config.logging.format = "json".to_owned()), Change::Restart);
        assert_eq!(change(|config| config.hostname_override = "x".to_owned()), Change::Restart);
        let both = |config: &mut KubeProxyConfiguration| {
            config.cluster_cidr = "10.0.0.0/8".to_owned();
            config.client_connection.kubeconfig = "/k".to_owned();
        };
        assert_eq!(change(both), Change::Restart);
    }
}
