//! ServiceAccount: every pod runs as one, and finds its token, the cluster's CA and its namespace in a volume.
use std::sync::Arc;
use std::time::Duration;

use api::path;
use api::status::Status;
use serde_json::{Value, json};

use crate::registry::{Target, path_of};
use crate::serve;
use crate::storage::cache::Cache;

const TABLE: &str = "serviceaccounts";
const DEFAULT: &str = "default";
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// A new namespace gets its account from a controller; so long a pod waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn admit(cache: &Arc<Cache>, target: &Target<'_>, pod: &mut Value) -> Result<(), Status> {
    if path::map(pod, "metadata.annotations").is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Ok(());
    }
    let mut name = path::str(pod, "spec.serviceAccountName").to_owned();
    if name.is_empty() {
        DEFAULT.clone_into(&mut name);
    }
    let spec = path::entry(pod, "spec");
    spec.insert("serviceAccountName".to_owned(), name.as_str().into());
    spec.insert("serviceAccount".to_owned(), name.as_str().into());
    let Some(account) = find(cache, target.namespace, &name).await else {
        let place = path_of(target.namespace, &name);
        let text = format!("error looking up service account {place}: serviceaccount \"{name}\" not found");
        return Err(Status::forbidden(target.row, target.name, text));
    };
    let automount = [path::get(pod, "spec"), &account]
        .into_iter()
        .find_map(|object| object.get("automountServiceAccountToken").and_then(Value::as_bool))
        .unwrap_or(true);
    if automount {
        mount_token(pod);
    }
    if path::list(pod, "spec.imagePullSecrets").is_empty() {
        let secrets = path::list(&account, "imagePullSecrets");
        if !secrets.is_empty() {
            path::entry(pod, "spec").insert("imagePullSecrets".to_owned(), secrets.to_vec().into());
        }
    }
    Ok(())
}

async fn find(cache: &Arc<Cache>, namespace: &str, name: &str) -> Option<Value> {
    let path = path_of(namespace, name);
    let table = cache.table(TABLE);
    let mut changed = table.subscribe();
    let found = async {
        loop {
            changed.borrow_and_update();
            if let Some(entry) = cache.get(TABLE, &path) {
                return Some(serve::parse(&entry.value, entry.revision));
            }
            if name != DEFAULT || changed.changed().await.is_err() {
                return None;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.ok().flatten()
}

fn mount_token(pod: &mut Value) {
    let volume = path::list(pod, "spec.volumes")
        .iter()
        .map(|volume| path::str(volume, "name"))
        .find(|name| name.starts_with("kube-api-access-"))
        .map_or_else(|| format!("kube-api-access-{}", crate::registry::random_suffix()), str::to_owned);
    let mut mounted = false;
    for kind in ["initContainers", "containers"] {
        let mut containers = path::list(path::get(pod, "spec"), kind).to_vec();
        for container in &mut containers {
            let mut mounts = path::list(container, "volumeMounts").to_vec();
            if !mounts.iter().any(|mount| path::str(mount, "mountPath") == MOUNT) {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT}));
                path::object(container).insert("volumeMounts".to_owned(), mounts.into());
                mounted = true;
            }
        }
        if !containers.is_empty() {
            path::entry(pod, "spec").insert(kind.to_owned(), containers.into());
        }
    }
    let mut volumes = path::list(pod, "spec.volumes").to_vec();
    if mounted && !volumes.iter().any(|known| path::str(known, "name") == volume) {
        volumes.push(token_volume(&volume));
        path::entry(pod, "spec").insert("volumes".to_owned(), volumes.into());
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{MOUNT, mount_token, path};

    #[test]
    fn every_container_gets_the_mount_once() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT}]}]}});
        mount_token(&mut pod);
        let after_one = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, after_one);
        let volume = path::str(&path::list(&pod, "spec.volumes")[0], "name");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], volume);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().map_or(0, Vec::len), 1);
    }

    #[test]
    fn no_volume_without_a_mount() {
        let mut pod =
            json!({"spec": {"containers": [{"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT}]}]}});
        mount_token(&mut pod);
        assert!(pod["spec"].get("volumes").is_none());
    }
}
