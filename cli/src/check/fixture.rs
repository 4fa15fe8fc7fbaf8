//! The check's own pods and Services: two probes a node, one of them on the host network somewhere, in a namespace of
//! their own that goes when the check ends.
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use local_cluster::{Cluster, Family, IpFamily, family::Station, netns::Netns};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    addresses::Addresses,
    caller::{CONTROL, Caller},
};

/// Probe's ports.
pub(super) const TCP: u16 = 8080;
/// UDP.
pub(super) const UDP: u16 = 8081;
/// Echo of numbered traffic, TCP and UDP.
pub(super) const ECHO: u16 = 8083;
/// Ports of the first fixture's probe on the host network: apart from everything else there.
const HOST_TCP: u16 = 28080;
/// Ports of a next fixture's: the pods of one that was removed may still be there.
const HOST_STEP: u16 = 10;
/// How long the pods may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the check dials.
pub(super) struct Fixture {
    /// Its namespace.
    pub namespace: String,
    /// Families of the cluster: everything below has an address of each.
    pub families: IpFamily,
    /// Probes on the pod network, each with a caller.
    pub pods: Vec<Caller>,
    /// Nodes as callers.
    pub nodes: Vec<Caller>,
    /// A client outside.
    pub outside: Caller,
    /// The namespace of `outside`.
    pub outside_netns: Arc<Netns>,
    /// Name and address of each Service, with what answers there.
    pub services: Vec<Served>,
    /// Address of the Service `kubernetes`, which has one family.
    pub kubernetes: IpAddr,
}

/// A Service of the fixture.
pub(super) struct Served {
    /// Name.
    pub name: String,
    /// ClusterIPs.
    pub addresses: Addresses,
    /// TCP port, UDP port.
    pub ports: (u16, u16),
    /// Node ports, if it has some.
    pub node_ports: Option<(u16, u16)>,
}

impl Fixture {
    /// Creates everything and waits until every probe is ready.
    pub(super) async fn create(client: &Client, cluster: &Cluster) -> anyhow::Result<Fixture> {
        static MADE: AtomicU16 = AtomicU16::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("weft-check-{}-{}", std::process::id(), number + 1);
        let nodes = nodes(client, cluster).await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        create(&namespaces, &json!({"metadata": {"name": namespace}})).await?;
        let made = build(client, cluster, (&namespace, HOST_TCP + number * HOST_STEP), nodes).await;
        if made.is_err() {
            let _ = namespaces.delete(&namespace, &DeleteParams::default()).await;
        }
        made
    }

    /// A promise about one family: of a cluster that has only IPv4 nobody needs to be told.
    pub(super) fn promise(&self, text: &str, family: Family) -> String {
        match (self.families, family) {
            (IpFamily::Ipv4, _) => text.to_owned(),
            (_, Family::V4) => format!("{text} (IPv4)"),
            (_, Family::V6) => format!("{text} (IPv6)"),
        }
    }

    /// Drops what stands on a node, with its hold on the node's network.
    pub(super) fn forget(&mut self, node: &str) {
        self.pods.retain(|caller| caller.node != node);
        self.nodes.retain(|caller| caller.node != node);
    }

    /// Asks for the namespace's removal; the namespace controller does the rest.
    pub(super) async fn remove(&self, client: &Client) {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if let Err(error) = namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            eprintln!("weft check: namespace {} was not removed: {error}", self.namespace);
        }
    }
}

async fn build(
    client: &Client,
    cluster: &Cluster,
    (namespace, host_port): (&str, u16),
    nodes: Vec<Caller>,
) -> anyhow::Result<Fixture> {
    let families = cluster.spec.ip_family;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    for (name, kind, role) in
        [("inner", "ClusterIP", "pod"), ("outer", "NodePort", "pod"), ("hosted", "ClusterIP", "host")]
    {
        let host = (role == "host").then_some(host_port);
        create(&services, &service(name, kind, host, families)).await?;
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for node in &nodes {
        for number in 1..=2 {
            create(&pods, &pod(&format!("probe-{number}-{}", node.node), &node.node, None, families)).await?;
        }
    }
    let last = nodes.last().context("the cluster has no nodes")?;
    create(&pods, &pod("probe-host", &last.node, Some(host_port), families)).await?;
    let ready = wait_ready(&pods, nodes.len() * 2 + 1).await?;
    let outside_netns = Arc::new(cluster.outside()?);
    let kubernetes: Api<Service> = Api::namespaced(client.clone(), "default");
    Ok(Fixture {
        namespace: namespace.to_owned(),
        families,
        pods: callers(cluster, &ready)?,
        nodes,
        outside: Caller::host(
            "outside",
            Addresses::given(families.addresses(Station::Outside)),
            "",
            Arc::clone(&outside_netns),
        ),
        outside_netns,
        services: services
            .list(&ListParams::default())
            .await?
            .iter()
            .map(|service| served(service, families))
            .collect::<anyhow::Result<_>>()?,
        kubernetes: cluster_ip(&kubernetes.get("kubernetes").await?)?,
    })
}

async fn create<K>(api: &Api<K>, object: &Value) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let typed: K = serde_json::from_value(object.clone()).context("the check's own object")?;
    api.create(&PostParams::default(), &typed)
        .await
        .with_context(|| format!("creating {}", object["metadata"]["name"]))?;
    Ok(())
}

/// A Service of the probes on the pod network, or of the one on the host network at that port.
fn service(name: &str, kind: &str, host: Option<u16>, families: IpFamily) -> Value {
    let first = host.unwrap_or(TCP);
    let service = json!({
        "metadata": {"name": name},
        "spec": {
            "type": kind,
            "selector": {"probe": if host.is_some() { "host" } else { "pod" }},
            "ports": [
                {"name": "tcp", "protocol": "TCP", "port": 80, "targetPort": first},
                {"name": "udp", "protocol": "UDP", "port": 81, "targetPort": first + (UDP - TCP)},
            ],
        },
    });
    in_families(service, families)
}

/// A Service with an address in each of the families, whatever the cluster would have given it.
pub(super) fn in_families(mut service: Value, families: IpFamily) -> Value {
    if families == IpFamily::Dual {
        service["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
    }
    service
}

/// Where a server of these families listens: IPv6's wildcard takes both.
pub(super) fn listen(families: IpFamily) -> &'static str {
    if families.has(Family::V6) { "::" } else { "0.0.0.0" }
}

fn pod(name: &str, node: &str, host: Option<u16>, families: IpFamily) -> Value {
    let first = host.unwrap_or(TCP);
    let control = first + (CONTROL - TCP);
    let listen = listen(families);
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "metadata": {"name": name, "labels": {"probe": if host.is_some() { "host" } else { "pod" }, "node": node}},
        "spec": {
            "nodeName": node,
            "hostNetwork": host.is_some(),
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "probe",
                "image": "probe:1.0",
                "args": ["serve"],
                "env": [
                    field("POD_NAME", "metadata.name"),
                    field("NODE_NAME", "spec.nodeName"),
                    {"name": "LISTEN", "value": listen},
                    {"name": "TCP_PORT", "value": first.to_string()},
                    {"name": "UDP_PORT", "value": (first + 1).to_string()},
                    {"name": "HTTP_PORT", "value": control.to_string()},
                    {"name": "ECHO_PORT", "value": (first + (ECHO - TCP)).to_string()},
                ],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": control}, "periodSeconds": 1},
            }],
        },
    })
}

async fn wait_ready(pods: &Api<Pod>, wanted: usize) -> anyhow::Result<Vec<Pod>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = pods.list(&ListParams::default()).await?.items;
        let waiting: Vec<String> = list.iter().filter(|pod| !is_ready(pod)).map(why_not).collect();
        if list.len() == wanted && waiting.is_empty() {
            return Ok(list);
        }
        if Instant::now() > deadline {
            bail!("not ready after {} s: {}", PATIENCE.as_secs(), waiting.join("; "));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn why_not(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or("?");
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let waiting = containers.iter().find_map(|container| container.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.message.clone().or_else(|| waiting.reason.clone()));
    let phase = status.and_then(|status| status.phase.clone());
    format!("{name}: {}", reason.or(phase).unwrap_or_else(|| "no status".into()))
}

fn callers(cluster: &Cluster, pods: &[Pod]) -> anyhow::Result<Vec<Caller>> {
    let mut netns: BTreeMap<String, Arc<Netns>> = BTreeMap::new();
    let mut callers = Vec::new();
    for pod in pods {
        let spec = pod.spec.as_ref().context("a pod has a spec")?;
        if spec.host_network == Some(true) {
            continue;
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let node = spec.node_name.as_deref().with_context(|| format!("{name} has no node"))?;
        let told = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|ip| ip.ip.as_str());
        let addresses = Addresses::read(&format!("pod {name}"), cluster.spec.ip_family, told)?;
        if !netns.contains_key(node) {
            netns.insert(node.to_owned(), Arc::new(cluster.node_netns(node)?));
        }
        callers.push(Caller::pod(name, addresses, node, Arc::clone(&netns[node])));
    }
    Ok(callers)
}

async fn nodes(client: &Client, cluster: &Cluster) -> anyhow::Result<Vec<Caller>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut callers = Vec::new();
    for node in nodes.list(&ListParams::default()).await? {
        let name = node.metadata.name.unwrap_or_default();
        let told = node.status.and_then(|status| status.addresses).unwrap_or_default();
        let internal = told.iter().filter(|address| address.type_ == "InternalIP");
        let internal = internal.map(|address| address.address.as_str());
        let addresses = Addresses::read(&format!("node {name}"), cluster.spec.ip_family, internal)?;
        callers.push(Caller::host(&name, addresses, &name, Arc::new(cluster.node_netns(&name)?)));
    }
    Ok(callers)
}

/// The ClusterIP of the Service's first family.
fn cluster_ip(service: &Service) -> anyhow::Result<IpAddr> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    let address = address.with_context(|| format!("Service {name} has no ClusterIP"))?;
    address.parse().with_context(|| format!("Service {name} has the ClusterIP {address}"))
}

fn served(service: &Service, families: IpFamily) -> anyhow::Result<Served> {
    let name = service.metadata.name.clone().unwrap_or_default();
    let spec = service.spec.as_ref().with_context(|| format!("Service {name} has no spec"))?;
    let told = spec.cluster_ips.iter().flatten().map(String::as_str);
    let ports = spec.ports.as_deref().unwrap_or_default();
    let node_port = |index: usize| ports.get(index).and_then(|port| port.node_port).map(|port| port as u16);
    Ok(Served {
        addresses: Addresses::read(&format!("Service {name}"), families, told)?,
        name,
        ports: (80, 81),
        node_ports: node_port(0).zip(node_port(1)),
    })
}
