//! In which fields configurations differ. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::schema::KubeProxyConfiguration;

/// The fields that one says otherwise than the other, such as `conntrack.min`.
pub(crate) fn changed_fields(before: &KubeProxyConfiguration, after: &KubeProxyConfiguration) -> Vec<String> {
    differences(before, after).into_keys().collect()
}

/// The fields in which two configurations differ, such as `conntrack.min`, with the values.
pub(super) fn differences(
    before: &KubeProxyConfiguration,
    after: &KubeProxyConfiguration,
) -> BTreeMap<String, (Value, Value)> {
    fn compare(path: &str, before: Value, after: Value, found: &mut BTreeMap<String, (Value, Value)>) {
        match (before, after) {
            (Value::Object(before), Value::Object(mut after)) if path != "featureGates" => {
                for (name, value) in before {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    compare(&path, value, after.remove(&name).unwrap_or_default(), found);
                }
            }
            (before, after) if before != after => {
                found.insert(path.to_owned(), (before, after));
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    let tree = |configuration| serde_json::to_value(configuration).unwrap_or_default();
    compare("", tree(before), tree(after), &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_field() {
        let (before, mut after) = (KubeProxyConfiguration::default(), KubeProxyConfiguration::default());
        after.conntrack.min = 7;
        after.feature_gates.insert("A".to_owned(), true);
        assert_eq!(changed_fields(&before, &after), ["conntrack.min", "featureGates"]);
    }
}
