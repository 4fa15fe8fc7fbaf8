//! Cases of defaults, strategies and validation, by kind.

use serde_json::json;

mod containers;

use super::*;
use crate::{schema::row, status::Status};

fn ctx<'a>(row: &'a Row, subresource: Option<&'a str>) -> Ctx<'a> {
    Ctx { row, now: Timestamp::UNIX_EPOCH, user: "tester", subresource }
}

fn pods() -> &'static Row {
    row("", "v1", "pods").unwrap()
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn service() -> Value {
    json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
}

/// Defaults, prepares and validates a new object; the message of the refusal, or nothing.
fn create(row: &Row, value: &mut Value) -> String {
    default(row, value);
    prepare_create(&ctx(row, None), value);
    let errors = validate_create(&ctx(row, None), value);
    if errors.is_empty() { String::new() } else { Status::invalid(row, "x", errors).message }
}

#[track_caller]
fn refused(group: &str, version: &str, resource: &str, mut value: Value, expected: &str) {
    let row = row(group, version, resource).unwrap();
    let message = create(row, &mut value);
    assert!(message.contains(expected), "{message:?} has not {expected:?}");
}

#[track_caller]
fn accepted(group: &str, version: &str, resource: &str, mut value: Value) -> Value {
    let row = row(group, version, resource).unwrap();
    assert_eq!(create(row, &mut value), "");
    value
}

#[test]
fn a_good_pod_is_taken() {
    let pod = accepted("", "v1", "pods", pod());
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(pod["metadata"]["generation"], 1);
}

#[test]
fn bad_pods_are_refused() {
    let with = |key: &str, value: Value| {
        let mut pod = pod();
        pod["spec"]["containers"][0][key] = value;
        pod
    };
    let check = |value: Value, expected: &str| refused("", "v1", "pods", value, expected);
    check(json!({"metadata": {"name": "p"}, "spec": {}}), "Pod \"x\" is invalid: spec.containers: Required value");
    check(
        json!({"metadata": {"name": "P"}, "spec": pod()["spec"]}),
        "metadata.name: Invalid value: \"P\": a lowercase RFC 1123 subdomain",
    );
    check(with("image", json!("")), "spec.containers[0].image: Required value");
    check(with("name", json!("A")), "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label");
    check(
        with("ports", json!([{"containerPort": 70000}])),
        "containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    );
    check(
        with("ports", json!([{"containerPort": 1, "protocol": "X"}])),
        "Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
    );
    check(
        with("volumeMounts", json!([{"name": "v", "mountPath": "/v"}])),
        "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
    );
    check(
        with("livenessProbe", json!({})),
        "spec.containers[0].livenessProbe: Required value: must specify a handler type",
    );
    check(with("imagePullPolicy", json!("X")), "supported values: \"Always\", \"IfNotPresent\", \"Never\"");
    let resources = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}});
    check(
        with("resources", resources),
        "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
    );
    check(
        with("env", json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}])),
        "env[0].valueFrom.fieldRef.fieldPath: Unsupported value",
    );
    let mut two = pod();
    two["spec"]["containers"] = json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]);
    check(two, "spec.containers[1].name: Duplicate value: \"c\"");
    let mut policy = pod();
    policy["spec"]["restartPolicy"] = json!("Sometimes");
    check(
        policy,
        "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
    );
}

#[test]
fn a_pod_hardly_changes() {
    let old = accepted("", "v1", "pods", pod());
    let update = |change: &dyn Fn(&mut Value), subresource| {
        let mut new = old.clone();
        change(&mut new);
        let ctx = ctx(pods(), subresource);
        prepare_update(&ctx, &mut new, &old);
        (validate_update(&ctx, &new, &old), new)
    };
    let (errors, new) = update(&|p| p["spec"]["containers"][0]["image"] = json!("i:2"), None);
    assert_eq!((errors, &new["metadata"]["generation"]), (Vec::new(), &json!(2)));
    let (errors, _) = update(&|p| p["spec"]["hostNetwork"] = json!(true), None);
    assert!(errors[0].to_string().starts_with("spec: Forbidden: pod updates may not change fields other than"));
    let (errors, new) = update(&|p| p["status"]["phase"] = json!("Running"), None);
    assert_eq!((errors, &new["status"]["phase"]), (Vec::new(), &json!("Pending")));
    let (errors, new) =
        update(&|p| *p = json!({"metadata": p["metadata"], "status": {"phase": "Running"}}), Some("status"));
    assert_eq!((errors, &new["status"]), (Vec::new(), &json!({"phase": "Running", "qosClass": "BestEffort"})));
    assert_eq!(new["spec"], old["spec"]);
    let (errors, _) = update(&|p| p["metadata"]["uid"] = json!("other"), None);
    assert_eq!(errors[0].to_string(), "metadata.uid: Invalid value: \"other\": field is immutable");
}

#[test]
fn deployments() {
    let d = accepted("apps", "v1", "deployments", deployment());
    assert_eq!(
        d["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!((&d["spec"]["replicas"], &d["metadata"]["generation"]), (&json!(1), &json!(1)));
    let mut zero = deployment();
    zero["spec"]["replicas"] = json!(0);
    assert_eq!(accepted("apps", "v1", "deployments", zero)["spec"]["replicas"], 0);
    let mut other = deployment();
    other["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
    refused(
        "apps",
        "v1",
        "deployments",
        other,
        "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`",
    );
    refused(
        "apps",
        "v1",
        "deployments",
        json!({"metadata": {"name": "d"}, "spec": {}}),
        "spec.selector: Required value",
    );
    let mut never = deployment();
    never["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    refused(
        "apps",
        "v1",
        "deployments",
        never,
        "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
    );
}

#[test]
fn a_selector_stays_and_status_writes_change_only_status() {
    let row = row("apps", "v1", "deployments").unwrap();
    let old = accepted("apps", "v1", "deployments", deployment());
    let mut new = old.clone();
    new["spec"]["selector"] = json!({"matchLabels": {"a": "b", "c": "d"}});
    new["spec"]["template"]["metadata"]["labels"] = json!({"a": "b", "c": "d"});
    let errors = validate_update(&ctx(row, None), &new, &old);
    assert!(errors[0].to_string().ends_with("field is immutable"), "{}", errors[0]);
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(5);
    new["status"] = json!({"replicas": 1});
    let mut by_status = new.clone();
    prepare_update(&ctx(row, Some("status")), &mut by_status, &old);
    assert_eq!(
        (&by_status["spec"]["replicas"], &by_status["status"]["replicas"], &by_status["metadata"]["generation"]),
        (&json!(1), &json!(1), &json!(1))
    );
    prepare_update(&ctx(row, None), &mut new, &old);
    assert_eq!(
        (&new["spec"]["replicas"], new.get("status"), &new["metadata"]["generation"]),
        (&json!(5), None, &json!(2))
    );
}

#[test]
fn services() {
    let s = accepted("", "v1", "services", service());
    let expected = json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster"});
    assert_eq!(s["spec"], expected);
    refused(
        "",
        "v1",
        "services",
        json!({"metadata": {"name": "1s"}, "spec": {"ports": [{"port": 80}]}}),
        "metadata.name: Invalid value: \"1s\": a DNS-1035 label",
    );
    refused("", "v1", "services", json!({"metadata": {"name": "s"}, "spec": {}}), "spec.ports: Required value");
    let two = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}, {"port": 81, "name": "b"}]}});
    refused("", "v1", "services", two, "spec.ports[0].name: Required value");
    let node = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "nodePort": 30000}]}});
    refused(
        "",
        "v1",
        "services",
        node,
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    );
    accepted("", "v1", "services", json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None"}}));
    refused(
        "",
        "v1",
        "services",
        json!({"metadata": {"name": "s"}, "spec": {"type": "X", "ports": [{"port": 1}]}}),
        "spec.type: Unsupported value: \"X\"",
    );
}

#[test]
fn namespaces() {
    let n = accepted("", "v1", "namespaces", json!({"metadata": {"name": "n"}}));
    assert_eq!(n["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    assert_eq!((&n["spec"]["finalizers"], &n["status"]["phase"]), (&json!(["kubernetes"]), &json!("Active")));
    refused("", "v1", "namespaces", json!({"metadata": {"name": "a.b"}}), "must not contain dots");
}

#[test]
fn policies_and_roles() {
    let p = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}});
    let p = accepted("networking.k8s.io", "v1", "networkpolicies", p);
    assert_eq!(p["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(p["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    let bad = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}});
    refused(
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        bad,
        "spec.ingress[0].from[0]: Required value: must specify a peer",
    );
    let block = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.1.0.0/25"]}}]}]}});
    refused("networking.k8s.io", "v1", "networkpolicies", block, "must be a strict subset of `cidr`");
    let binding = json!({"metadata": {"name": "system:x"}, "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]});
    let binding = accepted("rbac.authorization.k8s.io", "v1", "clusterrolebindings", binding);
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    let role = json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"]}]});
    refused("rbac.authorization.k8s.io", "v1", "clusterroles", role, "rules[0].apiGroups: Required value");
}

#[test]
fn config() {
    let secret = accepted("", "v1", "secrets", json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}}));
    assert_eq!(
        (&secret["type"], &secret["data"], secret.get("stringData")),
        (&json!("Opaque"), &json!({"a": "Yg=="}), None)
    );
    refused(
        "",
        "v1",
        "configmaps",
        json!({"metadata": {"name": "c"}, "data": {"a/b": ""}}),
        "data[a/b]: Invalid value: \"a/b\": a valid config key",
    );
    let row = row("", "v1", "configmaps").unwrap();
    let old = json!({"metadata": {"name": "c"}, "data": {"a": "1"}, "immutable": true});
    let new = json!({"metadata": {"name": "c"}, "data": {"a": "2"}, "immutable": true});
    assert_eq!(
        validate_update(&ctx(row, None), &new, &old)[0].to_string(),
        "data: Forbidden: field is immutable when `immutable` is set"
    );
}

#[test]
fn jobs_select_by_their_uid() {
    let job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let job = accepted("batch", "v1", "jobs", job);
    assert_eq!(job["spec"]["selector"]["matchLabels"], json!({"batch.kubernetes.io/controller-uid": "u"}));
    assert_eq!((&job["spec"]["completions"], &job["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
    let always = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    refused(
        "batch",
        "v1",
        "jobs",
        always,
        "spec.template.spec.restartPolicy: Unsupported value: \"Always\": supported values: \"OnFailure\", \"Never\"",
    );
}

#[test]
fn metadata_has_rules_for_all_kinds() {
    let check =
        |metadata: Value, expected: &str| refused("", "v1", "configmaps", json!({ "metadata": metadata }), expected);
    check(json!({}), "metadata.name: Required value: name or generateName is required");
    check(
        json!({"name": "a", "labels": {"a b": "c"}}),
        "metadata.labels: Invalid value: \"a b\": name part must consist of",
    );
    check(
        json!({"name": "a", "labels": {"a": "b c"}}),
        "metadata.labels: Invalid value: \"b c\": a valid label must be",
    );
    check(
        json!({"name": "a", "finalizers": ["x"]}),
        "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer",
    );
    check(
        json!({"name": "a", "ownerReferences": [{"kind": "A", "name": "b", "uid": "c"}]}),
        "metadata.ownerReferences.apiVersion: Invalid value: \"\"",
    );
}

#[test]
fn defaults_are_their_own_fixpoint() {
    for (group, version, resource, value) in
        [("", "v1", "pods", pod()), ("apps", "v1", "deployments", deployment()), ("", "v1", "services", service())]
    {
        let row = row(group, version, resource).unwrap();
        let mut once = value;
        default(row, &mut once);
        let mut twice = once.clone();
        default(row, &mut twice);
        assert_eq!(once, twice);
    }
}
