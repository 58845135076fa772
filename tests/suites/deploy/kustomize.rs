//! kustomize, as far as the folders in `deploy/` use it. Whatever it does not know it refuses.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// Kinds of objects that are in no namespace.
const CLUSTER_WIDE: [&str; 2] = ["ClusterRole", "ClusterRoleBinding"];

/// A `kustomization.yaml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    components: Vec<String>,
    #[serde(default)]
    images: Vec<Image>,
    #[serde(default)]
    patches: Vec<Patch>,
}

/// Another image in place of the one of this name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
}

/// A strategic merge patch in a file, or a JSON patch (RFC 6902) of a target.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Patch {
    Merge(MergePatch),
    Json(JsonPatch),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MergePatch {
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPatch {
    target: Target,
    patch: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

/// The objects of a folder, as `kubectl kustomize` would print them.
pub(crate) fn build(folder: &Path) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    add(folder, &mut objects).with_context(|| format!("in {}", folder.display()))?;
    Ok(objects)
}

/// In kustomize's order: resources, components, patches, namespace, images.
fn add(folder: &Path, objects: &mut Vec<Value>) -> Result<()> {
    let text = fs::read_to_string(folder.join("kustomization.yaml"))?;
    let kustomization: Kustomization = serde_saphyr::from_str(&text)?;
    let expected = match kustomization.kind.as_str() {
        "Kustomization" => "kustomize.config.k8s.io/v1beta1",
        "Component" => "kustomize.config.k8s.io/v1alpha1",
        kind => bail!("{kind} is no kind of kustomization"),
    };
    ensure!(kustomization.api_version == expected, "{}", kustomization.api_version);
    for resource in &kustomization.resources {
        let path = folder.join(resource);
        if path.is_dir() {
            objects.extend(build(&path)?);
        } else {
            objects.extend(read(&path)?);
        }
    }
    for component in &kustomization.components {
        add(&folder.join(component), objects).with_context(|| component.clone())?;
    }
    for patch in &kustomization.patches {
        apply(folder, patch, objects)?;
    }
    if let Some(namespace) = &kustomization.namespace {
        for object in objects.iter_mut().filter(|object| !CLUSTER_WIDE.contains(&kind(object))) {
            object["metadata"]["namespace"] = json!(namespace);
        }
    }
    for image in &kustomization.images {
        let replaced = objects.iter_mut().map(|object| replace(image, object)).sum::<usize>();
        ensure!(replaced > 0, "no container has the image {}", image.name);
    }
    Ok(())
}

/// The objects of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_multiple(&text).with_context(|| format!("cannot parse {}", path.display()))
}

fn apply(folder: &Path, patch: &Patch, objects: &mut [Value]) -> Result<()> {
    match patch {
        Patch::Merge(MergePatch { path }) => {
            for patch in read(&folder.join(path))? {
                // Strategic merge patches have rules of their own for lists; for maps it is RFC 7396.
                ensure!(!has_lists(&patch), "{path} patches a list: use a JSON patch");
                let object = find(objects, kind(&patch), name(&patch))?;
                json_patch::merge(object, &patch);
            }
        }
        Patch::Json(JsonPatch { target, patch }) => {
            let operations: Value = serde_saphyr::from_str(patch)?;
            let operations: json_patch::Patch = serde_json::from_value(operations)?;
            json_patch::patch(find(objects, &target.kind, &target.name)?, &operations)?;
        }
    }
    Ok(())
}

fn find<'a>(objects: &'a mut [Value], of: &str, called: &str) -> Result<&'a mut Value> {
    let found = objects.iter_mut().find(|object| kind(object) == of && name(object) == called);
    found.with_context(|| format!("there is no {of} {called} to patch"))
}

pub(crate) fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn has_lists(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(fields) => fields.values().any(has_lists),
        _ => false,
    }
}

/// Says in how many containers.
fn replace(image: &Image, object: &mut Value) -> usize {
    let mut replaced = 0;
    for list in ["containers", "initContainers"] {
        let containers = object.pointer_mut(&format!("/spec/template/spec/{list}"));
        for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
            if container["image"] == json!(image.name) {
                let name = image.new_name.as_ref().unwrap_or(&image.name);
                let tag = image.new_tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
                container["image"] = json!(format!("{name}{tag}"));
                replaced += 1;
            }
        }
    }
    replaced
}

/// The test of the evaluator: it would rather fail than overlook something.
pub(crate) fn what_is_not_known_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    let patched = "resources: [account.yaml]\npatches: [{path: patch.yaml}]\n";
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: one}}\n";
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text);
    write("account.yaml", account)?;
    write("patch.yaml", &account.replace("}}", ", labels: {a: b}}}"))?;
    write("kustomization.yaml", &format!("{head}{patched}"))?;
    ensure!(build(folder.path())?[0]["metadata"]["labels"] == json!({ "a": "b" }), "it is not patched");
    for (patch, rest, said) in [
        (account, "configMapGenerator: []\n", "configMapGenerator"),
        (account, "images: [{name: other, newTag: a}]\n", "other"),
        (&account.replace("one", "two"), "", "two"),
        (&account.replace("}}", "}, secrets: [{name: a}]}"), "", "list"),
    ] {
        write("patch.yaml", patch)?;
        write("kustomization.yaml", &format!("{head}{patched}{rest}"))?;
        let error = build(folder.path()).err().with_context(|| format!("{said} passes"))?;
        ensure!(format!("{error:#}").contains(said), "{error:#}");
    }
    Ok(())
}
