//! The objects of a cluster as an API server holds them: many Services that nobody asks for, and one that is probed.

use crate::cluster::{service, slice};
use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use testbed::cluster::{Endpoint, Service, Slice};
use testbed::{Bed, Family, POD_PORT, Protocol};

/// Endpoints of each Service.
pub const ENDPOINTS: u32 = 10;
/// The node's name.
pub const NODE: &str = "node";
/// Which ClusterIP the probed Service has.
const PROBED: u8 = 10;

/// Everything but the probed Service.
///
/// # Errors
/// When an object cannot be made JSON of.
pub fn objects(services: u32) -> Result<Vec<Value>> {
    let mut objects = Vec::with_capacity(2 * services as usize + 2);
    for number in 0..services {
        objects.push(object("v1", "Service", &service(number))?);
        let pods = number * ENDPOINTS..(number + 1) * ENDPOINTS;
        objects.push(object("discovery.k8s.io/v1", "EndpointSlice", &slice(number, pods))?);
    }
    objects.push(testbed::cluster::node(Some("zone-a"), &[Family::V4.node()], &["10.128.0.0/16"]));
    objects.push(testbed::cluster::service_cidr("kubernetes", &["10.96.0.0/12", "172.30.0.0/16"]));
    Ok(objects)
}

fn object(version: &str, kind: &str, fields: &impl Serialize) -> Result<Value> {
    let mut object = serde_json::to_value(fields)?;
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    Ok(object)
}

/// Where the probed Service is.
#[must_use]
pub fn probed_address() -> std::net::SocketAddr {
    (Family::V4.cluster_ip(PROBED), 80).into()
}

/// The probed Service.
#[must_use]
pub fn probed_service() -> Value {
    Service::new("probed", Family::V4.cluster_ip(PROBED)).tcp("http", 80).to_json()
}

/// Its only endpoint.
#[must_use]
pub fn probed_slice(bed: &Bed, pod: u8) -> Value {
    let endpoint = Endpoint::of(bed.pod(pod), Family::V4);
    Slice::new("probed", Family::V4, [endpoint]).port("http", Protocol::Tcp, POD_PORT).to_json()
}
