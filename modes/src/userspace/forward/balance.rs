//! Which endpoint is next.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use endpoint_cache::Endpoint;

use super::clock::Moment;
use super::endpoint::EndpointState;
use super::options::Balancing;

/// Clients remembered for session affinity at most, for each target. Beyond that the longest unseen of a few goes.
const MOST_CLIENTS: usize = 65_536;
/// Clients looked at to find one that may go.
const CANDIDATES: usize = 16;

/// The endpoints of a target, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    endpoints: Vec<Arc<EndpointState>>,
    /// Those that nothing new goes to, and that keep the sessions they have.
    leaving: Vec<Arc<EndpointState>>,
    next: usize,
    affinity: Option<Duration>,
    clients: HashMap<IpAddr, Remembered>,
}

#[derive(Debug)]
struct Remembered {
    endpoint: Arc<EndpointState>,
    last: Moment,
}

impl Balancer {
    /// Takes other endpoints. What is known of those that stay is kept; those that still serve keep their sessions.
    pub(super) fn replace(
        &mut self,
        endpoints: &[Endpoint],
        serving: &[Endpoint],
        affinity: Option<Duration>,
    ) {
        let known = self.endpoints.drain(..).chain(self.leaving.drain(..));
        let mut known: HashMap<Endpoint, Arc<EndpointState>> =
            known.map(|state| (state.endpoint, state)).collect();
        let state = |endpoint: &Endpoint| {
            known.remove(endpoint).unwrap_or_else(|| Arc::new(EndpointState::new(*endpoint)))
        };
        self.endpoints = endpoints.iter().map(state).collect();
        let leaves = |state: &Arc<EndpointState>| serving.contains(&state.endpoint);
        let (leaving, gone): (Vec<_>, Vec<_>) = known.into_values().partition(leaves);
        gone.iter().for_each(|state| state.set_gone());
        self.leaving = leaving;
        self.next = self.next.checked_rem(self.endpoints.len()).unwrap_or(0);
        self.affinity = affinity;
        let leaving = |state: &Arc<EndpointState>| self.leaving.iter().any(|other| Arc::ptr_eq(other, state));
        match affinity {
            Some(_) => {
                self.clients.retain(|_, client| !client.endpoint.is_gone() && !leaving(&client.endpoint));
            }
            None => self.clients = HashMap::new(),
        }
    }

    /// The endpoint that a client's new connection goes to, other than those that were tried. One that was set aside is
    /// taken only if there is no other.
    pub(super) fn choose(
        &mut self,
        client: IpAddr,
        tried: &[Arc<EndpointState>],
        balancing: Balancing,
        now: Moment,
    ) -> Option<Arc<EndpointState>> {
        let untried = |state: &Arc<EndpointState>| !tried.iter().any(|other| Arc::ptr_eq(other, state));
        let remembered = self.recall(client, now).filter(|state| untried(state) && !state.is_aside(now));
        let chosen = match remembered {
            Some(state) => state,
            None => {
                let fit = |state: &Arc<EndpointState>| untried(state) && !state.is_aside(now);
                let index = self.turn(balancing, fit).or_else(|| self.turn(balancing, untried))?;
                self.next = (index + 1) % self.endpoints.len();
                self.endpoints[index].clone()
            }
        };
        self.remember(client, &chosen, now);
        Some(chosen)
    }

    /// The first that will do, from the one whose turn it is.
    fn turn(&self, balancing: Balancing, fit: impl Fn(&Arc<EndpointState>) -> bool) -> Option<usize> {
        let count = self.endpoints.len();
        let mut in_turn = (0..count).map(|step| (self.next + step) % count);
        match balancing {
            Balancing::RoundRobin => in_turn.find(|index| fit(&self.endpoints[*index])),
            Balancing::LeastConnections => in_turn
                .filter(|index| fit(&self.endpoints[*index]))
                .min_by_key(|index| self.endpoints[*index].active()),
        }
    }

    /// The endpoint that a client is to stay with.
    fn recall(&self, client: IpAddr, now: Moment) -> Option<Arc<EndpointState>> {
        let (affinity, remembered) = (self.affinity?, self.clients.get(&client)?);
        (now.since(remembered.last) < affinity).then(|| remembered.endpoint.clone())
    }

    fn remember(&mut self, client: IpAddr, endpoint: &Arc<EndpointState>, now: Moment) {
        if self.affinity.is_none() {
            return;
        }
        if self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(&client) {
            let oldest = self.clients.iter().take(CANDIDATES).min_by_key(|(_, client)| client.last);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.clients.remove(&oldest);
            }
        }
        self.clients.insert(client, Remembered { endpoint: endpoint.clone(), last: now });
    }

    /// Forgets clients whose time is over.
    pub(super) fn forget_idle(&mut self, now: Moment) {
        if let Some(affinity) = self.affinity {
            self.clients.retain(|_, client| now.since(client.last) < affinity);
        }
    }

    pub(super) fn endpoints(&self) -> &[Arc<EndpointState>] {
        &self.endpoints
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::endpoint::Lease;
    use super::super::entrance::Entrance;
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
    const MINUTE: Duration = Duration::from_secs(60);

    fn endpoints(hosts: impl IntoIterator<Item = u8>) -> Vec<Endpoint> {
        let endpoint =
            |host| Endpoint { address: Ipv4Addr::new(10, 0, 0, host).into(), port: 80, local: false };
        hosts.into_iter().map(endpoint).collect()
    }

    fn balancer(hosts: impl IntoIterator<Item = u8>, affinity: Option<Duration>) -> Balancer {
        let mut balancer = Balancer::default();
        balancer.replace(&endpoints(hosts), &[], affinity);
        balancer
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn host(state: &EndpointState) -> u8 {
        match state.endpoint.address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => unreachable!("all are IPv4"),
        }
    }

    fn next(balancer: &mut Balancer, now: u64) -> u8 {
        host(&balancer.choose(CLIENT, &[], Balancing::RoundRobin, at(now)).unwrap())
    }

    #[test]
    fn everyone_has_a_turn() {
        let mut balancer = balancer(1..=3, None);
        let chosen: Vec<_> = (0..7).map(|_| next(&mut balancer, 0)).collect();
        assert_eq!(chosen, [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn without_endpoints_there_is_none() {
        let mut balancer = balancer([], None);
        assert!(balancer.choose(CLIENT, &[], Balancing::RoundRobin, at(0)).is_none());
    }

    #[test]
    fn the_one_with_the_fewest_connections_is_taken() {
        let mut balancer = balancer(1..=3, None);
        let entrance = Entrance::for_tests();
        let mut choose = || balancer.choose(CLIENT, &[], Balancing::LeastConnections, at(0)).unwrap();
        let leases: Vec<_> = (0..5).map(|_| Lease::new(entrance.clone(), choose())).collect();
        let hosts: Vec<_> = leases.iter().map(|lease| host(&lease.endpoint)).collect();
        assert_eq!(hosts, [1, 2, 3, 1, 2]);
        assert_eq!(host(&choose()), 3);
        drop(leases);
        assert_eq!(entrance.active(), 0);
    }

    #[test]
    fn a_failed_one_is_set_aside_for_longer_each_time() {
        let mut balancer = balancer(1..=2, None);
        let first = balancer.endpoints()[0].clone();
        assert_eq!(first.failed(at(0)), Duration::from_secs(1));
        assert_eq!([0, 999].map(|now| next(&mut balancer, now)), [2, 2]);
        assert_eq!(next(&mut balancer, 1000), 1);
        assert_eq!(first.failed(at(1000)), Duration::from_secs(2));
        for _ in 0..40 {
            first.failed(at(1000));
        }
        assert_eq!(first.failed(at(1000)), Duration::from_secs(30));
        assert_eq!(first.status(at(2000)).set_aside, Some(Duration::from_secs(29)));
        first.worked();
        assert_eq!(first.status(at(2000)).set_aside, None);
        assert_eq!(first.failed(at(2000)), Duration::from_secs(1));
    }

    #[test]
    fn if_all_failed_they_are_tried_all_the_same() {
        let mut balancer = balancer(1..=2, None);
        balancer.endpoints().iter().for_each(|state| _ = state.failed(at(0)));
        assert_eq!([1, 2].map(|_| next(&mut balancer, 1)), [1, 2]);
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let mut balancer = balancer(1..=2, Some(MINUTE));
        let first = balancer.choose(CLIENT, &[], Balancing::RoundRobin, at(0)).unwrap();
        let second =
            balancer.choose(CLIENT, std::slice::from_ref(&first), Balancing::RoundRobin, at(0)).unwrap();
        assert_eq!((host(&first), host(&second)), (1, 2));
        assert!(balancer.choose(CLIENT, &[first, second], Balancing::RoundRobin, at(0)).is_none());
        // The client stays with the one that it was moved to.
        assert_eq!(next(&mut balancer, 1), 2);
    }

    #[test]
    fn a_client_stays_until_its_time_is_over() {
        let mut balancer = balancer(1..=3, Some(MINUTE));
        // Each connection begins the time anew.
        assert_eq!([0, 59_999, 119_998].map(|now| next(&mut balancer, now)), [1, 1, 1]);
        assert_eq!(next(&mut balancer, 179_998), 2);
        balancer.forget_idle(at(179_999));
        assert_eq!(balancer.clients.len(), 1);
        balancer.forget_idle(at(300_000));
        assert!(balancer.clients.is_empty());
    }

    #[test]
    fn a_client_whose_endpoint_goes_is_sent_elsewhere() {
        let mut balancer = balancer(1..=3, Some(MINUTE));
        let first = balancer.choose(CLIENT, &[], Balancing::RoundRobin, at(0)).unwrap();
        balancer.replace(&endpoints(2..=3), &[], Some(MINUTE));
        assert!(first.is_gone());
        assert_ne!(next(&mut balancer, 1), 1);
    }

    #[test]
    fn an_endpoint_that_still_serves_keeps_its_sessions_and_gets_no_others() {
        let mut balancer = balancer(1..=2, Some(MINUTE));
        let first = balancer.choose(CLIENT, &[], Balancing::RoundRobin, at(0)).unwrap();
        assert_eq!(host(&first), 1);
        balancer.replace(&endpoints(2..=2), &endpoints(1..=2), Some(MINUTE));
        assert!(!first.is_gone());
        assert_eq!([1, 2, 3].map(|now| next(&mut balancer, now)), [2, 2, 2]);
        // It comes back, and is still the same.
        balancer.replace(&endpoints(1..=2), &endpoints(1..=2), None);
        assert!(balancer.endpoints().iter().any(|state| Arc::ptr_eq(state, &first)));
        balancer.replace(&endpoints(2..=2), &endpoints(1..=2), None);
        balancer.replace(&endpoints(2..=2), &endpoints(2..=2), None);
        assert!(first.is_gone());
    }

    #[test]
    fn the_memory_of_clients_is_bounded() {
        let mut balancer = balancer(1..=3, Some(MINUTE));
        for number in 0..70_000_u32 {
            let client = IpAddr::from(Ipv4Addr::from_bits(number));
            balancer.choose(client, &[], Balancing::RoundRobin, at(number.into()));
        }
        assert_eq!(balancer.clients.len(), MOST_CLIENTS);
    }

    #[test]
    fn what_stays_keeps_what_is_known_of_it() {
        let mut balancer = balancer(1..=3, None);
        balancer.endpoints()[1].failed(at(0));
        balancer.replace(&endpoints(2..=4), &[], None);
        let failures: Vec<_> =
            balancer.endpoints().iter().map(|state| state.status(at(0)).failures).collect();
        assert_eq!(failures, [1, 0, 0]);
    }
}
