//! Label selectors in a canonical form, so that those which select the same are seldom kept twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::object::LabelSelector;

/// Labels of a pod or namespace.
pub type Labels = BTreeMap<String, String>;

/// Which labels an object must have: all of the requirements. None select everything.
///
/// Displays as kubectl writes selectors: `app=web,tier in (a,b),!old`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Selector(Arc<[Requirement]>);

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Requirement {
    /// The label has one of these values.
    In(Box<str>, BTreeSet<Box<str>>),
    /// The label has another value, or is missing.
    NotIn(Box<str>, BTreeSet<Box<str>>),
    /// The label is there.
    Exists(Box<str>),
    /// The label is not there.
    DoesNotExist(Box<str>),
}

/// What cannot be used of a selector: the path within it, and why.
pub(crate) type Fault = (String, String);

impl Selector {
    /// Makes sense of a selector. What makes none is left out, which selects more, and told.
    pub(crate) fn read(from: &LabelSelector) -> (Self, Vec<Fault>) {
        let mut faults = Vec::new();
        let equal = |(key, value): (&String, &String)| {
            Requirement::In(key.as_str().into(), BTreeSet::from([value.as_str().into()]))
        };
        let (named, unnamed): (Vec<_>, Vec<_>) =
            from.match_labels.iter().partition(|(key, _)| is_label_key(key));
        faults.extend(unnamed.into_iter().map(|(key, _)| ("matchLabels".to_owned(), no_key(key))));
        let mut requirements: Vec<Requirement> = named.into_iter().map(equal).collect();
        for (at, item) in from.match_expressions.iter().enumerate() {
            let key: Box<str> = item.key.as_str().into();
            let values: BTreeSet<Box<str>> = item.values.iter().map(|value| value.as_str().into()).collect();
            let path = |field: &str| format!("matchExpressions[{at}].{field}");
            if !is_label_key(&key) {
                faults.push((path("key"), no_key(&key)));
                continue;
            }
            match (item.operator.as_str(), values.is_empty()) {
                ("In", false) => requirements.push(Requirement::In(key, values)),
                ("NotIn", false) => requirements.push(Requirement::NotIn(key, values)),
                ("Exists", true) => requirements.push(Requirement::Exists(key)),
                ("DoesNotExist", true) => requirements.push(Requirement::DoesNotExist(key)),
                ("In" | "NotIn", true) => faults.push((path("values"), "must name at least one".to_owned())),
                ("Exists" | "DoesNotExist", false) => {
                    faults.push((path("values"), format!("must be empty for operator {}", item.operator)));
                }
                (other, _) => faults.push((
                    path("operator"),
                    format!("{other:?} is none of In, NotIn, Exists and DoesNotExist"),
                )),
            }
        }
        requirements.sort_unstable();
        requirements.dedup();
        (Self(requirements.into()), faults)
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// A label that whatever is selected must have with one of these values, if there is such a label.
    pub(crate) fn telling(&self) -> Option<(&str, impl Iterator<Item = &str>)> {
        let fewest = self.0.iter().filter_map(Requirement::one_of).min_by_key(|(_, values)| values.len())?;
        Some((fewest.0, fewest.1.iter().map(|value| &**value)))
    }
}

impl Requirement {
    /// The label and its values, if it must have one of them.
    fn one_of(&self) -> Option<(&str, &BTreeSet<Box<str>>)> {
        match self {
            Self::In(key, values) => Some((key, values)),
            _ => None,
        }
    }

    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(&**key).is_some_and(|value| values.contains(value.as_str())),
            Self::NotIn(key, values) => {
                !labels.get(&**key).is_some_and(|value| values.contains(value.as_str()))
            }
            Self::Exists(key) => labels.contains_key(&**key),
            Self::DoesNotExist(key) => !labels.contains_key(&**key),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<Box<str>>| values.iter().map(|v| &**v).collect::<Vec<_>>().join(",");
        match self {
            Self::In(key, values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Self::In(key, values) => write!(f, "{key} in ({})", list(values)),
            Self::NotIn(key, values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Self::NotIn(key, values) => write!(f, "{key} notin ({})", list(values)),
            Self::Exists(key) => f.write_str(key),
            Self::DoesNotExist(key) => write!(f, "!{key}"),
        }
    }
}

fn no_key(key: &str) -> String {
    format!(
        "{key:?} is no key of a label: [PREFIX/]NAME, the name up to 63 letters, digits, '-', '_' and '.'"
    )
}

/// Whether objects can have such a label: a name, perhaps after a DNS subdomain.
fn is_label_key(key: &str) -> bool {
    let (subdomain, name) =
        key.split_once('/').map_or((None, key), |(subdomain, name)| (Some(subdomain), name));
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric();
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 63
        && is_word(name, is_letter, b"-_.")
        && subdomain.is_none_or(|subdomain| {
            subdomain.len() <= 253 && subdomain.split('.').all(|part| is_word(part, is_lower, b"-"))
        })
}

/// Whether a word begins and ends with a letter, and has only letters and some marks between.
fn is_word(word: &str, is_letter: fn(u8) -> bool, marks: &[u8]) -> bool {
    let bytes = word.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.into_iter().all(|end| end.is_some_and(|byte| is_letter(*byte)))
        && bytes.iter().all(|byte| is_letter(*byte) || marks.contains(byte))
}

/// Which pods: of these namespaces, with these labels. Displays as `namespace: selector`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodSelector {
    /// The namespaces.
    pub namespaces: Namespaces,
    /// The pods of those.
    pub pods: Selector,
}

/// Which namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Namespaces {
    /// All, known or not.
    All,
    /// This one.
    Named(Arc<str>),
    /// Those with such labels. One that is not known (yet) has no labels, and is not among them, whatever is asked for.
    Matching(Selector),
}

impl PodSelector {
    /// Every pod there is.
    #[must_use]
    pub fn everything() -> Self {
        Self { namespaces: Namespaces::All, pods: Selector::default() }
    }

    /// Whether a pod is selected, by its labels, its namespace's name, and that one's labels, if known.
    #[must_use]
    pub fn matches(&self, pod: &Labels, namespace: &str, namespace_labels: Option<&Labels>) -> bool {
        self.namespaces.include(namespace, namespace_labels) && self.pods.matches(pod)
    }
}

impl Namespaces {
    /// Whether a namespace is among them.
    #[must_use]
    pub fn include(&self, name: &str, labels: Option<&Labels>) -> bool {
        match self {
            Self::All => true,
            Self::Named(named) => **named == *name,
            Self::Matching(selector) => labels.is_some_and(|labels| selector.matches(labels)),
        }
    }
}

impl fmt::Display for PodSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            |selector: &Selector| if selector.0.is_empty() { "*".to_owned() } else { selector.to_string() };
        match &self.namespaces {
            Namespaces::All => write!(f, "*: {}", whole(&self.pods)),
            Namespaces::Named(name) => write!(f, "{name}: {}", whole(&self.pods)),
            Namespaces::Matching(selector) => write!(f, "[{}]: {}", whole(selector), whole(&self.pods)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(from: Value) -> (Selector, Vec<Fault>) {
        Selector::read(&serde_json::from_value(from).unwrap())
    }

    fn sound(from: Value) -> Selector {
        let (selector, faults) = read(from);
        assert_eq!(faults, []);
        selector
    }

    fn labels(from: Value) -> Labels {
        serde_json::from_value(from).unwrap()
    }

    #[test]
    fn selectors_display_as_kubectl_writes_them() {
        let selector = sound(json!({
            "matchLabels": { "app": "web", "empty": "" },
            "matchExpressions": [
                { "key": "tier", "operator": "In", "values": ["b", "a"] },
                { "key": "app", "operator": "NotIn", "values": ["x"] },
                { "key": "app", "operator": "NotIn", "values": ["z", "y"] },
                { "key": "old", "operator": "DoesNotExist" },
                { "key": "new", "operator": "Exists" },
            ],
        }));
        assert_eq!(selector.to_string(), "app=web,empty=,tier in (a,b),app!=x,app notin (y,z),new,!old");
        let in_namespaces = |namespaces, pods| PodSelector { namespaces, pods }.to_string();
        assert_eq!(in_namespaces(Namespaces::Named("red".into()), Selector::default()), "red: *");
        let web = sound(json!({ "matchLabels": { "app": "web" } }));
        assert_eq!(in_namespaces(Namespaces::Matching(web.clone()), Selector::default()), "[app=web]: *");
        assert_eq!(in_namespaces(Namespaces::Matching(Selector::default()), web), "[*]: app=web");
        assert_eq!(PodSelector::everything().to_string(), "*: *");
    }

    #[test]
    fn the_same_in_other_words_is_the_same() {
        let one = sound(json!({ "matchLabels": { "a": "1", "b": "2" } }));
        let other = sound(json!({
            "matchLabels": { "b": "2" },
            "matchExpressions": [
                { "key": "b", "operator": "In", "values": ["2", "2"] },
                { "key": "a", "operator": "In", "values": ["1"] },
            ],
        }));
        assert_eq!(one, other);
        assert_ne!(one, sound(json!({ "matchLabels": { "a": "1" } })));
        assert_ne!(
            sound(json!({ "matchExpressions": [{ "key": "a", "operator": "Exists" }] })),
            sound(json!({ "matchExpressions": [{ "key": "a", "operator": "DoesNotExist" }] })),
        );
    }

    #[test]
    fn what_makes_no_sense_selects_rather_more() {
        let (selector, faults) = read(json!({
            "matchLabels": { "a": "1", "no key": "" },
            "matchExpressions": [{ "key": "b", "operator": "In" }, { "key": "c", "operator": "Exists" }],
        }));
        assert_eq!(selector.to_string(), "a=1,c");
        let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["matchLabels", "matchExpressions[0].values"]);
        assert!(selector.matches(&labels(json!({ "a": "1", "c": "" }))));
        assert!(!selector.matches(&labels(json!({ "a": "1" }))));
    }

    #[test]
    fn the_label_that_tells_most() {
        let telling = |from| sound(from).telling().map(|(key, values)| format!("{key} {}", values.count()));
        assert_eq!(telling(json!({})), None);
        let exists = json!({ "key": "a", "operator": "Exists" });
        let many = json!({ "key": "b", "operator": "In", "values": ["1", "2"] });
        assert_eq!(telling(json!({ "matchExpressions": [exists] })), None);
        assert_eq!(telling(json!({ "matchExpressions": [exists, many] })), Some("b 2".to_owned()));
        let one = json!({ "matchLabels": { "c": "1" }, "matchExpressions": [exists, many] });
        assert_eq!(telling(one), Some("c 1".to_owned()));
    }

    #[test]
    fn keys_of_labels() {
        let longest = "a".repeat(63);
        for key in ["a", "A.b_c-9", "example.com/a", "a-b.c/D", &longest, &format!("a.b/{longest}")] {
            assert!(is_label_key(key), "{key}");
        }
        let too_long = "a".repeat(64);
        for key in ["", "-a", "a.", "a b", "a/", "/a", "a/b/c", "A.com/a", "a..b/c", "a_b/c", "ä", &too_long]
        {
            assert!(!is_label_key(key), "{key}");
        }
        assert!(!is_label_key(&format!("{}/a", "a.".repeat(127) + "a")));
    }
}
