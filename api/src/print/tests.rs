//! Whole tables: columns and cells of the kinds that people look at.

use serde_json::json;

use super::*;
use crate::schema::row;

/// One object's row of cells, as text, an hour after the epoch.
#[track_caller]
fn check(group: &str, version: &str, resource: &str, object: Value, expected: &[(&str, Value)]) {
    let row = row(group, version, resource).unwrap();
    let now = "1970-01-01T01:00:00Z".parse().unwrap();
    let table = table(row, &[&object], IncludeObject::Metadata, json!({"resourceVersion": "1"}), now, true);
    let columns = table["columnDefinitions"].as_array().unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(columns.len(), cells.len(), "{resource}");
    for (name, value) in expected {
        let at = columns
            .iter()
            .position(|c| c["name"] == *name)
            .unwrap_or_else(|| panic!("{resource} has no column {name}"));
        assert_eq!(&cells[at], value, "{resource} {name}");
    }
}

fn meta(name: &str) -> Value {
    json!({"name": name, "creationTimestamp": "1970-01-01T00:00:00Z"})
}

#[test]
fn every_view_has_as_many_cells_as_columns() {
    for row in crate::schema::rows() {
        check(row.group, row.version, row.resource, json!({"metadata": meta("a")}), &[]);
    }
}

#[test]
fn objects_of_both_families_show_the_first() {
    let spec = json!({"type": "ClusterIP", "clusterIP": "fd00::9", "clusterIPs": ["fd00::9", "10.0.0.9"], "ports": [{"port": 80, "protocol": "TCP"}]});
    let service = json!({"metadata": meta("s"), "spec": spec});
    check("", "v1", "services", service, &[("Cluster-IP", json!("fd00::9")), ("Port(s)", json!("80/TCP"))]);
    let status = json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
    check("", "v1", "pods", json!({"metadata": meta("p"), "status": status}), &[("IP", json!("10.0.0.1"))]);
    let subset = json!({"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]});
    let endpoints = json!({"metadata": meta("e"), "subsets": [subset]});
    check("", "v1", "endpoints", endpoints, &[("Endpoints", json!("[fd00::1]:80"))]);
    let slice = json!({"metadata": meta("s"), "addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}], "ports": [{"port": 80}]});
    let cells = [("AddressType", json!("IPv6")), ("Endpoints", json!("fd00::1")), ("Ports", json!("80"))];
    check("discovery.k8s.io", "v1", "endpointslices", slice, &cells);
    let addresses =
        json!([{"type": "InternalIP", "address": "fd00::1"}, {"type": "InternalIP", "address": "10.0.0.1"}]);
    let node = json!({"metadata": meta("n"), "status": {"addresses": addresses}});
    check("", "v1", "nodes", node, &[("Internal-IP", json!("fd00::1"))]);
}

#[test]
fn nodes_and_services() {
    let node = json!({"metadata": {"name": "n", "creationTimestamp": "1970-01-01T00:00:00Z", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]}});
    check(
        "",
        "v1",
        "nodes",
        node,
        &[
            ("Status", json!("Ready,SchedulingDisabled")),
            ("Roles", json!("control-plane")),
            ("Internal-IP", json!("1.2.3.4")),
            ("External-IP", json!("<none>")),
            ("Age", json!("60m")),
        ],
    );
    let service = json!({"metadata": meta("s"), "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"b": "2", "a": "1"}}});
    check(
        "",
        "v1",
        "services",
        service,
        &[
            ("Cluster-IP", json!("10.0.0.1")),
            ("External-IP", json!("<none>")),
            ("Port(s)", json!("80:30080/TCP,53/UDP")),
            ("Selector", json!("a=1,b=2")),
        ],
    );
}

#[test]
fn workloads_and_slices() {
    let deployment = json!({"metadata": meta("d"), "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "x", "image": "i"}, {"name": "y", "image": "j"}]}}}, "status": {"readyReplicas": 1, "updatedReplicas": 2}});
    check(
        "apps",
        "v1",
        "deployments",
        deployment,
        &[
            ("Ready", json!("1/3")),
            ("Up-to-date", json!(2)),
            ("Available", json!(0)),
            ("Containers", json!("x,y")),
            ("Images", json!("i,j")),
            ("Selector", json!("a=b")),
        ],
    );
    let slice = json!({"metadata": meta("s"), "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1"]}, {"addresses": ["2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]});
    check(
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        slice,
        &[("Ports", json!("80")), ("Endpoints", json!("1,2,3 + 1 more..."))],
    );
}

#[test]
fn events_and_bindings() {
    let event = json!({"metadata": meta("e"), "involvedObject": {"kind": "Pod", "name": "p"}, "lastTimestamp": "1970-01-01T00:59:50Z", "firstTimestamp": "1970-01-01T00:30:00Z", "type": "Normal", "reason": "R", "message": " m ", "count": 4, "source": {"component": "kubelet", "host": "n"}});
    check(
        "",
        "v1",
        "events",
        event,
        &[
            ("Last Seen", json!("10s")),
            ("First Seen", json!("30m")),
            ("Object", json!("pod/p")),
            ("Source", json!("kubelet, n")),
            ("Message", json!("m")),
            ("Count", json!(4)),
        ],
    );
    let binding = json!({"metadata": meta("b"), "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "n"}]});
    check(
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        binding,
        &[("Role", json!("Role/r")), ("ServiceAccounts", json!("n/a")), ("Users", json!(""))],
    );
}

#[test]
fn policies_and_budgets() {
    check(
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        json!({"metadata": meta("p"), "spec": {"podSelector": {}}}),
        &[("Pod-Selector", json!("<none>"))],
    );
    let budget = json!({"metadata": meta("b"), "spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}});
    check(
        "policy",
        "v1",
        "poddisruptionbudgets",
        budget,
        &[("Min Available", json!("50%")), ("Max Unavailable", json!("N/A")), ("Allowed Disruptions", json!(1))],
    );
    check(
        "rbac.authorization.k8s.io",
        "v1",
        "clusterroles",
        json!({"metadata": meta("r")}),
        &[("Created At", json!("1970-01-01T00:00:00Z"))],
    );
}

#[test]
fn objects_go_along_as_asked() {
    let pods = row("", "v1", "pods").unwrap();
    let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Succeeded"}});
    let with = |include, headers| table(pods, &[&pod], include, json!({}), Timestamp::UNIX_EPOCH, headers);
    assert_eq!(with(IncludeObject::Metadata, true)["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(with(IncludeObject::Object, true)["rows"][0]["object"], pod);
    let bare = with(IncludeObject::None, false);
    assert_eq!((&bare["rows"][0]["object"], &bare["columnDefinitions"]), (&Value::Null, &json!([])));
    assert_eq!(bare["rows"][0]["conditions"][0]["reason"], "Succeeded");
}
