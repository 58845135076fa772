//! Rules in a form in which those that mean the same are the same: without handles and counters, and without the order in
//! which endpoints and rules of services came to be. Pure.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// Rules that `nft --json list ruleset` shows.
pub(crate) fn nftables(listing: &str) -> Result<String> {
    let mut listing: Value = serde_json::from_str(listing).context("nft prints no JSON")?;
    let items = listing["nftables"].as_array_mut().context("nft prints no ruleset")?;
    let mut lines = Vec::new();
    for item in items {
        forget_the_incidental(item);
        let is_of_slots = item["map"]["name"].as_str().is_some_and(|name| name.ends_with("endpoints"));
        for kind in ["map", "set"] {
            let name = item[kind]["name"].clone();
            let Some(elements) = item[kind]["elem"].as_array_mut() else { continue };
            let elements = std::mem::take(elements);
            lines.extend(elements.into_iter().map(|mut element| {
                if is_of_slots {
                    forget_slot(&mut element);
                }
                format!("{kind} {name}: {element}")
            }));
        }
        lines.push(item.to_string());
    }
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// Takes out what differs from one time to the next and means nothing.
fn forget_the_incidental(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["handle", "index", "packets", "bytes", "metainfo"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(forget_the_incidental);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_the_incidental),
        _ => {}
    }
}

/// An endpoint is as good in one slot of its service as in another: the last part of the key is the slot.
fn forget_slot(element: &mut Value) {
    let key = element.get_mut(0).and_then(|key| key.get_mut("concat")).and_then(Value::as_array_mut);
    if let Some(key) = key {
        key.pop();
    }
}

/// Rules a line each, with what `iptables` says of chances taken out: they follow from the order of endpoints.
pub(crate) fn lines(listing: &str) -> String {
    let mut lines = BTreeMap::<String, usize>::new();
    for line in listing.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let line = match line.split_once(" -m statistic ") {
            Some((before, chance)) => {
                let after = chance.split_once("--probability ").map_or(chance, |(_, after)| after);
                format!("{before} {}", after.split_once(' ').unwrap_or_default().1)
            }
            None => line.to_owned(),
        };
        *lines.entry(line).or_default() += 1;
    }
    lines.into_iter().map(|(line, times)| format!("{times} x {line}\n")).collect()
}

/// The first lines in which two of them differ, for people.
pub(crate) fn difference(there: &str, fresh: &str) -> String {
    let only = |one: &str, other: &str, sign: char| -> Vec<String> {
        let other: std::collections::BTreeSet<_> = other.lines().collect();
        let lines = one.lines().filter(|line| !other.contains(line));
        lines.take(10).map(|line| format!("{sign} {line}")).collect()
    };
    [only(there, fresh, '-'), only(fresh, there, '+')].concat().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(elements: &str) -> String {
        format!(r#"{{"nftables": [{{"map": {{"name": "endpoints", "handle": 7, "elem": [{elements}]}}}}]}}"#)
    }

    fn element(port: u16, slot: u8, pod: u8) -> String {
        format!(r#"[{{"concat": ["10.0.0.1", {port}, {slot}]}}, {{"concat": ["10.1.0.{pod}", 8080]}}]"#)
    }

    #[test]
    fn slots_mean_nothing_and_endpoints_do() {
        let canonical = |elements: &[String]| nftables(&endpoints(&elements.join(","))).unwrap();
        let one = canonical(&[element(80, 0, 1), element(80, 1, 2)]);
        assert_eq!(one, canonical(&[element(80, 0, 2), element(80, 1, 1)]));
        assert_ne!(one, canonical(&[element(80, 0, 2), element(80, 1, 2)]));
        assert_ne!(one, canonical(&[element(80, 0, 1)]));
        assert_ne!(one, canonical(&[element(81, 0, 1), element(80, 1, 2)]));
    }

    #[test]
    fn chances_mean_nothing_and_targets_do() {
        let rule = |chance: &str, to: &str| {
            format!("-A KUBE-SVC-A -m statistic --mode random --probability {chance} -j {to}\n")
        };
        let (one, other) =
            (rule("0.5", "X") + "-A KUBE-SVC-A -j Y", rule("0.25", "Y") + "-A KUBE-SVC-A -j X");
        assert_eq!(lines(&one).replace("  ", " "), lines(&other).replace("  ", " "));
        assert_ne!(lines(&rule("0.5", "X")), lines(&rule("0.5", "Z")));
        assert!(difference(&lines(&one), &lines("-A KUBE-SVC-A -j Y")).contains("- 1 x"));
    }
}
