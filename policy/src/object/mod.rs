//! The parts of Kubernetes objects that policies are made of, as they are on the wire.
//!
//! Decoding is lenient as `endpoint-cache`'s: what is written wrong in a policy is to isolate the pods that it selects,
//! and not to make the object unreadable. It is checked by [`Policy::read`](crate::Policy::read).

mod namespace;
mod network_policy;
mod pod;
mod selector;

pub use namespace::Namespace;
pub use network_policy::{
    EgressRule, IngressRule, IpBlock, NetworkPolicy, NetworkPolicyPort, NetworkPolicySpec, Peer, PortOrName,
};
pub use pod::{Container, ContainerPort, Pod, PodIp, PodSpec, PodStatus};
pub use selector::{LabelSelector, Requirement};
