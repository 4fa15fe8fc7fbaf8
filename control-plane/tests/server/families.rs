//! Clusters of both families, and of IPv6 alone: Services, nodes' ranges, slices and the server itself.
use control_plane::server::{Args, Running};
use serde_json::{Value, json};

use crate::client::Cluster;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const NODES: &str = "/api/v1/nodes";

fn four_first(args: &mut Args) {
    args.service_cidr = "10.96.0.0/16,fd00:10:96::/112".parse().expect("ranges");
    args.cluster_cidr = "10.244.0.0/16,fd00:10:244::/56".parse().expect("ranges");
}

/// Both families, IPv6 the primary one, listening on IPv6.
pub(crate) fn six_first(args: &mut Args) {
    args.service_cidr = "fd00:10:96::/112,10.96.0.0/16".parse().expect("ranges");
    args.cluster_cidr = "fd00:10:244::/56,10.244.0.0/16".parse().expect("ranges");
    args.advertise_address = "2001:db8::1".parse().expect("an address");
    args.tls_san = vec!["2001:db8::2".parse().expect("an address")];
    args.listen = vec!["[::1]:0".parse().expect("an address")];
}

fn six_alone(args: &mut Args) {
    six_first(args);
    args.service_cidr = "fd00:10:96::/112".parse().expect("a range");
    args.cluster_cidr = "fd00:10:244::/56".parse().expect("a range");
}

fn service(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    whole.as_object_mut().expect("a map").extend(spec.as_object().expect("a map").clone());
    json!({"metadata": {"name": name}, "spec": whole})
}

/// A node that registers, and what it is given.
async fn node(cluster: &Cluster, name: &str) -> Value {
    let admin = &cluster.admin;
    admin.post(NODES, json!({"metadata": {"name": name}})).await.expect(201);
    let path = format!("{NODES}/{name}");
    let done = |answer: &crate::client::Answer| answer.body["spec"]["podCIDRs"].is_array();
    admin.until(&path, "the node has its ranges", done).await["spec"].clone()
}

/// A ready pod of app `web` with these addresses.
async fn pod(cluster: &Cluster, name: &str, ips: &[&str]) {
    let pods = "/api/v1/namespaces/default/pods";
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]});
    let object = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec});
    cluster.admin.post(pods, object).await.expect(201);
    let list: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    let status =
        json!({"status": {"phase": "Running", "podIPs": list, "conditions": [{"type": "Ready", "status": "True"}]}});
    let got = cluster.admin.patch("merge", &format!("{pods}/{name}/status"), status).await.expect(200);
    assert_eq!(got["status"]["podIP"], ips[0]);
}

/// Waits for a Service's slices: `family: addresses`, sorted.
async fn slices(cluster: &Cluster, service: &str, expected: &[&str]) {
    let path = format!("{SLICES}?labelSelector=kubernetes.io/service-name%3D{service}");
    let of = |list: &Value| {
        let brief = |slice: &Value| {
            let ends = slice["endpoints"].as_array().into_iter().flatten();
            let ips: Vec<&str> = ends.filter_map(|end| end["addresses"][0].as_str()).collect();
            format!("{}: {}", slice["addressType"].as_str().unwrap_or_default(), ips.join(" "))
        };
        let mut all: Vec<String> = list["items"].as_array().into_iter().flatten().map(brief).collect();
        all.sort();
        all
    };
    cluster.admin.until(&path, &format!("slices {expected:?}"), |answer| of(&answer.body) == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_and_gives_back_its_second_family() {
    let cluster = Cluster::start_with(four_first).await;
    let admin = &cluster.admin;
    let spec = node(&cluster, "n").await;
    assert_eq!(
        (&spec["podCIDR"], &spec["podCIDRs"]),
        (&json!("10.244.0.0/24"), &json!(["10.244.0.0/24", "fd00:10:244::/64"]))
    );
    pod(&cluster, "a", &["10.244.0.5", "fd00:10:244::5"]).await;
    let made = admin.post(SERVICES, service("web", &json!({}))).await.expect(201);
    assert_eq!(
        (&made["spec"]["ipFamilyPolicy"], &made["spec"]["ipFamilies"]),
        (&json!("SingleStack"), &json!(["IPv4"]))
    );
    slices(&cluster, "web", &["IPv4: 10.244.0.5"]).await;
    let path = format!("{SERVICES}/web");
    let policy = |policy: &str| json!({"spec": {"ipFamilyPolicy": policy}});
    let both = admin.patch("merge", &path, policy("RequireDualStack")).await.expect(200);
    let (first, second) = (both["spec"]["clusterIPs"][0].clone(), both["spec"]["clusterIPs"][1].clone());
    assert_eq!((&first, &both["spec"]["clusterIP"]), (&made["spec"]["clusterIP"], &first));
    assert!(second.as_str().is_some_and(|ip| ip.starts_with("fd00:10:96::")), "{second}");
    slices(&cluster, "web", &["IPv4: 10.244.0.5", "IPv6: fd00:10:244::5"]).await;
    let twin = service("twin", &json!({ "clusterIP": second }));
    assert!(admin.post(SERVICES, twin.clone()).await.refused(422).contains("provided IP is already allocated"));
    let bare = admin.put(&path, service("web", &json!({}))).await.expect(200);
    assert_eq!(bare["spec"]["clusterIPs"], both["spec"]["clusterIPs"], "what is left out stays");
    let changed = json!({"spec": {"clusterIPs": [first, "fd00:10:96::77"]}});
    assert!(admin.patch("merge", &path, changed).await.refused(422).contains("may not change once set"));
    let one = admin.patch("merge", &path, policy("SingleStack")).await.expect(200);
    assert_eq!(one["spec"]["clusterIPs"], json!([first]));
    slices(&cluster, "web", &["IPv4: 10.244.0.5"]).await;
    let heir = admin.post(SERVICES, twin).await.expect(201);
    assert_eq!(heir["spec"]["ipFamilies"], json!(["IPv6"]));
    slices(&cluster, "twin", &["IPv6: fd00:10:244::5"]).await;
    let bound = json!({"spec": {"selector": null, "type": "ExternalName", "externalName": "a.b"}});
    let name = admin.patch("merge", &path, bound).await.expect(200);
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert_eq!(name["spec"][key], Value::Null, "{key}");
    }
    admin.post(SERVICES, service("heir", &json!({ "clusterIP": first }))).await.expect(201);
}

/// What a kubelet sends: two addresses of one type, where merging by the type would leave one.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_pods_have_an_address_of_each_family() {
    let cluster = Cluster::start_with(six_first).await;
    let admin = &cluster.admin;
    assert_eq!(node(&cluster, "n").await["podCIDRs"], json!(["fd00:10:244::/64", "10.244.0.0/24"]));
    let internal = |ip: &str| json!({"type": "InternalIP", "address": ip});
    let addresses = [json!({"$patch": "replace"}), internal("2001:db8::10"), internal("192.0.2.10")];
    let path = format!("{NODES}/n/status");
    for _ in 0..2 {
        let got = admin.patch("strategic-merge", &path, json!({"status": {"addresses": addresses}})).await.expect(200);
        assert_eq!(got["status"]["addresses"], json!(addresses[1..]));
    }
    pod(&cluster, "a", &["fd00:10:244::5", "10.244.0.5"]).await;
    let path = "/api/v1/namespaces/default/pods/a/status";
    let status = |pod_ips: &[&str]| {
        let ips: Vec<Value> = pod_ips.iter().map(|ip| json!({ "ip": ip })).collect();
        let replace = [vec![json!({"$patch": "replace"})], ips].concat();
        json!({"status": {"podIP": pod_ips[0], "podIPs": replace}})
    };
    let again = admin.patch("strategic-merge", path, status(&["fd00:10:244::6", "10.244.0.6"])).await.expect(200);
    assert_eq!(again["status"]["podIPs"], json!([{"ip": "fd00:10:244::6"}, {"ip": "10.244.0.6"}]));
    let older = admin.patch("merge", path, json!({"status": {"podIP": "fd00:10:244::7"}})).await.expect(200);
    assert_eq!(older["status"]["podIPs"], json!([{"ip": "fd00:10:244::7"}]), "the one address wins");
    let two = status(&["fd00:10:244::8", "fd00:10:244::9"]);
    let refused = admin.patch("strategic-merge", path, two).await.refused(422);
    assert!(refused.ends_with("may specify no more than one IP for each IP family"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_lives_in_ipv6_alone() {
    let cluster = Cluster::start_with(six_alone).await;
    let admin = &cluster.admin;
    assert!(cluster.address().is_ipv6(), "the certificate holds for the address that the client dialled");
    let kubernetes = admin.get(&format!("{SERVICES}/kubernetes")).await.expect(200);
    assert_eq!(kubernetes["spec"]["clusterIPs"], json!(["fd00:10:96::1"]));
    assert_eq!(
        (&kubernetes["spec"]["ipFamilies"], &kubernetes["spec"]["ipFamilyPolicy"]),
        (&json!(["IPv6"]), &json!("SingleStack"))
    );
    let slice = admin.get(&format!("{SLICES}/kubernetes")).await.expect(200);
    assert_eq!((&slice["addressType"], &slice["endpoints"][0]["addresses"]), (&json!("IPv6"), &json!(["2001:db8::1"])));
    let spec = node(&cluster, "n").await;
    assert_eq!((&spec["podCIDR"], &spec["podCIDRs"]), (&json!("fd00:10:244::/64"), &json!(["fd00:10:244::/64"])));
    pod(&cluster, "a", &["fd00:10:244::5"]).await;
    let preferred = service("web", &json!({"ipFamilyPolicy": "PreferDualStack", "type": "NodePort"}));
    let made = admin.post(SERVICES, preferred).await.expect(201);
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv6"]));
    slices(&cluster, "web", &["IPv6: fd00:10:244::5"]).await;
    let required = service("two", &json!({"ipFamilyPolicy": "RequireDualStack"}));
    let refused = admin.post(SERVICES, required).await.refused(422);
    assert_eq!(
        refused,
        "Service \"two\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
    );
    let four = service("four", &json!({"ipFamilies": ["IPv4"]}));
    assert!(admin.post(SERVICES, four).await.refused(422).contains("not configured on this cluster"));
    let headless = json!({"clusterIP": "None", "selector": {}});
    let headless = admin.post(SERVICES, service("headless", &headless)).await.expect(201);
    assert_eq!(headless["spec"]["ipFamilies"], json!(["IPv6", "IPv4"]), "whoever writes its endpoints may use both");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_gains_a_family_and_loses_it() {
    let cluster = Cluster::start().await;
    node(&cluster, "old").await;
    let preferred = service("web", &json!({"ipFamilyPolicy": "PreferDualStack"}));
    let before = cluster.admin.post(SERVICES, preferred).await.expect(201);
    assert_eq!(before["spec"]["ipFamilies"], json!(["IPv4"]));
    let cluster = cluster.restart_with(four_first).await;
    let path = format!("{SERVICES}/web");
    let labelled = cluster.admin.patch("merge", &path, json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    assert_eq!(labelled["spec"]["ipFamilies"], json!(["IPv4"]), "nobody asked for the second family");
    let required =
        json!({"metadata": {"finalizers": ["example.com/hold"]}, "spec": {"ipFamilyPolicy": "RequireDualStack"}});
    let both = cluster.admin.patch("merge", &path, required).await.expect(200);
    assert_eq!(both["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(node(&cluster, "new").await["podCIDRs"], json!(["10.244.1.0/24", "fd00:10:244::/64"]));
    let cluster = cluster.restart_with(|args| args.service_cidr = "10.96.0.0/16".parse().expect("a range")).await;
    let kept = cluster.admin.get(&path).await.expect(200);
    assert_eq!(kept["spec"]["clusterIPs"], both["spec"]["clusterIPs"]);
    let let_go = json!({"metadata": {"finalizers": null}});
    cluster.admin.delete(&path).await.expect(200);
    assert!(cluster.admin.get(&path).await.expect(200)["metadata"]["deletionTimestamp"].is_string());
    cluster.admin.patch("merge", &path, let_go).await.expect(200);
    cluster.admin.get(&path).await.refused(404);
    let (_directory, mut args) = cluster.stop().await;
    six_first(&mut args);
    let refused = Running::start(&args).await.err().expect("the Service's address cannot change").to_string();
    assert!(refused.starts_with("this cluster's kubernetes Service has the address 10.96.0.1, but --service-cidr fd00:10:96::/112,10.96.0.0/16 would give it fd00:10:96::1"), "{refused}");
}
