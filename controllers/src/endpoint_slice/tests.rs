//! Services and pods in, writes of slices out.

use serde_json::{Value, json};

use super::*;
use crate::{fixture::*, settings::Settings};

fn service(extra: Value) -> Value {
    let mut service = json!({"metadata": {"name": "web", "labels": {"team": "x"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "serve"}]}});
    for (name, value) in extra.as_object().unwrap() {
        service["spec"][name] = value.clone();
    }
    service
}

fn pod(name: &str, ip: &str, port: u16, ready: bool) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "serve", "containerPort": port, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

fn run(cluster: &Cluster) -> Vec<Action> {
    reconcile(&cluster.snapshot, &Key::new("ns", "web"), NOW)
}

/// Carries out creates, patches and deletes of slices.
fn carry_out(cluster: &mut Cluster, actions: &[Action]) {
    for action in actions {
        match action {
            Action::Create { object, .. } => {
                let mut object = object.clone();
                object["metadata"]["uid"] = format!("uid-{}", object["metadata"]["name"]).into();
                cluster.put(resource::SLICES, object);
            }
            Action::Patch { name, patch, .. } => {
                let slice = cluster.snapshot.slices.named("ns", name).unwrap();
                let mut object = json!(**slice);
                object["metadata"]["ownerReferences"] = json!([]);
                object["endpoints"] = patch["endpoints"].clone();
                object["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .retain(|k, _| ["name", "namespace", "uid", "labels"].contains(&k.as_str()));
                cluster.put(resource::SLICES, object);
            }
            Action::Delete { name, .. } => {
                cluster.remove(resource::SLICES, "ns", name);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// `slice: address/ready/serving/terminating…`, sorted.
fn slices(cluster: &Cluster) -> Vec<String> {
    let of = |o: Option<bool>| if o == Some(true) { 't' } else { 'f' };
    let mut all: Vec<String> = cluster
        .snapshot
        .slices
        .values()
        .map(|slice| {
            let ports: Vec<String> = slice.ports.iter().map(|p| p.port.unwrap_or(0).to_string()).collect();
            let ends: Vec<String> = slice
                .endpoints
                .iter()
                .map(|e| {
                    format!(
                        "{}/{}{}{}",
                        e.addresses[0],
                        of(e.conditions.ready),
                        of(e.conditions.serving),
                        of(e.conditions.terminating)
                    )
                })
                .collect();
            format!("{}: {}", ports.join(","), ends.join(" "))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn endpoints_and_their_conditions() {
    let mut cluster = Cluster::new();
    cluster.put("nodes", json!({"metadata": {"name": "n", "labels": {ZONE: "z"}}}));
    cluster.put("services", service(json!({})));
    cluster.put("pods", pod("a", "10.0.0.1", 8080, true));
    cluster.put("pods", pod("b", "10.0.0.2", 8080, false));
    let mut going = pod("c", "10.0.0.3", 8080, true);
    going["metadata"]["deletionTimestamp"] = ago(1).into();
    cluster.put("pods", going);
    let mut done = pod("d", "10.0.0.4", 8080, true);
    done["status"]["phase"] = "Succeeded".into();
    cluster.put("pods", done);
    let actions = run(&cluster);
    let [Action::Create { object, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(
        object["metadata"]["labels"],
        json!({"endpointslice.kubernetes.io/managed-by": MANAGER, "kubernetes.io/service-name": "web", "team": "x"})
    );
    assert_eq!(object["endpoints"][0]["zone"], "z");
    assert_eq!(
        object["endpoints"][0]["targetRef"],
        json!({"kind": "Pod", "namespace": "ns", "name": "a", "uid": "uid-a"})
    );
    carry_out(&mut cluster, &actions);
    assert_eq!(slices(&cluster), ["8080: 10.0.0.1/ttf 10.0.0.2/fff 10.0.0.3/ftt"]);
    assert_eq!(run(&cluster), [], "nothing more to do");
}

/// `family: slice`, sorted.
fn by_family(cluster: &Cluster) -> Vec<String> {
    let mut all: Vec<String> = cluster
        .snapshot
        .slices
        .values()
        .map(|slice| {
            assert!(slice.meta.name.starts_with("web-"), "{}", slice.meta.name);
            let ips: Vec<&str> = slice.endpoints.iter().map(|e| e.addresses[0].as_str()).collect();
            format!("{}: {}", slice.address_type, ips.join(" "))
        })
        .collect();
    all.sort();
    all
}

fn dual_pod(name: &str, ips: &[&str]) -> Value {
    let mut pod = pod(name, ips[0], 8080, true);
    pod["status"]["podIPs"] = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    pod
}

#[track_caller]
fn check_families(spec: Value, expected: &[&str]) {
    let mut cluster = Cluster::new();
    cluster.put("services", service(spec));
    cluster.put("pods", dual_pod("a", &["10.0.0.1", "fd00::1"]));
    cluster.put("pods", dual_pod("b", &["10.0.0.2"]));
    cluster.put("pods", dual_pod("c", &["fd00::3", "10.0.0.3"]));
    let actions = run(&cluster);
    carry_out(&mut cluster, &actions);
    assert_eq!(by_family(&cluster), expected);
    assert_eq!(run(&cluster), [], "nothing more to do");
}

#[test]
fn each_family_of_the_service_has_slices_of_its_own() {
    let (four, six) = ("IPv4: 10.0.0.1 10.0.0.2 10.0.0.3", "IPv6: fd00::1 fd00::3");
    check_families(json!({"ipFamilies": ["IPv4"]}), &[four]);
    check_families(json!({"ipFamilies": ["IPv6"], "clusterIP": "fd00::9"}), &[six]);
    check_families(json!({"ipFamilies": ["IPv6", "IPv4"], "clusterIP": "fd00::9"}), &[four, six]);
    check_families(json!({"ipFamilies": ["IPv4", "IPv6"], "clusterIP": "None"}), &[four, six]);
    check_families(json!({"ipFamilies": [], "clusterIP": "None"}), &[four, six]);
    check_families(json!({"ipFamilies": [], "clusterIP": "fd00::9"}), &[six]);
}

#[test]
fn a_family_comes_and_goes() {
    let mut cluster = Cluster::new();
    cluster.put("pods", dual_pod("a", &["10.0.0.1", "fd00::1"]));
    let both = ["IPv4: 10.0.0.1", "IPv6: fd00::1"];
    for (families, expected) in
        [(json!(["IPv4"]), &both[..1]), (json!(["IPv4", "IPv6"]), &both[..]), (json!(["IPv4"]), &both[..1])]
    {
        cluster.put("services", service(json!({"ipFamilies": families})));
        let actions = run(&cluster);
        assert_eq!(actions.len(), 1, "the other family's slice is left alone: {actions:?}");
        carry_out(&mut cluster, &actions);
        assert_eq!(by_family(&cluster), expected);
    }
    cluster.put("services", service(json!({"ipFamilies": ["IPv4", "IPv6"]})));
    cluster.remove("pods", "ns", "a");
    let actions = run(&cluster);
    carry_out(&mut cluster, &actions);
    assert_eq!(by_family(&cluster), ["IPv4: ", "IPv6: "], "each family has its empty slice");
}

#[test]
fn a_change_touches_one_slice() {
    let mut cluster = Cluster::with(Settings { endpoints_per_slice: 2, ..Settings::default() });
    cluster.put("services", service(json!({})));
    for i in 1..=4 {
        cluster.put("pods", pod(&format!("p{i}"), &format!("10.0.0.{i}"), 80, true));
    }
    let actions = run(&cluster);
    carry_out(&mut cluster, &actions);
    assert_eq!(slices(&cluster), ["80: 10.0.0.1/ttf 10.0.0.2/ttf", "80: 10.0.0.3/ttf 10.0.0.4/ttf"]);
    cluster.remove("pods", "ns", "p1");
    let actions = run(&cluster);
    assert_eq!(actions.len(), 1);
    carry_out(&mut cluster, &actions);
    cluster.put("pods", pod("p5", "10.0.0.5", 80, true));
    let actions = run(&cluster);
    carry_out(&mut cluster, &actions);
    assert_eq!(slices(&cluster), ["80: 10.0.0.2/ttf 10.0.0.5/ttf", "80: 10.0.0.3/ttf 10.0.0.4/ttf"]);
}

#[test]
fn pods_with_other_port_numbers_have_a_slice_of_their_own() {
    let mut cluster = Cluster::new();
    cluster.put("services", service(json!({})));
    cluster.put("pods", pod("a", "10.0.0.1", 80, true));
    cluster.put("pods", pod("b", "10.0.0.2", 81, true));
    let actions = run(&cluster);
    carry_out(&mut cluster, &actions);
    assert_eq!(slices(&cluster), ["80: 10.0.0.1/ttf", "81: 10.0.0.2/ttf"]);
}

#[test]
fn a_service_without_pods_has_an_empty_slice() {
    let mut cluster = Cluster::new();
    cluster.put("services", service(json!({})));
    let actions = run(&cluster);
    carry_out(&mut cluster, &actions);
    assert_eq!(slices(&cluster), [": "]);
    assert_eq!(run(&cluster), []);
}

#[test]
fn not_ready_addresses_can_be_published() {
    let mut cluster = Cluster::new();
    cluster.put("services", service(json!({"publishNotReadyAddresses": true})));
    cluster.put("pods", pod("b", "10.0.0.2", 8080, false));
    let actions = run(&cluster);
    carry_out(&mut cluster, &actions);
    assert_eq!(slices(&cluster), ["8080: 10.0.0.2/tff"]);
}

#[test]
fn services_that_are_not_ours() {
    for extra in [json!({"selector": {}}), json!({"type": "ExternalName"})] {
        let mut cluster = Cluster::new();
        cluster.put("services", service(extra));
        cluster.put("pods", pod("a", "10.0.0.1", 80, true));
        assert_eq!(run(&cluster), []);
    }
}

#[test]
fn a_pod_wakes_its_services_before_and_after() {
    let mut cluster = Cluster::new();
    cluster.put("services", service(json!({})));
    let change = cluster.put("pods", pod("a", "10.0.0.1", 80, true)).unwrap();
    assert_eq!(keys(&cluster.snapshot, &change), [Key::new("ns", "web")]);
    let mut other = pod("a", "10.0.0.1", 80, true);
    other["metadata"]["annotations"] = json!({"x": "y"});
    let change = cluster.put("pods", other.clone()).unwrap();
    assert_eq!(keys(&cluster.snapshot, &change), [], "nothing that endpoints show");
    other["metadata"]["labels"] = json!({"app": "other"});
    let change = cluster.put("pods", other).unwrap();
    assert_eq!(keys(&cluster.snapshot, &change), [Key::new("ns", "web")]);
}
