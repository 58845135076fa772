//! Changing an object in place: PATCH, as JSON merge patches have it (RFC 7386).

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};

use super::kind;
use super::object::Key;
use super::status::Status;
use super::store::Store;

/// The kind of patch that is taken.
const MERGE: &[u8] = b"application/merge-patch+json";
/// Bytes of the largest patch that is read.
const LARGEST: usize = 1 << 20;

/// Reads a patch.
pub(crate) async fn read(headers: &HeaderMap, body: Incoming) -> Result<Value, Status> {
    if headers.get(CONTENT_TYPE).is_none_or(|given| given.as_bytes() != MERGE) {
        return Err(Status::unprocessable("only merge patches are taken"));
    }
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map_err(|error| Status::bad_request(error.to_string()))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| Status::bad_request(error.to_string()))
}

/// Changes an object, and returns it as it is then.
pub(crate) fn apply(store: &mut Store, kind: usize, key: &Key, patch: Value) -> Result<Vec<u8>, Status> {
    let not_found = || Status::not_found(&kind::ALL[kind], &key.name);
    let object = store.get(kind, key).ok_or_else(not_found)?;
    let mut object: Value =
        serde_json::from_slice(&object.encoded()).map_err(|error| Status::bad_request(error.to_string()))?;
    merge(&mut object, patch);
    store.put(object).map_err(|error| Status::unprocessable(error.to_string()))?;
    Ok(store.get(kind, key).ok_or_else(not_found)?.encoded().to_vec())
}

/// What a patch has replaces what is there, member by member; null removes it.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}
