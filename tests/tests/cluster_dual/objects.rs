//! What the API tells of a dual-stack cluster, and what a pod is told of itself.
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, TcpStream},
    path::Path,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tests::Cluster;

/// How long a pod may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// The probe's port.
const TCP: u16 = 8080;

/// Nodes with two InternalIPs and two podCIDRs, pods with two addresses, each IPv4 first.
pub(crate) fn have_both_families(cluster: &Cluster) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("the kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a good kubeconfig")).expect("a client");
        nodes(&client).await;
        let pods: Api<Pod> = Api::namespaced(client, "default");
        of_the_network(cluster, &pods).await;
        of_the_node(&pods).await;
    });
}

async fn nodes(client: &Client) {
    for node in Api::<Node>::all(client.clone()).list(&ListParams::default()).await.expect("the nodes") {
        let name = node.metadata.name.unwrap_or_default();
        let number: u8 = name.trim_start_matches("node-").parse().expect("node-1 or node-2");
        let told = node.status.and_then(|status| status.addresses).unwrap_or_default();
        let internal: Vec<String> =
            told.into_iter().filter(|one| one.type_ == "InternalIP").map(|one| one.address).collect();
        assert_eq!(internal, addresses(number), "{name}");
        let spec = node.spec.unwrap_or_default();
        let cidrs = spec.pod_cidrs.unwrap_or_default();
        assert_eq!(cidrs.iter().map(|cidr| cidr.contains(':')).collect::<Vec<_>>(), [false, true], "{name}: {cidrs:?}");
        assert_eq!(spec.pod_cidr.as_ref(), cidrs.first(), "{name}");
    }
}

/// A node's on the fabric.
fn addresses(number: u8) -> Vec<String> {
    vec![format!("172.31.0.1{number}"), format!("fd00:172:31::1{number}")]
}

/// A pod is told of its addresses and its node's by the downward API and its hosts file, and answers on both.
async fn of_the_network(cluster: &Cluster, pods: &Api<Pod>) {
    let pod = ready(pods, &probe("both", TCP, false)).await;
    let (pod_ips, host_ips) = told(&pod);
    assert_eq!(host_ips, addresses(2));
    assert_eq!(pod_ips.iter().map(|ip| ip.contains(':')).collect::<Vec<_>>(), [false, true], "{pod_ips:?}");
    let uid = pod.metadata.uid.expect("a uid");
    let files = Path::new("/var/lib/weft/clusters").join(cluster.name()).join("nodes/node-2/node/pods").join(uid);
    let hosts = fs::read_to_string(files.join("etc/hosts")).expect("the pod's hosts file");
    assert!(hosts.ends_with(&format!("\n{}\tboth\n{}\tboth\n", pod_ips[0], pod_ips[1])), "{hosts}");
    let node = local_cluster::Cluster::running(cluster.name()).expect("it runs").node_netns("node-1").expect("it runs");
    for ip in &pod_ips {
        let ip: IpAddr = ip.parse().expect("an address");
        let answer = node.run(|| ask(ip)).expect("node-1's network");
        assert_eq!(
            (answer["pod"].as_str(), answer["node"].as_str()),
            (Some(&*pod_ips.join(",")), Some(&*host_ips.join(",")))
        );
    }
}

/// A pod on the host network has the node's addresses.
async fn of_the_node(pods: &Api<Pod>) {
    let (pod_ips, host_ips) = told(&ready(pods, &probe("hosted", 28_900, true)).await);
    assert_eq!((pod_ips, host_ips), (addresses(2), addresses(2)));
}

/// What the probe says who it is: here, its addresses and its node's.
fn ask(ip: IpAddr) -> Value {
    let mut stream = TcpStream::connect_timeout(&(ip, TCP).into(), Duration::from_secs(10)).expect("it listens");
    stream.write_all(b"who\n").expect("a question");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    serde_json::from_str(&line).expect("JSON")
}

fn probe(name: &str, port: u16, host_network: bool) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let ports = (port..).zip(["TCP_PORT", "UDP_PORT", "HTTP_PORT", "ECHO_PORT"]);
    let mut env: Vec<Value> = ports.map(|(port, name)| json!({"name": name, "value": port.to_string()})).collect();
    env.extend([field("POD_NAME", "status.podIPs"), field("NODE_NAME", "status.hostIPs")]);
    env.push(json!({"name": "LISTEN", "value": "::"}));
    json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": "node-2",
            "hostNetwork": host_network,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "probe",
                "image": "probe:1.0",
                "args": ["serve"],
                "env": env,
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": port + 2}, "periodSeconds": 1},
            }],
        },
    })
}

async fn ready(pods: &Api<Pod>, object: &Value) -> Pod {
    let pod: Pod = serde_json::from_value(object.clone()).expect("a pod");
    let name = pod.metadata.name.clone().expect("a name");
    pods.create(&PostParams::default(), &pod).await.expect("the pod is taken");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let pod = pods.get(&name).await.expect("the pod");
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        if conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True") {
            return pod;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name} is not ready: {:?}", pod.status);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// podIPs and hostIPs; podIP and hostIP are their first.
fn told(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let status = pod.status.clone().expect("a status");
    let pod_ips: Vec<String> = status.pod_ips.into_iter().flatten().map(|ip| ip.ip).collect();
    let host_ips: Vec<String> = status.host_ips.into_iter().flatten().map(|ip| ip.ip).collect();
    assert_eq!((status.pod_ip.as_ref(), status.host_ip.as_ref()), (pod_ips.first(), host_ips.first()));
    (pod_ips, host_ips)
}
