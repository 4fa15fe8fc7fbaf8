//! The agent with exactly the account of `deploy/agent-rbac.yaml`: every request is allowed, and every right is used.
//!
//! A real `weft server`, a real `weft agent`, and between them a proxy that notes each request, whose token is the service
//! account's. The manifests of `deploy/` go in under strict validation, as `kubectl apply` sends them.
#[path = "least_rights/cluster.rs"]
mod cluster;
#[path = "../../agent/tests/node/namespaces.rs"]
mod namespaces;
#[path = "least_rights/proxy.rs"]
mod proxy;

use std::collections::BTreeSet;

use cluster::{Cluster, manifests};
use namespaces::Namespace;
use proxy::Right;
use serde_json::json;

/// What the ClusterRole grants, one right a verb.
fn granted() -> BTreeSet<Right> {
    let documents = manifests();
    let role = documents.iter().find(|document| document["kind"] == "ClusterRole").expect("a ClusterRole");
    let list = |rule: &serde_json::Value, field: &str| -> Vec<String> {
        rule[field].as_array().expect("a list").iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                for verb in list(rule, "verbs") {
                    rights.insert(Right { group: group.clone(), resource: resource.clone(), verb });
                }
            }
        }
    }
    rights
}

#[test]
fn every_request_is_allowed_and_every_right_is_used() {
    cluster::on_a_node(|cluster: &mut Cluster| {
        for document in manifests() {
            cluster.create(&document);
        }
        cluster.start_proxy();
        // The Node is there before it has an address, and gets its range from the server's controller.
        cluster.create(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" } }));
        cluster.start_agent();
        let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "172.31.0.11" }] } });
        cluster.patch("/api/v1/nodes/n1/status", &status);
        cluster.wait_ready();

        // A pod, its policy and a service in front of it.
        let namespace = Namespace::new();
        cluster.pod("web");
        cluster.add("web", &namespace);
        cluster.create(&json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "web", "namespace": "default" },
            "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Ingress"] } }));
        let web = cluster.service("web", "TCP");
        cluster.wait_for("the service", |cluster| cluster.serves(&web));
        cluster.wait_for("the policy", |cluster| cluster.dump("POD").contains("isolated"));

        // What cannot be compiled is told on the object; when it comes back, the Event counts.
        let odd = cluster.service("odd", "SCTP");
        let events = |cluster: &Cluster| cluster.get("/apis/events.k8s.io/v1/namespaces/default/events");
        let told = |cluster: &Cluster, counted: bool| {
            let list = events(cluster);
            let mut events = list["items"].as_array().into_iter().flatten();
            events.any(|event| {
                event["reason"] == "ServicePortNotServed"
                    && event["regarding"]["name"] == "odd"
                    && (!counted || event["series"]["count"].as_u64() >= Some(2))
            })
        };
        cluster.wait_for("the Event", |cluster| told(cluster, false));
        let port = |proto: &str| json!([{ "op": "replace", "path": "/spec/ports/0/protocol", "value": proto }]);
        cluster.json_patch("/api/v1/namespaces/default/services/odd", &port("TCP"));
        cluster.wait_for("the second service", |cluster| cluster.serves(&odd));
        cluster.json_patch("/api/v1/namespaces/default/services/odd", &port("SCTP"));
        cluster.wait_for("the Event again", |cluster| told(cluster, true));

        // The server dies and comes back; the agent does too. Both go on where they were.
        cluster.kill_server();
        let synced = |cluster: &Cluster| {
            let status = cluster.weft(&["status"]);
            status.lines().any(|line| line.starts_with("Service ") && line.trim_end().ends_with("synced"))
        };
        cluster.wait_for("the watches to notice", |cluster| !synced(cluster));
        assert!(cluster.serves(&web), "what is known stays in force");
        cluster.start_server();
        let later = cluster.service("later", "TCP");
        cluster.wait_for("a service after the outage", |cluster| cluster.serves(&later));
        cluster.kill_agent();
        cluster.start_agent();
        cluster.wait_ready();
        assert!(cluster.serves(&later));
        cluster.delete("/api/v1/namespaces/default/services/later");
        cluster.wait_for("the service to go", |cluster| !cluster.serves(&later));
        // As the pod of the DaemonSet, which has no kubeconfig.
        cluster.kill_agent();
        cluster.start_agent_in_cluster();
        cluster.wait_ready();
        assert!(cluster.serves(&web));
        cluster.call("DEL", "web", &namespace);

        let seen = cluster.seen();
        let refused: Vec<_> = seen.iter().filter(|request| matches!(request.status, 401 | 403)).collect();
        assert!(refused.is_empty(), "refused: {refused:#?}");
        let unknown: Vec<_> = seen.iter().filter(|request| request.right.is_none()).collect();
        assert!(unknown.is_empty(), "requests that no rule is about: {unknown:#?}");
        let used: BTreeSet<Right> = seen.into_iter().filter_map(|request| request.right).collect();
        let granted = granted();
        let needless: Vec<_> = granted.difference(&used).collect();
        assert!(needless.is_empty(), "granted and never used: {needless:#?}");
        let beyond: Vec<_> = used.difference(&granted).collect();
        assert!(beyond.is_empty(), "used and not granted: {beyond:#?}");
    });
}
