//! Errors, as the server says them.

use serde_json::{Value, json};

use super::kind::Kind;

/// A `Status` object that tells of a failure.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Value,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// A request that cannot be understood.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// No token, or a wrong one.
    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// Something that the account may not do.
    pub(crate) fn forbidden(plural: &str, verb: &str) -> Self {
        Self::new(403, "Forbidden", format!("{plural} is forbidden: the account cannot {verb} it"))
    }

    /// There is no such object.
    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        let mut status = Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.plural));
        status.details = json!({ "name": name, "kind": kind.plural });
        status
    }

    /// Something else than reading.
    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    /// A page of a list that is no longer remembered.
    pub(crate) fn expired_continue() -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start \
                       a new list without the continue parameter.";
        Self::new(410, "Expired", message)
    }

    /// A version that is no longer remembered.
    pub(crate) fn too_old(version: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {version} ({oldest})"))
    }

    /// Options that exclude each other, or that this server does not know.
    pub(crate) fn invalid(field: &str, problem: &str) -> Self {
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {problem}");
        let mut status = Self::new(422, "Invalid", message);
        let cause = json!({
            "reason": "FieldValueForbidden", "message": format!("Forbidden: {problem}"), "field": field,
        });
        status.details = json!({ "group": "meta.k8s.io", "kind": "ListOptions", "causes": [cause] });
        status
    }

    /// An object that is not as it must be.
    pub(crate) fn unprocessable(problem: impl Into<String>) -> Self {
        Self::new(422, "Invalid", problem)
    }

    /// A failure of the server itself.
    pub(crate) fn internal() -> Self {
        let message = "Internal error occurred: etcdserver: no leader";
        let mut status = Self::new(500, "InternalError", message);
        status.details = json!({ "causes": [{ "message": "etcdserver: no leader" }] });
        status
    }

    /// A version that this server has not reached.
    pub(crate) fn too_large(version: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {version}, current: {current}");
        let mut status = Self::new(504, "Timeout", message);
        let cause = json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
        status.details = json!({ "causes": [cause], "retryAfterSeconds": 1 });
        status
    }

    /// As it is sent.
    pub(crate) fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
