//! A configuration file's text into its fields. Pure.
//!
//! As kube-proxy does it: strict first; what is unknown or said twice is then a doubt, and everything else counts. Null
//! means default, which is how kubeadm writes what it does not set.

use std::fmt;

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::schema::{API_VERSION, KIND, KubeProxyConfiguration};

/// What is further from every known name is not taken for a slip of one.
const ALIKE: f64 = 0.7;

/// What a file says.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// With defaults where it says nothing.
    pub configuration: KubeProxyConfiguration,
    /// What was probably meant otherwise.
    pub doubts: Vec<Doubt>,
}

/// Something in a file that does not count, and was probably meant to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// There is no such field.
    Unknown {
        /// Where, such as `conntrack.maxPerCoer`.
        path: String,
        /// A field that there is, of a name like that.
        meant: Option<String>,
    },
    /// A field is there twice; the last one counts. In the words of the parser.
    Twice(String),
    /// There is more than one document; the first one counts.
    Further,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { path, meant: Some(meant) } => {
                write!(f, "{path}: there is no such field; did you mean {meant}?")
            }
            Self::Unknown { path, meant: None } => write!(f, "{path}: there is no such field"),
            Self::Twice(what) => write!(f, "{what}; the last one counts"),
            Self::Further => f.write_str("there is more than one document; the first one counts"),
        }
    }
}

/// Why a file cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Not YAML.
    #[error("it is no YAML: {0}")]
    Syntax(String),
    /// Another kind of object.
    #[error(
        "apiVersion {api_version:?}, kind {kind:?}: only apiVersion {API_VERSION}, kind {KIND} can be read"
    )]
    OtherKind {
        /// What the file says.
        api_version: String,
        /// What the file says.
        kind: String,
    },
    /// A field of another type.
    #[error("{path}: {reason}")]
    Field {
        /// Which.
        path: String,
        /// What is wrong with its value.
        reason: String,
    },
}

/// Reads a file.
///
/// # Errors
/// When it cannot be used at all.
pub fn decode(text: &str) -> Result<Decoded, Undecodable> {
    let (mut value, mut doubts) = parse(text)?;
    normalise(&mut value);
    let said = |name| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (said("apiVersion"), said("kind"));
    if (&*api_version, &*kind) != (API_VERSION, KIND) {
        return Err(Undecodable::OtherKind { api_version, kind });
    }
    find_unknown(&value, &known_fields(), "", &mut doubts);
    // What they are if nothing is said depends on another field.
    for address in ["healthzBindAddress", "metricsBindAddress"] {
        value.as_object_mut().map(|fields| fields.entry(address).or_insert_with(|| "".into()));
    }
    let decoded: Result<KubeProxyConfiguration, _> = serde_path_to_error::deserialize(value);
    let mut configuration = decoded.map_err(|error| Undecodable::Field {
        path: error.path().to_string(),
        reason: error.inner().to_string(),
    })?;
    configuration.complete();
    Ok(Decoded { configuration, doubts })
}

/// The first document as a tree; and what is doubtful and tolerable about the text.
fn parse(text: &str) -> Result<(Value, Vec<Doubt>), Undecodable> {
    let (documents, twice) = match read(text, DuplicateKeyPolicy::Error) {
        Ok(documents) => (documents, None),
        Err(strict) => {
            let lenient = read(text, DuplicateKeyPolicy::LastWins);
            (lenient.map_err(Undecodable::Syntax)?, Some(strict))
        }
    };
    let mut documents = documents.into_iter().filter(|document| !document.is_null());
    let first = documents.next().unwrap_or_default();
    let further = documents.next().map(|_| Doubt::Further);
    Ok((first, twice.map(Doubt::Twice).into_iter().chain(further).collect()))
}

fn read(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! { duplicate_keys: duplicate_keys, with_snippet: false };
    serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| error.to_string().replace('\n', " "))
}

/// Removes nulls, and writes whole numbers as such: templates make them `32768.0`.
fn normalise(value: &mut Value) {
    /// Up to here, each whole number is a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(normalise);
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT);
            if let Some(whole) = whole.and_then(|float| format!("{float:.0}").parse::<i64>().ok()) {
                *value = whole.into();
            }
        }
        _ => {}
    }
}

/// Every field there is, in the shape of a file that has them all.
fn known_fields() -> Value {
    let mut everything = KubeProxyConfiguration::default();
    everything.logging.vmodule.push(super::schema::VmoduleItem::default());
    // It has neither keys that are no texts nor values that are no numbers.
    serde_json::to_value(everything).unwrap_or_default()
}

fn find_unknown(value: &Value, known: &Value, path: &str, doubts: &mut Vec<Doubt>) {
    match (value, known) {
        // Only gates have names of their own.
        (Value::Object(_), Value::Object(known)) if known.is_empty() => {}
        (Value::Object(fields), Value::Object(known)) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match known.get(name) {
                    Some(known) => find_unknown(value, known, &path, doubts),
                    None => doubts.push(Doubt::Unknown { meant: nearest(name, known.keys()), path }),
                }
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            let Some(known) = known.first() else { return };
            for (index, item) in items.iter().enumerate() {
                find_unknown(item, known, &format!("{path}[{index}]"), doubts);
            }
        }
        _ => {}
    }
}

/// Which of these names was probably meant.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    let lower = name.to_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(&lower, &known.to_lowercase());
    let best = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::GoDuration;

    const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

    fn read(fields: &str) -> Decoded {
        decode(&format!("{HEAD}{fields}")).unwrap()
    }

    fn doubts(fields: &str) -> Vec<String> {
        read(fields).doubts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_that_says_nothing_asks_for_the_defaults() {
        assert_eq!(read("").configuration, KubeProxyConfiguration::default());
        assert_eq!(doubts(""), [""; 0]);
    }

    /// As kubeadm 1.36 writes it: nulls, empty texts and zeros for what is not set.
    #[test]
    fn what_kubeadm_writes_asks_for_the_defaults() {
        let fields = r#"
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
"#;
        let mut expected =
            KubeProxyConfiguration { cluster_cidr: "10.244.0.0/16".into(), ..Default::default() };
        expected.client_connection.kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf".into();
        assert_eq!(read(fields).configuration, expected);
        assert_eq!(doubts(fields), [""; 0]);
    }

    #[test]
    fn fields_mean_what_they_say() {
        let fields = "mode: ipvs\nbindAddress: '::'\nconntrack: {min: 7, tcpCloseWaitTimeout: 0s}\n\
                      ipvs: {scheduler: lc, excludeCIDRs: [10.0.0.0/8]}\noomScoreAdj: 0\nfeatureGates: {A: true}\n\
                      logging: {flushFrequency: 2000000000, vmodule: [{filePattern: a*, verbosity: 4}]}\n";
        let configuration = read(fields).configuration;
        assert_eq!((&*configuration.mode, &*configuration.ipvs.scheduler), ("ipvs", "lc"));
        assert_eq!(configuration.ipvs.exclude_cidrs, ["10.0.0.0/8"]);
        assert_eq!((configuration.conntrack.min, configuration.oom_score_adj), (7, 0));
        assert_eq!(configuration.conntrack.tcp_close_wait_timeout, GoDuration::default());
        assert_eq!(configuration.logging.flush_frequency, GoDuration::from_secs(2));
        assert_eq!(configuration.logging.vmodule[0].file_pattern, "a*");
        assert_eq!(&*configuration.metrics_bind_address, "[::1]:10249");
        assert_eq!(doubts(fields), [""; 0]);
    }

    #[test]
    fn a_slip_of_a_name_is_told_with_the_name_that_was_meant() {
        let found = doubts(
            "conntrack: {maxPerCoer: 1}\nclusterCidr: 10.0.0.0/8\nzzz: 1\n\
                            logging: {vmodule: [{filePatern: a}]}\n",
        );
        for expected in [
            "conntrack.maxPerCoer: there is no such field; did you mean maxPerCore?",
            "clusterCidr: there is no such field; did you mean clusterCIDR?",
            "logging.vmodule[0].filePatern: there is no such field; did you mean filePattern?",
            "zzz: there is no such field",
        ] {
            assert!(found.iter().any(|doubt| doubt == expected), "{expected} is not in {found:?}");
        }
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn of_a_field_that_is_there_twice_the_last_one_counts() {
        let fields = "mode: ipvs\nmode: iptables\n";
        assert_eq!(read(fields).configuration.mode, "iptables");
        let found = doubts(fields);
        assert!(found.len() == 1 && found[0].contains("mode"), "{found:?}");
    }

    #[test]
    fn the_first_document_counts() {
        let decoded = decode(&format!("---\n{HEAD}mode: ipvs\n---\n")).unwrap();
        assert_eq!((&*decoded.configuration.mode, decoded.doubts.len()), ("ipvs", 0));
        let decoded = decode(&format!("{HEAD}mode: ipvs\n---\n{HEAD}mode: iptables\n")).unwrap();
        assert_eq!((&*decoded.configuration.mode, decoded.doubts), ("ipvs", vec![Doubt::Further]));
    }

    #[test]
    fn whole_numbers_may_be_written_as_templates_write_them() {
        assert_eq!(read("conntrack: {min: 32768.0}\n").configuration.conntrack.min, 32768);
        assert!(decode(&format!("{HEAD}conntrack: {{min: 1.5}}\n")).is_err());
    }

    #[test]
    fn what_is_no_such_configuration_is_refused() {
        for (text, word) in [
            ("apiVersion: v1\nkind: ConfigMap\n".to_owned(), "KubeProxyConfiguration"),
            (String::new(), "KubeProxyConfiguration"),
            (format!("{HEAD}mode: [a"), "YAML"),
            (format!("{HEAD}mode: 7"), "mode: "),
            (format!("{HEAD}conntrack: {{min: many}}"), "conntrack.min: "),
            (format!("{HEAD}iptables: {{syncPeriod: 30}}"), "iptables.syncPeriod: "),
            (format!("{HEAD}iptables: {{syncPeriod: soon}}"), "1m30s"),
        ] {
            let error = decode(&text).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut configuration = read("mode: ipvs\nnodePortAddresses: [10.0.0.0/8]\n").configuration;
        configuration.conntrack.udp_timeout = GoDuration::from_secs(90);
        let text = serde_saphyr::to_string(&configuration).unwrap();
        let decoded = decode(&text).unwrap();
        assert_eq!((decoded.configuration, decoded.doubts.len()), (configuration, 0));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(apiVersion: [a-z.:/0-9]{0,40}\n)?.{0,200}") {
            drop(decode(&text));
            drop(decode(&format!("{HEAD}{text}")));
        }
    }
}
