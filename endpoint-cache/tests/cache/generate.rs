//! Random clusters, small enough that things collide: few names, few addresses, few zones.

use endpoint_cache::Update;
use endpoint_cache::object::{
    Conditions, EndpointSlice, Hint, Hints, Kind, LoadBalancerIngress, Metadata, Node, ObjectName, ObjectRef,
    Port, Service, ServiceCidr, ServiceCidrSpec, ServiceSpec, SliceEndpoint, SlicePort,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::objects::NODE;

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(choices).prop_map(str::to_owned)
}

fn texts(choices: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(choices, 0..=choices.len()).prop_map(|some| some.into_iter().map(str::to_owned).collect())
}

fn metadata(names: &'static [&'static str]) -> impl Strategy<Value = Metadata> {
    text(names).prop_map(|name| Metadata { name, namespace: "ns".to_owned(), ..Metadata::default() })
}

fn port() -> impl Strategy<Value = Port> {
    let node_port = select(&[0, 0, 30001, 30002, 70000][..]);
    (text(&["", "a", "b"]), text(&["TCP", "UDP", ""]), select(&[80, 81, 0][..]), node_port)
        .prop_map(|(name, protocol, port, node_port)| Port { name, protocol, port, node_port })
}

fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let v4 = text(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    let v6 = text(&["fd00::1", "fd00::2", "fd00::3"]);
    let cluster_ips = prop_oneof![
        6 => v4.prop_map(|ip| (vec![ip], vec!["IPv4".to_owned()])),
        3 => (text(&["10.0.0.1", "10.0.0.2", "10.0.0.5"]), v6)
            .prop_map(|(v4, v6)| (vec![v6, v4], vec!["IPv6".to_owned(), "IPv4".to_owned()])),
        1 => text(&["None", "", "bad", "127.0.0.1"]).prop_map(|ip| (vec![ip], Vec::new())),
    ];
    let policy = || text(&["Cluster", "Local", ""]);
    (
        text(&["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"]),
        cluster_ips,
        vec(port(), 0..4),
        texts(&["192.0.2.1", "192.0.2.2", "10.0.0.1", "2001:db8::1", "bad"]),
        (policy(), policy()),
        texts(&["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0", "bad"]),
        (text(&["", "ClientIP"]), select(&[0, 32000][..])),
    )
        .prop_map(
            |(service_type, (cluster_ips, ip_families), ports, external_ips, policies, ranges, rest)| {
                ServiceSpec {
                    service_type,
                    cluster_ip: cluster_ips[0].clone(),
                    cluster_ips,
                    ip_families,
                    ports,
                    external_ips,
                    external_traffic_policy: policies.0,
                    internal_traffic_policy: policies.1,
                    load_balancer_source_ranges: ranges,
                    session_affinity: rest.0,
                    health_check_node_port: rest.1,
                    ..ServiceSpec::default()
                }
            },
        )
}

fn service() -> impl Strategy<Value = Service> {
    let created = option::of(text(&["2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "2022-01-01T00:00:00Z"]));
    let foreign = prop::bool::weighted(0.1);
    let ingress = texts(&["192.0.2.1", "192.0.2.3", "2001:db8::1"]);
    let proxied = option::weighted(0.3, text(&["v2", "v1"]));
    (metadata(&["s1", "s2", "s3", "s4", "s5"]), created, foreign, service_spec(), ingress, proxied).prop_map(
        |(metadata, creation_timestamp, foreign, spec, ingress, proxied)| {
            let mut service =
                Service { metadata: Metadata { creation_timestamp, ..metadata }, spec, ..Service::default() };
            if foreign {
                let label = "service.kubernetes.io/service-proxy-name".to_owned();
                service.metadata.labels.insert(label, String::new());
            }
            let vip = |ip| LoadBalancerIngress { ip, ip_mode: String::new() };
            service
                .metadata
                .annotations
                .extend(proxied.map(|value| ("pointsman.dev/proxy-protocol".to_owned(), value)));
            service.status.load_balancer.ingress = ingress.into_iter().map(vip).collect();
            service
        },
    )
}

fn hints() -> impl Strategy<Value = Hints> {
    let names = |names: Vec<String>| names.into_iter().map(|name| Hint { name }).collect();
    // An endpoint in two has a hint of a kind, so that all of a few often have.
    let some = |choices| prop_oneof![1 => Just(Vec::new()), 4 => texts(choices)];
    (some(&["a", "b"]), some(&[NODE, "them"]))
        .prop_map(move |(zones, nodes)| Hints { for_zones: names(zones), for_nodes: names(nodes) })
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let any = (option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>()))
        .prop_map(|(ready, serving, terminating)| Conditions { ready, serving, terminating });
    prop_oneof![2 => Just(Conditions::default()), 3 => any]
}

/// An endpoint of a slice of either family.
pub(crate) fn endpoint(addresses: &'static [&'static str]) -> impl Strategy<Value = SliceEndpoint> {
    let node_name = option::of(text(&[NODE, "them"]));
    (text(addresses), conditions(), node_name, hints()).prop_map(|(address, conditions, node_name, hints)| {
        SliceEndpoint { addresses: vec![address], conditions, node_name, hints }
    })
}

fn slice_port() -> impl Strategy<Value = SlicePort> {
    let numbers = option::of(select(&[8080, 8081, 0][..]));
    (text(&["", "a", "b"]), text(&["TCP", "UDP", ""]), numbers).prop_map(|(name, protocol, port)| SlicePort {
        name: Some(name),
        protocol,
        port,
    })
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let v4 = vec(endpoint(&["10.1.0.1", "10.1.0.2", "10.1.0.3", "bad"]), 0..5).prop_map(|e| ("IPv4", e));
    let v6 = vec(endpoint(&["fd01::1", "fd01::2", "10.1.0.1"]), 0..4).prop_map(|e| ("IPv6", e));
    let fqdn = vec(endpoint(&["pod.example"]), 0..2).prop_map(|e| ("FQDN", e));
    (
        metadata(&["e1", "e2", "e3", "e4", "e5", "e6"]),
        option::of(text(&["s1", "s2", "s3", "s4"])),
        prop::bool::weighted(0.1),
        prop_oneof![6 => v4, 3 => v6, 1 => fqdn],
        vec(slice_port(), 0..4),
    )
        .prop_map(|(mut metadata, service, headless, (address_type, endpoints), ports)| {
            let label = |name: &str| name.to_owned();
            metadata.labels.extend(service.map(|service| (label("kubernetes.io/service-name"), service)));
            metadata
                .labels
                .extend(headless.then(|| (label("service.kubernetes.io/headless"), String::new())));
            EndpointSlice { metadata, address_type: address_type.to_owned(), endpoints, ports }
        })
}

fn node() -> impl Strategy<Value = Node> {
    let labels = btree_map(Just("topology.kubernetes.io/zone".to_owned()), text(&["a", "b", "c", ""]), 0..2);
    (text(&[NODE, NODE, "them"]), labels).prop_map(|(name, labels)| {
        let metadata = Metadata { name, labels, ..Metadata::default() };
        Node { metadata, ..Node::default() }
    })
}

fn service_cidr() -> impl Strategy<Value = ServiceCidr> {
    let cidrs = texts(&["10.0.0.0/16", "10.0.128.0/17", "fd00::/112", "bad"]);
    (text(&["c1", "c2"]), cidrs).prop_map(|(name, cidrs)| {
        let metadata = Metadata { name, ..Metadata::default() };
        ServiceCidr { metadata, spec: ServiceCidrSpec { cidrs } }
    })
}

/// The object an update is about.
pub(crate) fn object_of(update: &Update) -> ObjectRef {
    match update {
        Update::Service(service) => ObjectRef { kind: Kind::Service, name: service.object_name() },
        Update::EndpointSlice(slice) => ObjectRef { kind: Kind::EndpointSlice, name: slice.object_name() },
        Update::Node(node) => ObjectRef { kind: Kind::Node, name: node.object_name() },
        Update::ServiceCidr(cidr) => ObjectRef { kind: Kind::ServiceCidr, name: cidr.object_name() },
        Update::Deleted(object) => object.clone(),
        Update::ListBegins(_) | Update::ListEnds(_) => unreachable!("never generated"),
    }
}

fn deletion() -> impl Strategy<Value = Update> {
    let of = |kind, namespace: &'static str, names| {
        text(names).prop_map(move |name| {
            Update::Deleted(ObjectRef { kind, name: ObjectName::new(namespace, &name) })
        })
    };
    prop_oneof![
        4 => of(Kind::Service, "ns", &["s1", "s2", "s3", "s4", "s5"]),
        4 => of(Kind::EndpointSlice, "ns", &["e1", "e2", "e3", "e4", "e5", "e6"]),
        1 => of(Kind::Node, "", &[NODE, "them"]),
        1 => of(Kind::ServiceCidr, "", &["c1", "c2"]),
    ]
}

/// Anything that may happen.
pub(crate) fn update() -> impl Strategy<Value = Update> {
    prop_oneof![
        8 => service().prop_map(Update::Service),
        8 => slice().prop_map(Update::EndpointSlice),
        1 => node().prop_map(Update::Node),
        1 => service_cidr().prop_map(Update::ServiceCidr),
        5 => deletion(),
    ]
}

/// A Service of one port in IPv4, reduced to what it claims.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claiming {
    /// Year of its creation; 0 for none.
    pub(crate) year: u16,
    pub(crate) name: String,
    pub(crate) cluster_ip: String,
    pub(crate) external_ips: Vec<String>,
    pub(crate) node_port: i32,
}

impl Claiming {
    pub(crate) fn service(&self) -> Service {
        let metadata = Metadata {
            name: self.name.clone(),
            namespace: "ns".to_owned(),
            creation_timestamp: (self.year > 0).then(|| format!("{}-01-01T00:00:00Z", self.year)),
            ..Metadata::default()
        };
        let spec = ServiceSpec {
            service_type: "NodePort".to_owned(),
            cluster_ip: self.cluster_ip.clone(),
            external_ips: self.external_ips.clone(),
            ports: vec![Port { port: 80, node_port: self.node_port, ..Port::default() }],
            ..ServiceSpec::default()
        };
        Service { metadata, spec, ..Service::default() }
    }
}

/// A Service that wants what others want too.
pub(crate) fn claiming() -> impl Strategy<Value = Claiming> {
    let names = &["s1", "s2", "s3", "s4", "s5", "s6"];
    let cluster_ips = &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];
    let external_ips = texts(&["192.0.2.1", "192.0.2.2", "10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    (
        select(&[0, 2020, 2021, 2022][..]),
        text(names),
        text(cluster_ips),
        external_ips,
        select(&[0, 30001][..]),
    )
        .prop_map(|(year, name, cluster_ip, mut external_ips, node_port)| {
            external_ips.retain(|ip| *ip != cluster_ip);
            Claiming { year, name, cluster_ip, external_ips, node_port }
        })
}
