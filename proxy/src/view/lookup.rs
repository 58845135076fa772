//! Finding Services as people name them. Pure.

use anyhow::{anyhow, bail};

use super::{PortView, ServiceView, View};

/// How many names are suggested, or listed where several fit.
const SUGGESTED: usize = 3;
/// How alike a name must be to be suggested, from 0 to 1.
const ALIKE: f64 = 0.8;

/// Letters by which a name that was mistyped may be longer or shorter.
const MOST_SLIPS: usize = 2;

/// A Service as it was named: `[namespace/]name[:port]`, or `name.namespace[.svc[.DOMAIN]][:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: &'a str,
    /// Name or number of a port.
    pub(crate) port: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// Takes the text apart. Whether there is such a Service is another matter.
    pub(crate) fn read(text: &'a str) -> Self {
        let (place, port) = match text.split_once(':') {
            Some((place, port)) => (place, Some(port)),
            None => (text, None),
        };
        let (namespace, name) = match place.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => match place.split_once('.') {
                Some((name, rest)) => (rest.split('.').next(), name),
                None => (None, place),
            },
        };
        Self { namespace, name, port }
    }

    /// The same, in this namespace unless it says one itself.
    pub(crate) fn within(self, namespace: Option<&'a str>) -> Self {
        Self { namespace: self.namespace.or(namespace), ..self }
    }
}

/// The Service that is named. Without a namespace, the name must be unique.
///
/// # Errors
/// When there is none, with the names that are nearest, or when several have the name, with their namespaces.
pub(crate) fn service<'a>(view: &'a View, named: Named<'_>) -> anyhow::Result<&'a ServiceView> {
    let here =
        |service: &&ServiceView| named.namespace.is_none_or(|namespace| service.namespace == namespace);
    let mut found = view.services.iter().filter(|service| service.name == named.name).filter(here);
    let Some(first) = found.next() else { return Err(unknown(view, named)) };
    if found.next().is_some() {
        let all = view.services.iter().filter(|service| service.name == named.name);
        let names: Vec<_> = all.map(full_name).collect();
        bail!("Service {:?} is in several namespaces: say which of {}", named.name, list(&names, "and"));
    }
    Ok(first)
}

/// The port that is named, by name or number. Without either, there must be one only (of the protocol, if that is
/// given: `TCP`, `UDP` or `SCTP`).
///
/// # Errors
/// When there is none, or several could be meant; the ports that there are are listed.
pub(crate) fn port<'a>(
    service: &'a ServiceView,
    named: Option<&str>,
    protocol: Option<&str>,
) -> anyhow::Result<&'a PortView> {
    let number = named.and_then(|text| text.parse().ok());
    let is_named = |port: &&PortView| named.is_none_or(|text| port.name == text || number == Some(port.port));
    let fits = |port: &&PortView| protocol.is_none_or(|wanted| port.protocol.eq_ignore_ascii_case(wanted));
    let found: Vec<_> = service.ports.iter().filter(is_named).filter(fits).collect();
    let (name, ports) = (full_name(service), ports(service));
    match (&found[..], named) {
        ([port], _) => Ok(port),
        ([], _) if service.ports.is_empty() => {
            let why = service.problems.first().map_or("", String::as_str);
            bail!("Service {name} has no ports: {why}")
        }
        ([], Some(text)) => {
            let of = protocol.map(|protocol| format!(" of {protocol}")).unwrap_or_default();
            bail!("Service {name} has no port {text:?}{of}: it has {ports}")
        }
        ([], None) => bail!("Service {name} has no port of {}: it has {ports}", protocol.unwrap_or_default()),
        (_, Some(text)) => {
            bail!("port {text:?} of Service {name} may be several: say which protocol, of {ports}")
        }
        (_, None) => bail!("Service {name} has several ports: say which, as in {name}:PORT, of {ports}"),
    }
}

/// `namespace/name`
pub(crate) fn full_name(service: &ServiceView) -> String {
    format!("{}/{}", service.namespace, service.name)
}

/// `dns (53/UDP), metrics (9153/TCP)`
fn ports(service: &ServiceView) -> String {
    let text = |port: &PortView| match port.name.as_str() {
        "" => format!("{}/{}", port.port, port.protocol),
        name => format!("{name} ({}/{})", port.port, port.protocol),
    };
    service.ports.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn unknown(view: &View, named: Named<'_>) -> anyhow::Error {
    let asked = match named.namespace {
        Some(namespace) => format!("{namespace}/{}", named.name),
        None => named.name.to_owned(),
    };
    let nearest = nearest(view, named);
    if !nearest.is_empty() {
        return anyhow!("there is no Service {asked}: did you mean {}?", list(&nearest, "or"));
    }
    match named.namespace {
        Some(namespace) if view.services.iter().any(|service| service.namespace == namespace) => {
            anyhow!(
                "there is no Service {asked}, nor one of a similar name (pointsman get services -n {namespace})"
            )
        }
        Some(namespace) => {
            anyhow!(
                "there is no Service {asked}, nor any other in namespace {namespace} (pointsman get services -A)"
            )
        }
        None => anyhow!("there is no Service {asked}, nor one of a similar name (pointsman get services -A)"),
    }
}

/// The names that are most like the one that was asked for; among them the same in other namespaces.
fn nearest(view: &View, named: Named<'_>) -> Vec<String> {
    let likeness = |service: &ServiceView| {
        let of_name = name_likeness(&service.name, named.name);
        let of_namespace =
            named.namespace.map_or(1.0, |asked| strsim::jaro_winkler(&service.namespace, asked));
        // The same name elsewhere is what was meant more often than another name here.
        if service.name == named.name { 1.0 + of_namespace } else { of_name * of_namespace }
    };
    let mut names: Vec<_> = view.services.iter().map(|service| (likeness(service), service)).collect();
    names.retain(|(likeness, _)| *likeness >= ALIKE);
    names.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    names.into_iter().take(SUGGESTED).map(|(_, service)| full_name(service)).collect()
}

/// How alike two names are, from 0 to 1. Of short ones, a slip of the finger leaves little.
fn name_likeness(a: &str, b: &str) -> f64 {
    let (shorter, longer) = (a.len().min(b.len()), a.len().max(b.len()));
    let slips = if longer - shorter > MOST_SLIPS { longer } else { strsim::osa_distance(a, b) };
    let by_slips = 1.0 - slips as f64 / (2 * longer.max(1)) as f64;
    strsim::jaro_winkler(a, b).max(by_slips)
}

/// `a, b or c`; where there are many, not all of them.
fn list(names: &[String], word: &str) -> String {
    let (some, more) = names.split_at(names.len().min(SUGGESTED));
    match (some, more.len()) {
        ([all @ .., last], 0) if !all.is_empty() => format!("{} {word} {last}", all.join(", ")),
        (some, 0) => some.join(", "),
        (some, more) => format!("{} and {more} more", some.join(", ")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn port_view(name: &str, protocol: &str, port: u16) -> PortView {
        PortView { name: name.to_owned(), protocol: protocol.to_owned(), port, ..PortView::default() }
    }

    pub(crate) fn view() -> View {
        let service = |namespace: &str, name: &str, ports| ServiceView {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ports,
            ..ServiceView::default()
        };
        let mut dns = service(
            "kube-system",
            "kube-dns",
            vec![port_view("dns", "UDP", 53), port_view("dns-tcp", "TCP", 53)],
        );
        dns.cluster_ips = vec!["10.96.0.10".parse().unwrap()];
        let mut web = service("shop", "web", vec![port_view("", "TCP", 80)]);
        web.external_ips = vec!["192.0.2.1".parse().unwrap()];
        web.load_balancer_ips = vec!["192.0.2.2".parse().unwrap()];
        web.ports[0].node_port = Some(30080);
        let services = vec![
            service("blog", "web", Vec::new()),
            dns,
            service("shop", "db", vec![port_view("", "TCP", 5432)]),
            web,
        ];
        View { services, ..View::default() }
    }

    fn found(text: &str) -> Result<String, String> {
        let view = view();
        service(&view, Named::read(text)).map(full_name).map_err(|error| error.to_string())
    }

    #[test]
    fn services_are_named_in_several_ways() {
        for (text, expected) in [
            ("shop/web", "shop/web"),
            ("shop/web:80", "shop/web"),
            ("db", "shop/db"),
            ("web.blog", "blog/web"),
            ("web.shop.svc.cluster.local:80", "shop/web"),
        ] {
            assert_eq!(found(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_by_the_nearest() {
        for (text, expected) in [
            ("web", "Service \"web\" is in several namespaces: say which of blog/web and shop/web"),
            (
                "kube-system/kubedns",
                "there is no Service kube-system/kubedns: did you mean kube-system/kube-dns?",
            ),
            ("shop/wbe", "there is no Service shop/wbe: did you mean shop/web?"),
            ("shopp/web", "there is no Service shopp/web: did you mean shop/web or blog/web?"),
            (
                "shop/zzz",
                "there is no Service shop/zzz, nor one of a similar name (pointsman get services -n shop)",
            ),
            ("q/zzz", "there is no Service q/zzz, nor any other in namespace q (pointsman get services -A)"),
            ("zzz", "there is no Service zzz, nor one of a similar name (pointsman get services -A)"),
        ] {
            assert_eq!(found(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_port_must_be_the_only_one_that_fits() {
        let view = view();
        let dns = service(&view, Named::read("kube-dns")).unwrap();
        let of = |named, protocol| {
            port(dns, named, protocol).map(|port| port.name.clone()).map_err(|error| error.to_string())
        };
        assert_eq!(of(Some("dns"), None).unwrap(), "dns");
        assert_eq!(of(Some("53"), Some("tcp")).unwrap(), "dns-tcp");
        assert_eq!(of(None, Some("UDP")).unwrap(), "dns");
        let list = "dns (53/UDP), dns-tcp (53/TCP)";
        let name = "kube-system/kube-dns";
        for (named, protocol, expected) in [
            (
                None,
                None,
                format!("Service {name} has several ports: say which, as in {name}:PORT, of {list}"),
            ),
            (
                Some("53"),
                None,
                format!("port \"53\" of Service {name} may be several: say which protocol, of {list}"),
            ),
            (Some("http"), None, format!("Service {name} has no port \"http\": it has {list}")),
            (None, Some("SCTP"), format!("Service {name} has no port of SCTP: it has {list}")),
        ] {
            assert_eq!(of(named, protocol).unwrap_err(), expected);
        }
    }
}
