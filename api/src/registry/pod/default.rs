//! Upstream's defaults of a pod's spec.

use serde_json::{Value, json};

use crate::{
    Object, path,
    registry::fill::{child, items, set, set_number},
};

/// Mode 0644 of files from ConfigMaps, Secrets and the like.
const FILE_MODE: i64 = 0o644;

/// Fills in a spec; some fields only in pods, not in templates.
pub(in crate::registry) fn spec(spec: &mut Object, is_pod: bool) {
    set(spec, "restartPolicy", "Always");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "dnsPolicy", "ClusterFirst");
    service_account(spec);
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", "default-scheduler");
    let host_ports = is_pod && spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(spec, list) {
            fill_container(container, host_ports);
            if is_pod {
                requests_from_limits(container);
            }
        }
    }
    items(spec, "volumes").for_each(fill_volume);
    if is_pod {
        set(spec, "enableServiceLinks", true);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown.
fn service_account(spec: &mut Object) {
    let text = |spec: &Object, key: &str| spec.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let name = text(spec, "serviceAccountName");
    let name = if name.is_empty() { text(spec, "serviceAccount") } else { name };
    if !name.is_empty() {
        spec.insert("serviceAccount".to_owned(), json!(name));
        spec.insert("serviceAccountName".to_owned(), json!(name));
    }
}

fn fill_container(container: &mut Object, host_ports: bool) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", policy);
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    for port in items(container, "ports") {
        set(port, "protocol", "TCP");
        if host_ports {
            let port_number = port.get("containerPort").cloned().unwrap_or(Value::Null);
            set_number(port, "hostPort", port_number);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = child(container, probe) {
            fill_probe(probe);
        }
    }
    if let Some(lifecycle) = child(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(get) = child(lifecycle, hook).and_then(|h| child(h, "httpGet")) {
                fill_http(get);
            }
        }
    }
    for env in items(container, "env") {
        if let Some(from) = child(env, "valueFrom") {
            fill_field_ref(from);
        }
    }
}

/// Whether an image has no tag and no digest, or the tag `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn fill_probe(probe: &mut Object) {
    set_number(probe, "timeoutSeconds", 1);
    set_number(probe, "periodSeconds", 10);
    set_number(probe, "successThreshold", 1);
    set_number(probe, "failureThreshold", 3);
    if let Some(get) = child(probe, "httpGet") {
        fill_http(get);
    }
    if let Some(grpc) = child(probe, "grpc") {
        grpc.entry("service").or_insert(json!(""));
    }
}

fn fill_http(get: &mut Object) {
    set(get, "path", "/");
    set(get, "scheme", "HTTP");
}

fn fill_field_ref(from: &mut Object) {
    if let Some(reference) = child(from, "fieldRef") {
        set(reference, "apiVersion", "v1");
    }
    if let Some(reference) = child(from, "resourceFieldRef") {
        set(reference, "divisor", "0");
    }
}

/// A limit is a request too, where there is none.
fn requests_from_limits(container: &mut Object) {
    let Some(resources) = child(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = path::object(resources.entry("requests").or_insert(json!({})));
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn fill_volume(volume: &mut Object) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child(volume, source) {
            set(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(down) = child(volume, "downwardAPI") {
        items(down, "items").for_each(fill_field_ref);
    }
    if let Some(projected) = child(volume, "projected") {
        for source in items(projected, "sources") {
            if let Some(token) = child(source, "serviceAccountToken") {
                set(token, "expirationSeconds", 3600);
            }
            if let Some(down) = child(source, "downwardAPI") {
                items(down, "items").for_each(fill_field_ref);
            }
        }
    }
    if let Some(path) = child(volume, "hostPath") {
        path.entry("type").or_insert(json!(""));
    }
    if let Some(spec) =
        child(volume, "ephemeral").and_then(|e| child(e, "volumeClaimTemplate")).and_then(|t| child(t, "spec"))
    {
        set(spec, "volumeMode", "Filesystem");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(image: &str, latest: bool) {
        assert_eq!(is_latest(image), latest, "{image}");
    }

    #[test]
    fn latest_is_no_tag_or_that_tag() {
        check("nginx", true);
        check("nginx:latest", true);
        check("nginx:1.27", false);
        check("localhost:5000/nginx", true);
        check("localhost:5000/nginx:1", false);
        check("nginx@sha256:abc", false);
    }

    #[test]
    fn a_small_pod_is_filled_in() {
        let mut pod = json!({"spec": {"containers": [{
            "name": "a", "image": "i:1", "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "1"}},
        }], "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}]}});
        crate::registry::pod::default(&mut pod);
        let expected = json!({
            "name": "a", "image": "i:1", "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        });
        assert_eq!(pod["spec"]["containers"][0], expected);
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}])
        );
        assert_eq!(
            (&pod["spec"]["dnsPolicy"], &pod["spec"]["enableServiceLinks"]),
            (&json!("ClusterFirst"), &json!(true))
        );
        let again = pod.clone();
        crate::registry::pod::default(&mut pod);
        assert_eq!(pod, again);
    }
}
