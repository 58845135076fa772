//! What an object says it is: `apiVersion` and `kind`, and what they mean here.

use endpoint_cache::object::Kind;
use serde::Deserialize;

use crate::source::Vocabulary;

/// The two fields that every object begins with, in whatever order they stand.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Head {
    pub(super) api_version: String,
    pub(super) kind: String,
}

/// What a document or item holds, as far as anybody here cares.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// An object that is asked for.
    Object(Kind),
    /// Objects under `items`: all of one kind, or each saying its own.
    List(Option<Kind>),
    /// Something of no interest here: its kind and apiVersion.
    Other(String),
}

impl Head {
    /// What the rest holds for who asks; what is wrong with a head that does not say.
    pub(super) fn holds<U: Vocabulary>(&self) -> Result<Holds, &'static str> {
        if self.api_version.is_empty() || self.kind.is_empty() {
            return Err("no Kubernetes object: apiVersion or kind is missing");
        }
        let kind = |kind| kind_of(&self.api_version, kind).filter(|kind| U::KINDS.contains(kind));
        if let Some(kind) = kind(&self.kind) {
            return Ok(Holds::Object(kind));
        }
        let list = match self.kind.strip_suffix("List") {
            Some("") if self.api_version == "v1" => Some(Holds::List(None)),
            Some(item) => kind(item).map(|kind| Holds::List(Some(kind))),
            None => None,
        };
        Ok(list.unwrap_or_else(|| Holds::Other(format!("{} {}", self.api_version, self.kind))))
    }

    /// Reads the head off a block mapping (or the only item of a block sequence) without decoding the rest, which is
    /// half the work of reading a file. `None` for whatever is written in another way.
    pub(super) fn glance(text: &str) -> Option<Self> {
        let (mut api_version, mut kind) = (None, None);
        let mut column = None;
        for line in text.lines() {
            let content = line.trim_start_matches([' ', '-']);
            if content.trim_end().is_empty() || content.starts_with('#') {
                continue;
            }
            let indent = line.len() - content.len();
            if column.is_none() && !content.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return None;
            }
            if indent != *column.get_or_insert(indent) {
                continue;
            }
            if let Some(value) = content.strip_prefix("apiVersion:") {
                api_version = Some(plain(value)?);
            } else if let Some(value) = content.strip_prefix("kind:") {
                kind = Some(plain(value)?);
            }
            if let (Some(api_version), Some(kind)) = (api_version, kind) {
                return Some(Self { api_version: api_version.to_owned(), kind: kind.to_owned() });
            }
        }
        None
    }
}

fn kind_of(api_version: &str, kind: &str) -> Option<Kind> {
    match (api_version, kind) {
        ("v1", "Service") => Some(Kind::Service),
        ("v1", "Node") => Some(Kind::Node),
        ("v1", "Pod") => Some(Kind::Pod),
        ("v1", "Namespace") => Some(Kind::Namespace),
        ("networking.k8s.io/v1", "NetworkPolicy") => Some(Kind::NetworkPolicy),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(Kind::EndpointSlice),
        ("networking.k8s.io/v1" | "networking.k8s.io/v1beta1", "ServiceCIDR") => Some(Kind::ServiceCidr),
        _ => None,
    }
}

/// A scalar that means itself, quoted or not, with a comment or without.
fn plain(value: &str) -> Option<&str> {
    let value = value.strip_prefix([' ', '\t'])?;
    let value = value.split_once(" #").map_or(value, |(value, _)| value).trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-');
    (value.starts_with(|c: char| c.is_ascii_alphabetic()) && value.chars().all(harmless)).then_some(value)
}

#[cfg(test)]
mod tests {
    use endpoint_cache::Update;

    use super::*;

    fn head(api_version: &str, kind: &str) -> Head {
        Head { api_version: api_version.to_owned(), kind: kind.to_owned() }
    }

    #[test]
    fn the_group_tells_kinds_of_the_same_name_apart() {
        let holds = |api_version, kind| head(api_version, kind).holds::<Update>().unwrap();
        let other =
            |api_version, kind| holds(api_version, kind) == Holds::Other(format!("{api_version} {kind}"));
        assert_eq!(holds("v1", "Service"), Holds::Object(Kind::Service));
        assert!(other("serving.knative.dev/v1", "Service"));
        assert_eq!(holds("v1", "List"), Holds::List(None));
        assert_eq!(holds("v1", "ServiceList"), Holds::List(Some(Kind::Service)));
        assert_eq!(holds("discovery.k8s.io/v1", "EndpointSliceList"), Holds::List(Some(Kind::EndpointSlice)));
        assert!(other("v1", "PodList"));
        assert!(other("v1", "Pod"));
        assert!(head("", "Pod").holds::<Update>().is_err());
    }

    #[test]
    fn policies_are_made_of_other_kinds() {
        let holds = |api_version, kind| head(api_version, kind).holds::<policy::Update>().unwrap();
        assert_eq!(holds("v1", "Pod"), Holds::Object(Kind::Pod));
        assert_eq!(holds("v1", "NamespaceList"), Holds::List(Some(Kind::Namespace)));
        assert_eq!(holds("networking.k8s.io/v1", "NetworkPolicy"), Holds::Object(Kind::NetworkPolicy));
        for (api_version, kind) in [
            ("v1", "Service"),
            ("extensions/v1beta1", "NetworkPolicy"),
            ("crd.projectcalico.org/v1", "NetworkPolicy"),
            ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
        ] {
            assert_eq!(holds(api_version, kind), Holds::Other(format!("{api_version} {kind}")));
        }
    }

    #[test]
    fn a_glance_reads_block_mappings_in_any_order() {
        for text in [
            "apiVersion: v1\nkind: Service\n",
            "# note\nmetadata:\n  kind: Pod\n  name: x\nkind: \"Service\"  # quoted\napiVersion: 'v1'\n",
            "- apiVersion: v1\n  metadata:\n    kind: Pod\n  kind: Service\n",
            "  -\n    kind: Service\r\n    apiVersion: v1\r\n",
            "-   kind: Service\n    ports:\n    - port: 1\n    apiVersion: v1",
        ] {
            assert_eq!(Head::glance(text), Some(head("v1", "Service")), "{text}");
        }
    }

    #[test]
    fn a_glance_does_not_guess() {
        for text in [
            "{\nkind: Service,\napiVersion: v1}",
            "kind: &kind Service\napiVersion: v1",
            "kind:\n  Service\napiVersion: v1",
            "kind: Service\nspec:\n  apiVersion: v1",
            "",
        ] {
            assert_eq!(Head::glance(text), None, "{text}");
        }
    }
}
