//! The Kubernetes OpenAPI schema of 1.36, for the kinds that `deploy/` has.
//!
//! `kubernetes-1.36.json` is the part of it that these kinds lead to, without descriptions, as JSON Schema in which
//! objects have no other fields than those that are listed. Made from the folder `v1.36.0-local-strict` of the Python
//! package kubernetes-validate, version 1.37.0, which is made from the API server's `swagger.json`: from
//! `_definitions.json`, the kinds' definitions and what they refer to.

use anyhow::{Context, Result, ensure};
use jsonschema::Validator;
use serde_json::{Value, json};

const DEFINITIONS: &str = include_str!("kubernetes-1.36.json");

/// Knows which fields objects have.
pub(crate) struct Schema {
    definitions: Value,
}

impl Schema {
    pub(crate) fn read() -> Result<Self> {
        let mut all: Value = serde_json::from_str(DEFINITIONS)?;
        Ok(Self { definitions: all["$defs"].take() })
    }

    /// Finds what is wrong with an object.
    pub(crate) fn check(&self, object: &Value) -> Result<()> {
        let validator = self.validator(object)?;
        let faults: Vec<String> = validator
            .iter_errors(object)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        ensure!(faults.is_empty(), "{} {}: {faults:#?}", object["kind"], object["metadata"]["name"]);
        Ok(())
    }

    fn validator(&self, object: &Value) -> Result<Validator> {
        let is = |definition: &Value, field: &str| {
            let allowed = &definition["properties"][field]["enum"];
            allowed.as_array().is_some_and(|allowed| allowed.contains(&object[field]))
        };
        let all = self.definitions.as_object().context("the definitions are no object")?;
        let found = all.iter().find(|(_, definition)| is(definition, "apiVersion") && is(definition, "kind"));
        let (name, _) =
            found.with_context(|| format!("unknown: {} {}", object["apiVersion"], object["kind"]))?;
        let schema = json!({ "$ref": format!("#/$defs/{name}"), "$defs": self.definitions });
        Ok(jsonschema::validator_for(&schema)?)
    }
}
