//! What a load balancer is told. Pure.

use endpoint_cache::object::ObjectName;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::http::{JSON, respond};

/// By how many endpoints here a load balancer may weigh nodes.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// An answer; its fields are kube-proxy's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    service: Service,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Debug, Serialize)]
struct Service {
    namespace: String,
    name: String,
}

impl Answer {
    pub(super) fn new(service: &ObjectName, local_endpoints: usize, service_proxy_healthy: bool) -> Self {
        let service = Service { namespace: service.namespace.to_string(), name: service.name.to_string() };
        Self { service, local_endpoints, service_proxy_healthy }
    }

    /// Whether the node is one to send connections to.
    pub(super) fn is_good(&self) -> bool {
        self.local_endpoints > 0 && self.service_proxy_healthy
    }

    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let body = serde_json::to_string_pretty(self).unwrap_or_default();
        let status = if self.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = respond(status, JSON, body);
        response.headers_mut().insert(WEIGHT, HeaderValue::from(self.local_endpoints));
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_must_be_an_endpoint_and_a_proxy_that_works() {
        let service = ObjectName::new("shop", "web");
        for (endpoints, healthy, status) in [(0, true, 503), (1, true, 200), (2, true, 200), (2, false, 503)]
        {
            let response = Answer::new(&service, endpoints, healthy).response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["X-Load-Balancing-Endpoint-Weight"], endpoints.to_string());
            assert_eq!(response.headers()["content-type"], "application/json");
        }
    }

    #[test]
    fn the_body_has_kube_proxys_fields() {
        let answer = serde_json::to_value(Answer::new(&ObjectName::new("shop", "web"), 3, true)).unwrap();
        let expected = json!({
            "service": {"namespace": "shop", "name": "web"}, "localEndpoints": 3, "serviceProxyHealthy": true,
        });
        assert_eq!(answer, expected);
    }
}
