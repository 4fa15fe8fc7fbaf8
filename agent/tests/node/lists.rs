//! What people see of a node: its pods, routes, flows, tables and metrics.
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use agent_api::{
    AgentClient, CniClient,
    v1::{
        Flow, FlowListRequest, MonitorRequest, PodListRequest, RouteListRequest, StatusRequest,
        pod_list_reply::HostPort,
    },
};
use serde_json::json;
use tonic::Code;

use crate::{Namespace, Node, PODS, SECOND, on_a_node, pod, reaches, request, serve};

pub(crate) const METRICS: &str = "127.0.0.1:9965";

/// A pod with a host port and limits: one of the runtime's, one of its annotations.
async fn wishful(node: &Node) -> Namespace {
    let namespace = Namespace::new();
    let mut object = pod("w", "");
    object["metadata"]["annotations"] = json!({ "kubernetes.io/egress-bandwidth": "10M" });
    node.api.put(PODS, object);
    let config = json!({ "cniVersion": "1.1.0", "name": "weft", "type": "weft-cni", "runtimeConfig": {
        "portMappings": [{ "hostPort": 8088, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 2_000_000, "ingressBurst": 8_000_000 } } });
    let request = agent_api::v1::CniRequest { config_json: config.to_string(), ..request("w", &namespace) };
    let reply = CniClient::new(node.channel().await).add(request).await.expect("served").into_inner();
    assert_eq!(reply.error, None);
    namespace
}

pub(crate) fn scrape() -> String {
    let mut stream = TcpStream::connect(METRICS).expect("it listens");
    stream.set_read_timeout(Some(10 * SECOND)).expect("set");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    text
}

#[track_caller]
fn says(metrics: &str, series: &str, holds: impl Fn(u64) -> bool) {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    assert!(value.is_some_and(holds), "{series}: {value:?} in\n{metrics}");
}

async fn flows(node: &Node, pod: &str) -> Vec<Flow> {
    let request = FlowListRequest { pod: pod.to_owned(), limit: 0 };
    let mut stream = AgentClient::new(node.channel().await).flow_list(request).await.expect("served").into_inner();
    let mut flows = Vec::new();
    while let Some(flow) = stream.message().await.expect("read") {
        flows.push(flow);
    }
    flows
}

async fn pods_and_routes(node: &Node, a_address: Ipv4Addr) {
    let mut agent = AgentClient::new(node.channel().await);
    let pods = agent.pod_list(PodListRequest {}).await.expect("served").into_inner().pods;
    let [a, w] = ["a", "w"].map(|name| pods.iter().find(|pod| pod.name == name).expect("listed"));
    assert!(a.ready && a.addresses == [a_address.to_string()] && a.mac.len() == 17, "{a:?}");
    assert_eq!((a.host_ports.len(), a.ingress_limit, a.egress_limit), (0, 0, 0));
    let port = HostPort { host_ip: String::new(), port: 8088, container_port: 80, proto: "tcp".into() };
    assert_eq!((w.ingress_limit, w.egress_limit, w.host_ports.as_slice()), (2_000_000, 10_000_000, &[port][..]));

    let routes = agent.route_list(RouteListRequest {}).await.expect("served").into_inner().routes;
    let words: Vec<_> = routes.iter().map(|route| (route.prefix.as_str(), route.flags.join(","))).collect();
    for (prefix, flags) in [("10.244.0.0/24", "local,pods"), ("172.31.0.11/32", "local,node-address")] {
        assert!(words.contains(&(prefix, flags.to_owned())), "{prefix} in {words:?}");
    }
}

async fn tables_and_metrics(node: &Node) {
    let status = AgentClient::new(node.channel().await).status(StatusRequest {}).await.expect("served").into_inner();
    for name in
        "FLOWS HALFOPEN FRAGS PODS SERVICES BACKENDS SLOTS ROUTES NODES POLICY PEERS CIDRS".split_ascii_whitespace()
    {
        assert!(status.tables.iter().any(|table| table.name == name && table.max > table.used), "{name}: {status:?}");
    }
    let range = &status.addresses[0];
    assert_eq!((range.family.as_str(), range.range.as_str(), range.used), ("ipv4", "10.244.0.0/24", 3));
    assert_eq!((range.capacity, status.reasons.len()), (253, 0));

    // The agent is on this very thread.
    let metrics = tokio::task::spawn_blocking(scrape).await.expect("a scrape");
    says(&metrics, "weft_table_entries{table=\"FLOWS\"}", |rows| rows > 0);
    says(&metrics, "weft_table_capacity{table=\"FLOWS\"}", |room| room == u64::from(abi::map::FLOWS.max_entries));
    says(&metrics, "weft_addresses_used{family=\"ipv4\"}", |used| used == 3);
    says(&metrics, "weft_addresses_capacity{family=\"ipv4\"}", |all| all == 253);
    says(&metrics, "weft_packets_total{hook=\"from_pod\"}", |packets| packets > 0);
    let dropped = "{hook=\"from_pod\",reason=\"spoofed_source\"}";
    says(&metrics, &format!("weft_dropped_packets_total{dropped}"), |packets| packets > 0);
    says(&metrics, &format!("weft_dropped_bytes_total{dropped}"), |bytes| bytes > 40);
}

#[test]
fn everything_that_is_asked_is_told() {
    on_a_node(async |directory: PathBuf, _outside: Arc<Namespace>| {
        let node = Node::start(&directory, &["--metrics-listen", METRICS]).await;
        let (a, a_address) = node.pod("a").await;
        let (b, b_address) = node.pod("b").await;
        let _w = wishful(&node).await;
        serve(&b, b_address, 8080);
        reaches(&a, b_address, 8080, a_address);
        // An address that is not the pod's own: its first packet is dropped.
        a.run("ip addr add 10.99.9.9/32 dev eth0");
        let ping = format!("ping -c 1 -W 1 -I 10.99.9.9 {b_address}");
        let _ = a.within(move || std::process::Command::new("busybox").args(ping.split(' ')).output());

        pods_and_routes(&node, a_address).await;
        let of_a = flows(&node, "default/a").await;
        let is = |flow: &Flow| flow.destination.as_ref().is_some_and(|end| end.name == "default/b" && end.port == 8080);
        assert_eq!(of_a.iter().filter(|flow| is(flow)).count(), 1, "{of_a:?}");
        assert_eq!(flows(&node, "default/w").await, [], "it has said nothing");
        tables_and_metrics(&node).await;

        let kinds = |kind: &str| MonitorRequest { kinds: vec![kind.to_owned()], pod: String::new() };
        let mut agent = AgentClient::new(node.channel().await);
        // New flows are told of as soon as somebody asks, and of this agent nobody has before.
        let mut flows = agent.monitor(kinds("flow")).await.expect("served").into_inner();
        reaches(&a, b_address, 8080, a_address);
        let event = tokio::time::timeout(5 * SECOND, flows.message()).await.expect("in time").expect("read");
        let event = event.expect("the stream goes on");
        let ends = [event.source, event.destination].map(|end| end.map(|end| end.name).unwrap_or_default());
        assert_eq!((event.kind.as_str(), ends), ("flow", ["default/a".to_owned(), "default/b".to_owned()]));
        assert_eq!(agent.monitor(kinds("drops")).await.expect_err("no such kind").code(), Code::InvalidArgument);
    });
}
