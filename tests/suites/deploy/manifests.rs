//! The manifests: every field exists, and what they say agrees with each other and with what Pointsman does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::Mode;
use testbed::mode::{IPTABLES_LEGACY, IPTABLES_NFT, IPVS, NFTABLES, USERSPACE};

use crate::kustomize::{self, build, kind, name};
use crate::schema::Schema;

/// Each overlay, and the modes that it is for.
pub(crate) const OVERLAYS: [(&str, &[Mode]); 4] = [
    ("nftables", &[NFTABLES]),
    ("iptables", &[IPTABLES_NFT, IPTABLES_LEGACY]),
    ("ipvs", &[IPVS]),
    ("userspace", &[USERSPACE]),
];

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The objects of an overlay.
pub(crate) fn overlay(name: &str) -> Result<Vec<Value>> {
    build(&root().join("deploy/overlays").join(name))
}

/// The objects of an overlay with a component of `deploy/`.
pub(crate) fn with_component(name: &str, component: &str) -> Result<Vec<Value>> {
    let deploy = fs::canonicalize(root().join("deploy"))?;
    let folder = tempfile::tempdir()?;
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [deploy.join("overlays").join(name)],
        "components": [deploy.join("components").join(component)],
    });
    fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string())?;
    build(folder.path())
}

/// The one object of a kind and name.
pub(crate) fn one<'a>(objects: &'a [Value], of: &str, called: &str) -> Result<&'a Value> {
    let mut found = objects.iter().filter(|object| kind(object) == of && name(object) == called);
    let one = found.next().with_context(|| format!("no {of} {called}"))?;
    ensure!(found.next().is_none(), "{of} {called} is there twice");
    Ok(one)
}

/// An overlay's DaemonSet.
fn daemon_set(overlay_name: &str) -> Result<Value> {
    Ok(one(&overlay(overlay_name)?, "DaemonSet", "pointsman")?.clone())
}

/// Its one container that goes on.
fn container(daemon_set: &Value) -> Result<&Value> {
    let containers = daemon_set["spec"]["template"]["spec"]["containers"].as_array();
    let [container] = containers.context("no containers")?.as_slice() else {
        anyhow::bail!("there is more than one container");
    };
    Ok(container)
}

pub(crate) fn every_field_is_one_of_kubernetes() -> Result<()> {
    let schema = Schema::read()?;
    for (overlay_name, _) in OVERLAYS {
        for object in overlay(overlay_name)? {
            schema.check(&object).with_context(|| overlay_name)?;
        }
    }
    build(&root().join("deploy/kind"))?.iter().try_for_each(|object| schema.check(object))
}

/// The test of the test.
pub(crate) fn a_misspelt_field_is_found() -> Result<()> {
    let schema = Schema::read()?;
    let right = daemon_set("nftables")?;
    schema.check(&right)?;
    for (path, field, value) in [
        ("/spec/template/spec", "hostNetwrok", json!(true)),
        ("/spec/template/spec/containers/0", "livenessprobe", json!({})),
        ("/spec/template/spec/containers/0", "args", json!("--config")),
        ("/spec/template/spec/containers/0/livenessProbe/httpGet", "prot", json!(10256)),
        ("/spec", "selector", Value::Null),
    ] {
        let mut wrong = right.clone();
        wrong.pointer_mut(path).with_context(|| path)?[field] = value;
        if field == "selector" {
            wrong["spec"].as_object_mut().context("no spec")?.remove(field);
        }
        let error = schema.check(&wrong).err().with_context(|| format!("{path}/{field} passes"))?;
        ensure!(format!("{error:#}").contains(field), "{error:#}");
    }
    let mut unknown = right;
    unknown["apiVersion"] = json!("apps/v2");
    ensure!(schema.check(&unknown).is_err(), "apps/v2 passes");
    Ok(())
}

pub(crate) fn objects_refer_to_each_other() -> Result<()> {
    for (overlay_name, _) in OVERLAYS {
        let objects = overlay(overlay_name)?;
        let daemon_set = one(&objects, "DaemonSet", "pointsman")?;
        let labels = &daemon_set["spec"]["template"]["metadata"]["labels"];
        ensure!(
            daemon_set["spec"]["selector"]["matchLabels"] == *labels,
            "the selector does not fit {labels}"
        );
        let pod = &daemon_set["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().context("no account")?;
        let account = one(&objects, "ServiceAccount", account)?;
        let binding = one(&objects, "ClusterRoleBinding", "pointsman")?;
        let subject = json!([{ "kind": "ServiceAccount", "name": name(account),
            "namespace": account["metadata"]["namespace"] }]);
        ensure!(binding["subjects"] == subject, "{binding}");
        let role = binding["roleRef"]["name"].as_str().context("no role")?;
        one(&objects, "ClusterRole", role)?;
        for volume in pod["volumes"].as_array().into_iter().flatten() {
            if let Some(config_map) = volume["configMap"]["name"].as_str() {
                one(&objects, "ConfigMap", config_map)?;
            }
        }
        check_containers(&objects, pod)?;
    }
    Ok(())
}

/// What containers mount and take their environment from is there.
fn check_containers(objects: &[Value], pod: &Value) -> Result<()> {
    let volumes: BTreeSet<_> =
        pod["volumes"].as_array().into_iter().flatten().map(|volume| volume["name"].to_string()).collect();
    let mut mounted = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        for container in pod[list].as_array().context("no containers")? {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            mounted.extend(mounts.map(|mount| mount["name"].to_string()));
            for from in container["envFrom"].as_array().into_iter().flatten() {
                one(objects, "ConfigMap", from["configMapRef"]["name"].as_str().context("no name")?)?;
            }
        }
    }
    ensure!(volumes == mounted, "volumes are {volumes:?}, and {mounted:?} are mounted");
    Ok(())
}

/// That they are enough, and none in vain, `capabilities` shows.
pub(crate) fn containers_have_the_capabilities_that_modes_need() -> Result<()> {
    for (overlay_name, modes) in OVERLAYS {
        let daemon_set = daemon_set(overlay_name)?;
        let security = &container(&daemon_set)?["securityContext"];
        ensure!(security["capabilities"]["drop"] == json!(["ALL"]), "{overlay_name}: {security}");
        let added: BTreeSet<&str> = security["capabilities"]["add"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let needed: BTreeSet<&str> = modes.iter().flat_map(Mode::capabilities).copied().collect();
        ensure!(added == needed, "{overlay_name} gives {added:?}, and {needed:?} are needed");
        for (field, value) in [("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)] {
            ensure!(security[field] == json!(value), "{overlay_name}: {field} is {}", security[field]);
        }
        ensure!(security.get("privileged").is_none(), "{overlay_name} is privileged");
        let init = &daemon_set["spec"]["template"]["spec"]["initContainers"];
        let only_sets_up = init[0]["args"][0] == json!("--init-only") && init.get(1).is_none();
        ensure!(only_sets_up, "{overlay_name}: an init container does more than --init-only: {init}");
    }
    Ok(())
}

pub(crate) fn probes_ask_where_pointsman_answers() -> Result<()> {
    for (overlay_name, _) in OVERLAYS {
        let daemon_set = daemon_set(overlay_name)?;
        let container = container(&daemon_set)?;
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/healthz")] {
            let asks = &container[probe]["httpGet"];
            ensure!(*asks == json!({ "path": path, "port": 10256 }), "{probe} asks {asks}");
        }
        ensure!(
            daemon_set["spec"]["template"]["spec"]["hostNetwork"] == json!(true),
            "not the node's network"
        );
    }
    Ok(())
}

/// The configuration that an overlay mounts.
pub(crate) fn configuration(overlay_name: &str) -> Result<String> {
    let objects = overlay(overlay_name)?;
    let volumes = &one(&objects, "DaemonSet", "pointsman")?["spec"]["template"]["spec"]["volumes"];
    let called = volumes[0]["configMap"]["name"].as_str().context("the first volume is no ConfigMap")?;
    ensure!(called.ends_with(overlay_name), "{called} changes for other modes too");
    let text = one(&objects, "ConfigMap", called)?["data"]["config.conf"].as_str();
    text.map(str::to_owned).context("no config.conf")
}

pub(crate) fn configurations_ask_for_the_overlay_s_mode() -> Result<()> {
    for (overlay_name, _) in OVERLAYS {
        let read: Value = serde_saphyr::from_str(&configuration(overlay_name)?)?;
        let said = ["apiVersion", "kind", "mode"].map(|field| read[field].as_str().unwrap_or_default());
        let expected = ["kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", overlay_name];
        ensure!(said == expected, "{said:?}");
    }
    Ok(())
}

/// The program takes this command line, and has nothing to say of it.
fn takes(args: &[&str]) -> Result<()> {
    let output = Command::new(testbed::binary()?).args(args).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && said.is_empty(), "pointsman {args:?}: {said}");
    Ok(())
}

/// Configurations pass the strict check, and there is no flag that the program does not know.
pub(crate) fn pointsman_takes_what_it_is_given() -> Result<()> {
    for (overlay_name, _) in OVERLAYS {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), configuration(overlay_name)?)?;
        takes(&["check-config", &file.path().to_string_lossy()])?;
        let pod = &daemon_set(overlay_name)?["spec"]["template"]["spec"];
        for kind in ["initContainers", "containers"] {
            for container in pod[kind].as_array().context("no containers")? {
                let args = container["args"].as_array().context("no arguments")?;
                // It reads all of them first.
                let args: Vec<_> = args.iter().filter_map(Value::as_str).chain(["--version=false"]).collect();
                takes(&[&args[..], &["--write-config-to=/dev/null", "--config="]].concat())?;
            }
        }
    }
    Ok(())
}

pub(crate) fn components_go_with_every_overlay() -> Result<()> {
    let schema = Schema::read()?;
    for (component, flag) in
        [("network-policy", "--network-policy=on"), ("pod-network", "--pod-network=vxlan")]
    {
        for (overlay_name, _) in OVERLAYS {
            let objects = with_component(overlay_name, component)?;
            objects.iter().try_for_each(|object| schema.check(object)).with_context(|| overlay_name)?;
            let daemon_set = one(&objects, "DaemonSet", "pointsman")?;
            check_containers(&objects, &daemon_set["spec"]["template"]["spec"])?;
            let args = container(daemon_set)?["args"].as_array().context("no arguments")?;
            let args: Vec<_> = args.iter().filter_map(Value::as_str).collect();
            ensure!(args.contains(&flag), "{overlay_name}: {args:?}");
            takes(&[&args[..], &["--version=false", "--write-config-to=/dev/null", "--config="]].concat())?;
        }
    }
    Ok(())
}

/// What a cluster sets in one place, its example sets there.
pub(crate) fn a_cluster_s_own_folder_changes_what_it_names() -> Result<()> {
    let objects = build(&root().join("deploy/kind"))?;
    let address = one(&objects, "ConfigMap", "pointsman-api-server")?;
    ensure!(address["data"]["KUBERNETES_SERVICE_HOST"] == json!("kind-control-plane"), "{address}");
    let daemon_set = one(&objects, "DaemonSet", "pointsman")?;
    let pod = &daemon_set["spec"]["template"]["spec"];
    for list in ["initContainers", "containers"] {
        ensure!(pod[list][0]["image"] == json!("localhost/pointsman:dev"), "{}", pod[list][0]);
    }
    let cluster = kustomize::read(&root().join("deploy/kind/cluster.yaml"))?;
    ensure!(cluster[0]["networking"]["kubeProxyMode"] == json!("none"), "kube-proxy would run as well");
    Ok(())
}
