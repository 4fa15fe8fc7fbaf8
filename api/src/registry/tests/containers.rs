//! What pods as users write them may say: restartable init containers, probes, hooks, mounts, security.

use serde_json::{Value, json};

use super::{accepted, pod, refused};

/// A pod with one more field on its container.
fn with(key: &str, value: Value) -> Value {
    let mut pod = pod();
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    pod["spec"]["containers"][0][key] = value;
    pod
}

/// A pod with one more field on an init container, and the restart policy of that.
fn init(policy: Option<&str>, key: &str, value: Value) -> Value {
    let mut pod = pod();
    let mut container = json!({"name": "i", "image": "i"});
    container[key] = value;
    if let Some(policy) = policy {
        container["restartPolicy"] = json!(policy);
    }
    pod["spec"]["initContainers"] = json!([container]);
    pod
}

#[track_caller]
fn check(pod: Value, expected: &str) {
    refused("", "v1", "pods", pod, expected);
}

#[test]
fn init_containers() {
    let probe = json!({"tcpSocket": {"port": 80}});
    let hooks = json!({"preStop": {"exec": {"command": ["true"]}}});
    accepted("", "v1", "pods", init(Some("Always"), "startupProbe", probe.clone()));
    accepted("", "v1", "pods", init(Some("Always"), "lifecycle", hooks.clone()));
    let alone = "Forbidden: may not be set for init containers without restartPolicy=Always";
    check(init(None, "startupProbe", probe), &format!("spec.initContainers[0].startupProbe: {alone}"));
    check(init(None, "lifecycle", hooks), &format!("spec.initContainers[0].lifecycle: {alone}"));
    check(
        init(Some("Sometimes"), "tty", json!(true)),
        "spec.initContainers[0].restartPolicy: Unsupported value: \"Sometimes\"",
    );
}

#[test]
fn probes_and_hooks() {
    check(
        with("startupProbe", json!({"exec": {"command": ["a"]}, "successThreshold": 2})),
        "spec.containers[0].startupProbe.successThreshold: Invalid value: 2: must be 1",
    );
    check(
        with("lifecycle", json!({"preStop": {}})),
        "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type",
    );
    accepted("", "v1", "pods", with("lifecycle", json!({"preStop": {"sleep": {"seconds": 30}}})));
    check(
        with("lifecycle", json!({"preStop": {"sleep": {"seconds": 31}}})),
        "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
    );
}

#[test]
fn mounts() {
    let mount = |key: &str, value: &str| {
        let mut mount = json!({"name": "v", "mountPath": "/v"});
        mount[key] = json!(value);
        with("volumeMounts", json!([mount]))
    };
    accepted("", "v1", "pods", mount("subPath", "a/b"));
    accepted("", "v1", "pods", mount("subPathExpr", "$(NAME)/b"));
    accepted("", "v1", "pods", mount("mountPropagation", "HostToContainer"));
    check(mount("subPath", "/a"), "subPath: Invalid value: \"/a\": must be a relative path");
    check(mount("subPathExpr", "a/../b"), "subPathExpr: Invalid value: \"a/../b\": must not contain '..'");
    let both = json!([{"name": "v", "mountPath": "/v", "subPath": "a", "subPathExpr": "b"}]);
    check(with("volumeMounts", both), "subPathExpr and subPath are mutually exclusive");
    check(
        mount("mountPropagation", "Bidirectional"),
        "volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
    );
    let mut host = pod();
    host["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/a/../b"}}]);
    check(host, "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'");
}

#[test]
fn security_contexts() {
    let context = |value: Value| with("securityContext", value);
    accepted("", "v1", "pods", context(json!({"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}})));
    check(
        context(json!({"runAsUser": -1})),
        "securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    );
    check(
        context(json!({"allowPrivilegeEscalation": false, "privileged": true})),
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    );
    check(
        context(json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}})),
        "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
    );
    check(context(json!({"seccompProfile": {"type": "X"}})), "seccompProfile.type: Unsupported value: \"X\"");
    check(
        context(json!({"seccompProfile": {"type": "Localhost"}})),
        "seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
    );
}
