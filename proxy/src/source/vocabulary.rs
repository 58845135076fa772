//! What a source is asked for: which kinds of object, and as what they are taken in. The proxy asks for some, policies for
//! others, and the pod network for one alone; each has a source of its own.

use std::fmt;

use endpoint_cache::object::{self, Kind, ObjectName, ObjectRef};
use serde::de::DeserializeOwned;

use super::kubernetes::Resource;

/// What an object can be read from.
pub(crate) trait Text: Copy {
    /// Why it cannot.
    type Error;

    /// Reads it as whatever it is to be.
    fn read<T: DeserializeOwned>(self) -> Result<T, Self::Error>;
}

/// An object and its name, or why it cannot be read.
pub(crate) type Decoded<U, T> = Result<(ObjectName, U), <T as Text>::Error>;

/// The updates that somebody takes in, and what they are made of.
pub(crate) trait Vocabulary: fmt::Debug + Send + Sized + 'static {
    /// The kinds of object.
    const KINDS: &'static [Kind];

    /// What to do when the API server says that we may not read them.
    const WHEN_FORBIDDEN: &'static str;

    /// What is asked of an API server, on the node of this name; first what should be known first.
    fn resources(node_name: &str) -> Vec<Resource>;

    /// Reads an object; `None` if the kind is none of [`Self::KINDS`].
    fn decode<T: Text>(kind: Kind, text: T) -> Option<Decoded<Self, T>>;

    /// This object is gone.
    fn deleted(object: ObjectRef) -> Self;

    /// All objects of a kind follow.
    fn list_begins(kind: Kind) -> Self;

    /// They have.
    fn list_ends(kind: Kind) -> Self;
}

/// The proxy's.
impl Vocabulary for endpoint_cache::Update {
    const KINDS: &'static [Kind] = &[Kind::Node, Kind::ServiceCidr, Kind::Service, Kind::EndpointSlice];
    const WHEN_FORBIDDEN: &'static str = "bind this account to the ClusterRole system:node-proxier";

    fn resources(node_name: &str) -> Vec<Resource> {
        // Selectors are kube-proxy's.
        let services = Resource {
            labels: Some("!service.kubernetes.io/service-proxy-name"),
            fields: Some("spec.clusterIP!=None".to_owned()),
            ..Resource::all(Kind::Service, "/api/v1/services")
        };
        let slices = Resource {
            labels: Some("!service.kubernetes.io/headless"),
            ..Resource::all(Kind::EndpointSlice, "/apis/discovery.k8s.io/v1/endpointslices")
        };
        // API servers before 1.33 do not serve them.
        let cidrs = Resource {
            is_new: true,
            is_awaited: false,
            ..Resource::all(Kind::ServiceCidr, "/apis/networking.k8s.io/v1/servicecidrs")
        };
        let node = Resource { is_awaited: false, ..Resource::own_node(node_name) };
        // The small ones first: what they say bears on every rule.
        vec![node, cidrs, services, slices]
    }

    fn decode<T: Text>(kind: Kind, text: T) -> Option<Decoded<Self, T>> {
        Some(match kind {
            Kind::Service => decode(text, object::Service::object_name, Self::Service),
            Kind::EndpointSlice => decode(text, object::EndpointSlice::object_name, Self::EndpointSlice),
            Kind::Node => decode(text, object::Node::object_name, Self::Node),
            Kind::ServiceCidr => decode(text, object::ServiceCidr::object_name, Self::ServiceCidr),
            Kind::Pod | Kind::Namespace | Kind::NetworkPolicy => return None,
        })
    }

    fn deleted(object: ObjectRef) -> Self {
        Self::Deleted(object)
    }

    fn list_begins(kind: Kind) -> Self {
        Self::ListBegins(kind)
    }

    fn list_ends(kind: Kind) -> Self {
        Self::ListEnds(kind)
    }
}

/// Policies'.
impl Vocabulary for policy::Update {
    const KINDS: &'static [Kind] = &[Kind::Node, Kind::Namespace, Kind::NetworkPolicy, Kind::Pod];
    const WHEN_FORBIDDEN: &'static str =
        "let this account list and watch pods, namespaces, networkpolicies and nodes";

    fn resources(node_name: &str) -> Vec<Resource> {
        // What has ended has no address any more; it leaves the selection, which is told as a deletion.
        let pods = Resource {
            fields: Some("status.phase!=Succeeded,status.phase!=Failed".to_owned()),
            ..Resource::all(Kind::Pod, "/api/v1/pods")
        };
        vec![
            Resource::own_node(node_name),
            Resource::all(Kind::Namespace, "/api/v1/namespaces"),
            Resource::all(Kind::NetworkPolicy, "/apis/networking.k8s.io/v1/networkpolicies"),
            pods,
        ]
    }

    fn decode<T: Text>(kind: Kind, text: T) -> Option<Decoded<Self, T>> {
        use policy::object::{Namespace, NetworkPolicy, Pod};
        Some(match kind {
            Kind::Pod => decode(text, Pod::object_name, Self::Pod),
            Kind::Namespace => decode(text, Namespace::object_name, Self::Namespace),
            Kind::NetworkPolicy => decode(text, NetworkPolicy::object_name, Self::NetworkPolicy),
            Kind::Node => decode(text, object::Node::object_name, Self::Node),
            Kind::Service | Kind::EndpointSlice | Kind::ServiceCidr => return None,
        })
    }

    fn deleted(object: ObjectRef) -> Self {
        Self::Deleted(object)
    }

    fn list_begins(kind: Kind) -> Self {
        Self::ListBegins(kind)
    }

    fn list_ends(kind: Kind) -> Self {
        Self::ListEnds(kind)
    }
}

/// The pod network's.
impl Vocabulary for cni::network::Update {
    const KINDS: &'static [Kind] = &[Kind::Node];
    const WHEN_FORBIDDEN: &'static str = "let this account list and watch nodes";

    fn resources(_node_name: &str) -> Vec<Resource> {
        vec![Resource::all(Kind::Node, "/api/v1/nodes")]
    }

    fn decode<T: Text>(kind: Kind, text: T) -> Option<Decoded<Self, T>> {
        match kind {
            Kind::Node => Some(decode(text, object::Node::object_name, |node| Self::Node(Box::new(node)))),
            _ => None,
        }
    }

    fn deleted(object: ObjectRef) -> Self {
        Self::Deleted(object)
    }

    fn list_begins(kind: Kind) -> Self {
        Self::ListBegins(kind)
    }

    fn list_ends(kind: Kind) -> Self {
        Self::ListEnds(kind)
    }
}

fn decode<T: Text, O: DeserializeOwned, U>(
    text: T,
    name: impl Fn(&O) -> ObjectName,
    update: impl Fn(O) -> U,
) -> Decoded<U, T> {
    let object = text.read()?;
    Ok((name(&object), update(object)))
}
