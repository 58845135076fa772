//! Label and field selectors.

use super::object::Object;
use super::status::Status;

/// Which objects of a kind a request is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Vec<LabelTerm>,
    pub(crate) fields: Vec<FieldTerm>,
}

impl Filter {
    /// Whether an object is meant.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| **namespace == *object.key.namespace)
            && self.labels.iter().all(|term| term.matches(object))
            && self.fields.iter().all(|term| (object.field(&term.path) == term.value) == term.equal)
    }

    /// Whether it selects by labels or fields.
    pub(crate) fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LabelTerm {
    Exists(String),
    Missing(String),
    /// Has one of these values.
    In(String, Vec<String>),
    /// Has none of these values; perhaps not even the label.
    NotIn(String, Vec<String>),
}

impl LabelTerm {
    fn matches(&self, object: &Object) -> bool {
        let among = |values: &[String], value: &str| values.iter().any(|candidate| candidate == value);
        match self {
            Self::Exists(key) => object.label(key).is_some(),
            Self::Missing(key) => object.label(key).is_none(),
            Self::In(key, values) => object.label(key).is_some_and(|value| among(values, value)),
            Self::NotIn(key, values) => !object.label(key).is_some_and(|value| among(values, value)),
        }
    }
}

/// One requirement of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldTerm {
    path: String,
    value: String,
    equal: bool,
}

/// Reads a label selector.
pub(crate) fn labels(text: &str) -> Result<Vec<LabelTerm>, Status> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split(text, true)
        .into_iter()
        .map(|term| {
            label_term(term.trim())
                .ok_or_else(|| Status::bad_request(format!("unable to parse requirement: {term:?}")))
        })
        .collect()
}

fn label_term(term: &str) -> Option<LabelTerm> {
    if let Some(key) = term.strip_prefix('!') {
        return Some(LabelTerm::Missing(label_key(key)?));
    }
    if let Some((head, values)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
        let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
        let values = values.split(',').map(label_value).collect::<Option<Vec<_>>>()?;
        return match word {
            "in" => Some(LabelTerm::In(label_key(key)?, values)),
            "notin" => Some(LabelTerm::NotIn(label_key(key)?, values)),
            _ => None,
        };
    }
    match comparison(term) {
        Some((key, value, true)) => Some(LabelTerm::In(label_key(key)?, vec![label_value(value)?])),
        Some((key, value, false)) => Some(LabelTerm::NotIn(label_key(key)?, vec![label_value(value)?])),
        None => Some(LabelTerm::Exists(label_key(term)?)),
    }
}

/// Reads a field selector.
pub(crate) fn fields(text: &str) -> Result<Vec<FieldTerm>, Status> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let term = |term: &str| {
        let unclear =
            || Status::bad_request(format!("invalid selector: {text:?}; can't understand {term:?}"));
        let (path, value, equal) = comparison(term).ok_or_else(unclear)?;
        let path = path.trim();
        let fine = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_/".contains(c))
        };
        if !path.split('.').all(fine) {
            return Err(unclear());
        }
        let value = unescaped(value).ok_or_else(unclear)?;
        Ok(FieldTerm { path: path.to_owned(), value, equal })
    };
    split(text, false).into_iter().map(term).collect()
}

/// Left side, right side, and whether they are to be equal.
fn comparison(term: &str) -> Option<(&str, &str, bool)> {
    let equals = term.find('=')?;
    if let Some(key) = term[..equals].strip_suffix('!') {
        return Some((key, &term[equals + 1..], false));
    }
    let value = &term[equals + 1..];
    Some((&term[..equals], value.strip_prefix('=').unwrap_or(value), true))
}

/// Splits at commas, except escaped ones and, if asked for, those in parentheses.
fn split(text: &str, parentheses: bool) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut escaped) = (Vec::new(), 0, 0, false);
    for (place, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if !parentheses => escaped = true,
            '(' if parentheses => depth += 1,
            ')' if parentheses => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescaped(value: &str) -> Option<String> {
    let (mut text, mut characters) = (String::new(), value.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|c| "\\,=".contains(*c))?),
            '=' => return None,
            other => text.push(other),
        }
    }
    Some(text)
}

/// A name, with a domain before it or not.
fn label_key(text: &str) -> Option<String> {
    let text = text.trim();
    let (domain, name) = text.split_once('/').unwrap_or(("domain", text));
    let domain_fine = domain.len() <= 253 && domain.split('.').all(|word| is_word(word, "-"));
    (domain_fine && is_word(name, "-_.") && name.len() <= 63).then(|| text.to_owned())
}

fn label_value(text: &str) -> Option<String> {
    let text = text.trim();
    (text.is_empty() || (text.len() <= 63 && is_word(text, "-_."))).then(|| text.to_owned())
}

fn is_word(text: &str, also: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || also.contains(c))
}
