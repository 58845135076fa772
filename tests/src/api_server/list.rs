//! Lists, whole and in pages.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::body::ListBody;
use super::kind;
use super::object::{Key, Object};
use super::query::Query;
use super::status::Status;
use super::store::Store;

/// Answers a list request.
pub(crate) fn list(store: &Store, kind: usize, query: &Query) -> Result<ListBody, Status> {
    let current = store.version();
    if let Some(version) = query.version.filter(|version| *version > current) {
        return Err(Status::too_large(version, current));
    }
    let page = match &query.continue_token {
        Some(_) if query.version.is_some_and(|version| version != 0) => {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(message));
        }
        Some(token) => Some(decode_token(token)?),
        None => None,
    };
    let exact = query.version.filter(|_| query.version_match.as_deref() == Some("Exact"));
    let version = page.as_ref().map_or(exact.unwrap_or(current), |page| page.0);
    let gone = || match page {
        Some(_) => Status::expired_continue(),
        None => Status::too_old(version, store.oldest(kind)),
    };
    let after = page.as_ref().map(|page| &page.1);
    let objects = store.at(kind, version, after, &query.filter).ok_or_else(gone)?;
    // Lists at version 0 come out of the real server's cache, which knows no pages.
    let limit = if query.limit == 0 || query.version == Some(0) { usize::MAX } else { query.limit };
    let shown: Vec<Arc<Object>> = objects.iter().copied().take(limit).cloned().collect();
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if let Some(last) = shown.last()
        && objects.len() > shown.len()
    {
        metadata["continue"] = encode_token(version, &last.key).into();
        // With selectors, the real server does not know how many there are.
        if !query.filter.selects() {
            metadata["remainingItemCount"] = (objects.len() - shown.len()).into();
        }
    }
    let kind = &kind::ALL[kind];
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        kind.name, kind.api_version
    );
    Ok(ListBody::new(Bytes::from(head), shown))
}

fn encode_token(version: u64, last: &Key) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json!([version, *last.namespace, *last.name]).to_string())
}

fn decode_token(token: &str) -> Result<(u64, Key), Status> {
    let decode = || {
        let decoded: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let word = |place: usize| decoded.get(place)?.as_str();
        Some((decoded.get(0)?.as_u64()?, Key { namespace: word(1)?.into(), name: word(2)?.into() }))
    };
    decode().ok_or_else(|| Status::bad_request("continue key is not valid"))
}
