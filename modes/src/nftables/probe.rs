//! Whether the kernel can do all that the mode needs, found out before anything depends on it.

use std::sync::Arc;

use endpoint_cache::{Endpoint, Family, NodeState, Protocol, ServicePort, ServicePortName, TrafficPolicy};
use kernel::nft::{Batch, Nftables as Connection, Table};

use super::base;
use super::layout::{self, SetName};
use super::numbers::Numbers;
use super::ops::Ops;
use super::program::{PlacedEndpoints, Program};
use crate::context::{Context, Unset};
use crate::{Error, Settings};

/// Programs one service of every kind in a table that the same transaction removes again.
///
/// # Errors
/// When the kernel refuses, with what it refused.
pub(crate) fn run(connection: &mut Connection, family: Family) -> Result<(), Error> {
    let name = format!("{}-probe", layout::TABLE);
    let table = Table { name, ..layout::table(family) };
    let context =
        Context::new(family, &Settings::default(), &NodeState::default(), &Arc::from([]), Unset::Primary);
    let mut ops = Ops::default();
    base::chains(&context).into_iter().for_each(|(chain, rules)| ops.write_chain(chain, rules));
    let mut program = Program::new(context, Numbers::default());
    for affinity_seconds in [None, Some(1)] {
        program.add(&service(family, affinity_seconds), &PlacedEndpoints::default(), &mut ops);
    }
    let mut batch = Batch::new(table);
    batch.add_table("gone before you read this");
    SetName::ALL.iter().for_each(|set| batch.add_set(&set.definition(family)));
    ops.encode_chains(&mut batch);
    ops.encode_elements(&mut batch);
    batch.delete_table();
    connection.commit(batch).map_err(|error| match error {
        kernel::Error::Refused { .. } => Error::Lacking { family, error },
        error => error.into(),
    })
}

/// A service that uses every kind of rule, but for what the policy of its external traffic leaves out.
fn service(family: Family, affinity_seconds: Option<u32>) -> ServicePort {
    let address = |v4: [u8; 4], v6: [u16; 8]| match family {
        Family::V4 => std::net::IpAddr::from(v4),
        Family::V6 => std::net::IpAddr::from(v6),
    };
    // Addresses for documentation (RFC 5737, RFC 3849).
    let number = u8::from(affinity_seconds.is_some());
    let ip = |last: u8| address([192, 0, 2, last], [0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()]);
    let endpoints: Arc<[Endpoint]> = Arc::from([Endpoint { address: ip(1), port: 1, local: true }]);
    ServicePort {
        name: Arc::new(ServicePortName {
            namespace: "probe".into(),
            name: format!("probe-{number}").into(),
            port: "".into(),
            protocol: Protocol::Tcp,
        }),
        family,
        cluster_ip: ip(10 + number),
        port: 1,
        node_port: Some(1 + u16::from(number)),
        external_ips: [].into(),
        load_balancer_ips: [ip(20 + number)].into(),
        health_check_node_port: None,
        source_ranges: Some([ip(30).into()].into()),
        affinity_seconds,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Local,
        proxy_protocol: false,
        cluster_endpoints: Arc::clone(&endpoints),
        local_endpoints: Arc::clone(&endpoints),
        serving_endpoints: endpoints,
    }
}
