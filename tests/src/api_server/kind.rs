//! The kinds of objects that are served, and where.

/// A kind of object.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Its name.
    pub(crate) name: &'static str,
    /// As it is called in paths.
    pub(crate) plural: &'static str,
    /// Group and version, as objects say it.
    pub(crate) api_version: &'static str,
    /// Path that group and version stand under.
    pub(crate) prefix: &'static str,
    /// Whether its objects are in namespaces.
    pub(crate) namespaced: bool,
    /// How every encoded object ends.
    pub(crate) suffix: &'static str,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 7;

/// All kinds. Their place here is what they are known by inside.
pub(crate) static ALL: [Kind; KINDS] = [
    Kind {
        name: "Service",
        plural: "services",
        api_version: "v1",
        prefix: "/api/v1/",
        namespaced: true,
        suffix: r#","kind":"Service","apiVersion":"v1"}"#,
    },
    Kind {
        name: "Node",
        plural: "nodes",
        api_version: "v1",
        prefix: "/api/v1/",
        namespaced: false,
        suffix: r#","kind":"Node","apiVersion":"v1"}"#,
    },
    Kind {
        name: "EndpointSlice",
        plural: "endpointslices",
        api_version: "discovery.k8s.io/v1",
        prefix: "/apis/discovery.k8s.io/v1/",
        namespaced: true,
        suffix: r#","kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1"}"#,
    },
    Kind {
        name: SERVICE_CIDR,
        plural: "servicecidrs",
        api_version: "networking.k8s.io/v1",
        prefix: "/apis/networking.k8s.io/v1/",
        namespaced: false,
        suffix: r#","kind":"ServiceCIDR","apiVersion":"networking.k8s.io/v1"}"#,
    },
    Kind {
        name: "Pod",
        plural: "pods",
        api_version: "v1",
        prefix: "/api/v1/",
        namespaced: true,
        suffix: r#","kind":"Pod","apiVersion":"v1"}"#,
    },
    Kind {
        name: "Namespace",
        plural: "namespaces",
        api_version: "v1",
        prefix: "/api/v1/",
        namespaced: false,
        suffix: r#","kind":"Namespace","apiVersion":"v1"}"#,
    },
    Kind {
        name: "NetworkPolicy",
        plural: "networkpolicies",
        api_version: "networking.k8s.io/v1",
        prefix: "/apis/networking.k8s.io/v1/",
        namespaced: true,
        suffix: r#","kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1"}"#,
    },
];

/// The kind that older servers do not have.
pub(crate) const SERVICE_CIDR: &str = "ServiceCIDR";

/// The place of a kind.
pub(crate) fn named(name: &str) -> Option<usize> {
    ALL.iter().position(|kind| kind.name == name)
}

/// What a path asks for: a kind, perhaps in one namespace, perhaps one object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: usize,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

/// Reads a path.
pub(crate) fn target(path: &str) -> Option<Target> {
    ALL.iter().enumerate().find_map(|(place, kind)| {
        let mut words: Vec<&str> = path.strip_prefix(kind.prefix)?.split('/').collect();
        let mut namespace = None;
        if let ["namespaces", given, _, ..] = words[..]
            && kind.namespaced
        {
            namespace = Some(given.to_owned());
            words.drain(..2);
        }
        let name = match words[..] {
            [plural] if plural == kind.plural => None,
            // An object in a namespace is only found under its namespace.
            [plural, name] if plural == kind.plural && kind.namespaced == namespace.is_some() => {
                Some(name.to_owned())
            }
            _ => return None,
        };
        Some(Target { kind: place, namespace, name })
    })
}
