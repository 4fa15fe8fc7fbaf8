//! Stock kubectl against the embedded cluster: what users type, and what they expect to read.
use tests::{Kubectl, built::succeeded};

/// The whole scenario, in a namespace of its own.
pub(crate) fn works_as_anywhere(kubectl: Kubectl) {
    let name = kubectl.program.file_name().expect("a program").to_string_lossy().replace('.', "-");
    let kubectl = kubectl.within(&format!("it-{name}"));
    reads(&kubectl);
    kubectl.says(&format!("create namespace {}", kubectl.namespace), &["created"]);
    writes(&kubectl);
    refusals(&kubectl);
    kubectl.says(&format!("delete namespace {} --timeout=60s", kubectl.namespace), &["deleted"]);
}

fn reads(kubectl: &Kubectl) {
    kubectl.says("version", &["Server Version"]);
    kubectl.says("get nodes -o wide", &["INTERNAL-IP", "node-1", "Ready"]);
    kubectl.says("get pods -A -o wide", &["NOMINATED NODE", "frontend-", "Running"]);
    kubectl.says("api-resources", &["deployments", "networkpolicies", "deploy"]);
    kubectl.says("explain pod.spec.containers", &["image", "KIND:"]);
    kubectl.says("auth can-i create deployments", &["yes"]);
    kubectl.says("describe node node-1", &["Allocatable", "InternalIP", "Ready"]);
    kubectl.says("-n guestbook describe service frontend", &["NodePort", "Endpoints:"]);
    kubectl.says("get --raw /readyz", &["ok"]);
    kubectl.says("cluster-info", &["running at"]);
}

fn writes(kubectl: &Kubectl) {
    kubectl.says("create deployment web --image=guestbook:1.0 --replicas=2 -- /guestbook backend", &["created"]);
    kubectl.says("rollout status deployment/web --timeout=60s", &["successfully rolled out"]);
    kubectl.says("get deployments", &["READY", "2/2"]);
    kubectl.says("describe deployment web", &["Replicas:", "ScalingReplicaSet"]);
    kubectl.says("scale deployment web --replicas=1", &["scaled"]);
    kubectl.until("get deployment web", |text| text.contains("1/1"));
    kubectl.says("label deployment web tier=test", &["labeled"]);
    kubectl.says("annotate deployment web note=hello", &["annotate"]);
    kubectl.says("get deployments -l tier=test -o name", &["deployment.apps/web"]);
    kubectl.says("expose deployment web --port=80 --target-port=8080", &["exposed"]);
    kubectl.says("describe service web", &["Selector:", "app=web"]);
    let pod = kubectl.says("get pods -l app=web -o jsonpath={.items[0].metadata.name}", &["web-"]);
    kubectl.says(&format!("describe pod {pod}"), &["Node:", "guestbook:1.0", "Started"]);
    kubectl.says(&format!("logs {pod}"), &["serving on port"]);
    kubectl.says("get events", &["Scheduled", "LAST SEEN"]);
    applied(kubectl);
    kubectl.says("delete deployment web --timeout=60s", &["deleted"]);
}

/// `apply` twice: the second changes one field.
fn applied(kubectl: &Kubectl) {
    let manifest =
        |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  key: {value}\n");
    for (value, verb) in [("one", "created"), ("two", "configured"), ("two", "unchanged")] {
        let output = kubectl.run(&["apply", "-f", "-"], manifest(value).as_bytes());
        let text = succeeded("kubectl apply", &output);
        assert!(text.contains(verb), "no {verb:?} in\n{text}");
        kubectl.says("get configmap c -o jsonpath={.data.key}", &[value]);
    }
}

/// Bad input is refused as the real API server refuses it.
fn refusals(kubectl: &Kubectl) {
    let cases = [
        ("metadata:\n  name: Bad_Name\ndata: {}\n", "metadata.name"),
        ("metadata:\n  name: good\nsurplus: 1\n", "unknown field \"surplus\""),
    ];
    for (body, expected) in cases {
        let manifest = format!("apiVersion: v1\nkind: ConfigMap\n{body}");
        let output = kubectl.run(&["apply", "-f", "-"], manifest.as_bytes());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "no {expected:?} in\n{text}");
    }
}
