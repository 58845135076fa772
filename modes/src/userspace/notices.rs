//! What users should know of their service ports in this mode. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use endpoint_cache::{Delta, Desired, Family, Protocol, ServicePort, ServicePortName};

use crate::Notice;

/// The reason of a notice about a port that is not forwarded because it is SCTP.
pub const SCTP_NOT_FORWARDED: &str = "SCTPNotForwarded";

/// Tells of each SCTP service port once, for as long as it is there. To be told only of syncs that succeeded.
#[derive(Debug, Default)]
pub struct Notices {
    told: HashSet<(Arc<ServicePortName>, Family)>,
}

impl Notices {
    /// What is new when everything is this.
    pub fn of_all(&mut self, desired: &Desired) -> Vec<Notice> {
        let (told, before) = (HashSet::new(), &self.told);
        let mut now = Self { told };
        let mut news = Vec::new();
        for service in desired.service_ports.iter().filter(|service| is_sctp(service)) {
            let is_old = Family::BOTH.iter().any(|family| before.contains(&key(service, *family)));
            let notice = now.tell(service);
            news.extend(notice.filter(|_| !is_old));
        }
        *self = now;
        news
    }

    /// What is new when this has changed.
    pub fn of_changes(&mut self, delta: &Delta) -> Vec<Notice> {
        let mut news = Vec::new();
        for change in &delta.changes {
            match (&change.before, &change.after) {
                (_, Some(after)) if is_sctp(after) => news.extend(self.tell(after)),
                (Some(before), None) => {
                    self.told.remove(&key(before, before.family));
                }
                _ => {}
            }
        }
        news
    }

    fn tell(&mut self, service: &ServicePort) -> Option<Notice> {
        let is_new = Family::BOTH.iter().all(|family| !self.told.contains(&key(service, *family)));
        self.told.insert(key(service, service.family));
        is_new.then(|| not_forwarded(service))
    }
}

fn is_sctp(service: &ServicePort) -> bool {
    service.name.protocol == Protocol::Sctp
}

fn key(service: &ServicePort, family: Family) -> (Arc<ServicePortName>, Family) {
    (Arc::clone(&service.name), family)
}

fn not_forwarded(service: &ServicePort) -> Notice {
    let port = &service.name.port;
    let named = if port.is_empty() { String::new() } else { format!(" ({port})") };
    Notice {
        service: service.name.service(),
        reason: SCTP_NOT_FORWARDED,
        message: format!(
            "SCTP port {}{named} is not forwarded: --proxy-mode=userspace carries TCP and UDP only; use nftables, \
             iptables or ipvs",
            service.port
        ),
    }
}

#[cfg(test)]
mod tests {
    use endpoint_cache::Change;

    use super::*;
    use crate::testing;

    /// A service port that is not TCP.
    fn service(name: &str, protocol: Protocol, family: Family) -> Arc<ServicePort> {
        let plain = testing::plain([1]);
        let name = ServicePortName { name: name.into(), protocol, ..(*plain.name).clone() };
        Arc::new(ServicePort { name: Arc::new(name), family, ..(*plain).clone() })
    }

    fn all(service_ports: impl IntoIterator<Item = Arc<ServicePort>>) -> Desired {
        Desired { service_ports: service_ports.into_iter().collect(), ..Desired::default() }
    }

    fn change(before: Option<Arc<ServicePort>>, after: Option<Arc<ServicePort>>) -> Delta {
        Delta { changes: vec![Change { before, after }], ..Delta::default() }
    }

    #[test]
    fn each_sctp_port_is_told_of_once() {
        let sctp = |name| Family::BOTH.map(|family| service(name, Protocol::Sctp, family));
        let desired = || all([sctp("a"), sctp("b")].concat());
        let mut notices = Notices::default();
        let news = notices.of_all(&desired());
        let named: Vec<_> = news.iter().map(|notice| notice.service.to_string()).collect();
        assert_eq!(named, ["test/a", "test/b"]);
        assert!(news[0].message.contains("80 (http)") && news[0].reason == SCTP_NOT_FORWARDED);
        assert_eq!(notices.of_all(&desired()), []);
        let [v4, v6] = sctp("a");
        assert_eq!(notices.of_changes(&change(Some(Arc::clone(&v4)), Some(Arc::clone(&v4)))), []);
        assert_eq!(notices.of_changes(&change(Some(Arc::clone(&v4)), None)), []);
        assert_eq!(notices.of_changes(&change(None, Some(Arc::clone(&v4)))), [], "it was there in IPv6");
        notices.of_changes(&change(Some(v4), None));
        notices.of_changes(&change(Some(Arc::clone(&v6)), None));
        assert_eq!(notices.of_changes(&change(None, Some(v6))).len(), 1, "it was gone");
    }

    #[test]
    fn what_is_gone_in_between_is_told_of_again() {
        let service = service("a", Protocol::Sctp, Family::V4);
        let mut notices = Notices::default();
        assert_eq!(notices.of_all(&all([Arc::clone(&service)])).len(), 1);
        assert_eq!(notices.of_all(&all([])), []);
        assert_eq!(notices.of_all(&all([service])).len(), 1);
    }

    #[test]
    fn other_protocols_are_not_told_of() {
        let others = [Protocol::Tcp, Protocol::Udp].map(|protocol| service("a", protocol, Family::V4));
        let mut notices = Notices::default();
        assert_eq!(notices.of_all(&all(others.clone())), []);
        assert!(others.into_iter().all(|other| notices.of_changes(&change(None, Some(other))).is_empty()));
    }
}
