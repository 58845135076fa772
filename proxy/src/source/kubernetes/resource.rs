//! What is asked of the API server: which kinds, which objects of them, and as what they are taken in.

use endpoint_cache::Update;
use endpoint_cache::object::{self, Kind};
use serde::de::DeserializeOwned;

/// A kind of object, and which objects of it are wanted. Selectors are kube-proxy's.
pub(super) trait Resource {
    /// What the objects are read as. Anything in them that is not read is skipped.
    type Object: DeserializeOwned;

    /// The kind.
    const KIND: Kind;
    /// Where all objects of the kind are.
    const PATH: &'static str;
    /// Whether there are API servers that do not know the kind.
    const IS_NEW: bool = false;

    /// A label selector.
    fn labels(&self) -> Option<&'static str> {
        None
    }

    /// A field selector.
    fn fields(&self) -> Option<String> {
        None
    }

    /// The object, for the cache.
    fn update(object: Self::Object) -> Update;
}

/// Services that have a ClusterIP and are not another proxy's.
pub(super) struct Services;

impl Resource for Services {
    type Object = object::Service;
    const KIND: Kind = Kind::Service;
    const PATH: &'static str = "/api/v1/services";

    fn labels(&self) -> Option<&'static str> {
        Some("!service.kubernetes.io/service-proxy-name")
    }

    fn fields(&self) -> Option<String> {
        Some("spec.clusterIP!=None".to_owned())
    }

    fn update(service: object::Service) -> Update {
        Update::Service(service)
    }
}

/// EndpointSlices of Services that are not headless.
pub(super) struct EndpointSlices;

impl Resource for EndpointSlices {
    type Object = object::EndpointSlice;
    const KIND: Kind = Kind::EndpointSlice;
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/endpointslices";

    fn labels(&self) -> Option<&'static str> {
        Some("!service.kubernetes.io/headless")
    }

    fn update(slice: object::EndpointSlice) -> Update {
        Update::EndpointSlice(slice)
    }
}

/// The ranges of ClusterIPs. API servers before 1.33 do not serve them.
pub(super) struct ServiceCidrs;

impl Resource for ServiceCidrs {
    type Object = object::ServiceCidr;
    const KIND: Kind = Kind::ServiceCidr;
    const PATH: &'static str = "/apis/networking.k8s.io/v1/servicecidrs";
    const IS_NEW: bool = true;

    fn update(cidr: object::ServiceCidr) -> Update {
        Update::ServiceCidr(cidr)
    }
}

/// The Node that this process runs on.
pub(super) struct OwnNode {
    /// Its name.
    pub(super) name: String,
}

impl Resource for OwnNode {
    type Object = object::Node;
    const KIND: Kind = Kind::Node;
    const PATH: &'static str = "/api/v1/nodes";

    fn fields(&self) -> Option<String> {
        Some(format!("metadata.name={}", self.name))
    }

    fn update(node: object::Node) -> Update {
        Update::Node(node)
    }
}
