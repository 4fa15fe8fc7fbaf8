//! The whole agent on a node of its own: real devices, the real programs, pods in real namespaces, and packets between
//! them. Needs root; the API server is a small one of the test's own.
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use agent::Args;
use agent_api::{
    AgentClient, CniClient,
    v1::{CniReply, CniRequest, Event, MonitorRequest, StatusRequest, TableDumpRequest},
};
use clap::Parser;
use serde_json::json;
use tonic::transport::Channel;

mod api;
mod flows;
mod follow;
mod leaks;
mod lists;
mod namespaces;

use api::Api;
use namespaces::{Namespace, node};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

const PODS: &str = "/api/v1/pods";
const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const SECOND: Duration = Duration::from_secs(1);

/// A node with its agent.
struct Node {
    directory: PathBuf,
    api: Api,
    server: SocketAddr,
    agent: tokio::task::JoinHandle<()>,
    extra: &'static [&'static str],
}

impl Node {
    async fn start(directory: &Path, extra: &'static [&'static str]) -> Node {
        let (api, server) = Api::start().await;
        api.put(
            "/api/v1/nodes",
            json!({ "metadata": { "name": "n1" }, "spec": { "podCIDR": "10.244.0.0/24" },
            "status": { "addresses": [{ "type": "InternalIP", "address": "172.31.0.11" }] } }),
        );
        api.put("/api/v1/namespaces", json!({ "metadata": { "name": "default", "labels": {} } }));
        let agent = launch(directory, server, extra);
        let node = Node { directory: directory.into(), api, server, agent, extra };
        node.wait_ready().await;
        node
    }

    /// The agent dies without a word, and another one starts.
    async fn restart(&mut self) {
        self.agent.abort();
        let _ = (&mut self.agent).await;
        std::fs::remove_file(self.directory.join("cni/05-weft.conflist")).expect("it was there");
        self.agent = launch(&self.directory, self.server, self.extra);
        self.wait_ready().await;
    }

    async fn wait_ready(&self) {
        let conflist = self.directory.join("cni/05-weft.conflist");
        wait_for("the CNI configuration", || conflist.exists()).await;
    }

    async fn channel(&self) -> Channel {
        agent_api::connect(self.directory.join("agent.sock")).await.expect("the socket is served")
    }

    async fn add(&self, name: &str, namespace: &Namespace) -> CniReply {
        let request = request(name, namespace);
        CniClient::new(self.channel().await).add(request).await.expect("served").into_inner()
    }

    async fn del(&self, name: &str, namespace: &Namespace) -> CniReply {
        CniClient::new(self.channel().await).del(request(name, namespace)).await.expect("served").into_inner()
    }

    /// A pod with its object and its interface.
    async fn pod(&self, name: &str) -> (Namespace, Ipv4Addr) {
        let namespace = Namespace::new();
        self.api.put(PODS, pod(name, ""));
        let reply = self.add(name, &namespace).await;
        assert_eq!(reply.error, None);
        let address = reply.result.expect("no error").ips[0].address.clone();
        let address: Ipv4Addr = address.trim_end_matches("/32").parse().expect("an address");
        self.api.put(PODS, pod(name, &address.to_string()));
        (namespace, address)
    }

    async fn table(&self, name: &str) -> String {
        let request = TableDumpRequest { tables: vec![name.to_owned()] };
        let mut stream = AgentClient::new(self.channel().await).table_dump(request).await.expect("served").into_inner();
        stream.message().await.expect("read").expect("one table").text
    }
}

fn launch(directory: &Path, server: SocketAddr, extra: &[&str]) -> tokio::task::JoinHandle<()> {
    let at = |name: &str| directory.join(name).display().to_string();
    let kubeconfig = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{server}") } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }] });
    std::fs::write(at("kubeconfig"), kubeconfig.to_string()).expect("written");
    let metrics = if extra.contains(&"--metrics-listen") { &[][..] } else { &["--metrics-listen", "127.0.0.1:0"] };
    let words = ["agent", "--node-name", "n1"].iter().chain(metrics).map(|word| (*word).to_owned());
    let paths = [
        ("--kubeconfig", "kubeconfig"),
        ("--state-dir", "state"),
        ("--socket", "agent.sock"),
        ("--bpffs", "bpf"),
        ("--cni-conf-dir", "cni"),
        ("--cni-bin-dir", "bin"),
    ];
    let paths = paths.into_iter().flat_map(|(flag, name)| [flag.to_owned(), at(name)]);
    let command = Command::parse_from(words.chain(paths).chain(extra.iter().map(|word| (*word).to_owned())));
    tokio::spawn(async move {
        if let Err(error) = agent::run(command.args).await {
            panic!("{}", agent::chain(&error));
        }
    })
}

fn pod(name: &str, address: &str) -> serde_json::Value {
    json!({ "metadata": { "name": name, "namespace": "default", "uid": format!("u-{name}"), "labels": { "app": name } },
        "spec": { "nodeName": "n1", "containers": [] }, "status": { "phase": "Running", "podIP": address } })
}

fn request(name: &str, namespace: &Namespace) -> CniRequest {
    let args = [("K8S_POD_NAMESPACE", "default"), ("K8S_POD_NAME", name), ("K8S_POD_UID", &format!("u-{name}"))];
    CniRequest {
        container_id: format!("c-{name}"),
        netns: namespace.path.display().to_string(),
        ifname: "eth0".into(),
        args: args.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        timeout_ms: 5_000,
        ..CniRequest::default()
    }
}

/// Serves one connection after another: tells the client who it is.
fn serve(namespace: &Namespace, address: Ipv4Addr, port: u16) {
    let (tell, told) = std::sync::mpsc::channel();
    namespace.spawn(move || {
        let listener = TcpListener::bind((address, port)).expect("a port");
        tell.send(()).expect("listening");
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
    told.recv().expect("it listens");
}

/// Who the server says we are.
fn call(address: Ipv4Addr, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), SECOND).ok()?;
    stream.set_read_timeout(Some(SECOND)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[track_caller]
fn reaches(from: &Namespace, to: Ipv4Addr, port: u16, as_whom: Ipv4Addr) {
    // A busy machine may be late; a packet that is refused stays refused.
    let answer = from.within(move || (0..5).find_map(|_| call(to, port)));
    assert_eq!(answer, Some(as_whom.to_string()));
}

async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + 60 * SECOND;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(SECOND / 50).await;
    }
}

/// Runs a test on a node of its own.
fn on_a_node<Fut: Future<Output = ()>>(test: impl FnOnce(PathBuf, Arc<Namespace>) -> Fut + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this test makes network namespaces and loads BPF programs, which needs root");
        return;
    }
    let filter = tracing_subscriber::EnvFilter::from_env("WEFT_LOG");
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_path_buf();
    node(&directory.path().join("bpf"), move |outside| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        // The other end of the NIC's wire: it must outlive the test.
        let outside = Arc::new(outside);
        runtime.block_on(test(path, outside.clone()));
    });
}

async fn pods_reach_each_other(directory: PathBuf, outside: Arc<Namespace>, extra: &'static [&'static str]) {
    let mut node = Node::start(&directory, extra).await;
    let (a, a_address) = node.pod("a").await;
    let (b, b_address) = node.pod("b").await;
    serve(&b, b_address, 8080);
    reaches(&a, b_address, 8080, a_address);
    a.run(&format!("busybox ping -c 1 -W 1 {b_address}"));
    let (host_sees, gateway) = (call(b_address, 8080), Ipv4Addr::new(172, 31, 0, 11));
    assert_eq!(host_sees, Some(gateway.to_string()), "the host reaches pods as itself");
    a.run("busybox ping -c 1 -W 1 172.31.0.11");
    serve(&outside, [172, 31, 0, 2].into(), 8080);
    reaches(&a, [172, 31, 0, 2].into(), 8080, gateway);

    // A connection outlives its agent.
    let listener = b.within(move || TcpListener::bind((b_address, 9090)).expect("a port"));
    let mut client = a.within(move || TcpStream::connect((b_address, 9090)).expect("connected"));
    let (mut server, _) = listener.accept().expect("accepted");
    node.restart().await;
    client.write_all(b"still here").expect("sent");
    server.set_read_timeout(Some(SECOND)).expect("set");
    let mut bytes = [0; 10];
    server.read_exact(&mut bytes).expect("received");
    assert_eq!(&bytes, b"still here");
    reaches(&a, b_address, 8080, a_address);

    // A second ADD without a DEL is refused and leaves the first one's alone; DEL is idempotent.
    let again = node.add("a", &a).await.error.expect("refused");
    assert_eq!(again.code, agent_api::code::INVALID_ENVIRONMENT);
    reaches(&a, b_address, 8080, a_address);
    assert_eq!(node.del("b", &b).await.error, None);
    assert_eq!(node.del("b", &b).await.error, None);
    wait_for("the row to be free", || a.within(move || call(b_address, 8080)).is_none()).await;
}

#[test]
fn pods_reach_each_other_by_tcx() {
    on_a_node(|directory, outside| pods_reach_each_other(directory, outside, &["--attach", "tcx"]));
}

#[test]
fn pods_reach_each_other_by_clsact() {
    on_a_node(|directory, outside| pods_reach_each_other(directory, outside, &["--attach", "clsact"]));
}

#[test]
fn a_policy_refuses_and_the_drop_says_whose() {
    on_a_node(|directory, _outside| async move {
        let node = Node::start(&directory, &[]).await;
        let (a, a_address) = node.pod("a").await;
        let (b, b_address) = node.pod("b").await;
        let (thief, _) = node.pod("thief").await;
        serve(&b, b_address, 8080);
        node.api.put(
            POLICIES,
            json!({ "metadata": { "name": "only-a", "namespace": "default" }, "spec": {
            "podSelector": { "matchLabels": { "app": "b" } },
            "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "a" } } }] }] } }),
        );
        let mut monitor = AgentClient::new(node.channel().await);
        let mut events = monitor.monitor(MonitorRequest::default()).await.expect("served").into_inner();
        while !node.table("POD").await.contains("isolated even ingress") {
            tokio::time::sleep(SECOND / 50).await;
        }
        reaches(&a, b_address, 8080, a_address);
        assert_eq!(thief.within(move || call(b_address, 8080)), None);
        let is = |event: &Event| event.policies == ["default/only-a"];
        let event = loop {
            let event = tokio::time::timeout(5 * SECOND, events.message()).await.expect("in time").expect("read");
            let event = event.expect("the stream goes on");
            if is(&event) {
                break event;
            }
        };
        assert_eq!(event.reason, "policy_denied_ingress");
        assert_eq!(event.source.expect("set").name, "default/thief");
        let destination = event.destination.expect("set");
        assert_eq!((destination.name.as_str(), destination.port), ("default/b", 8080));
        // The policy goes, and so does what it refused.
        node.api.remove(POLICIES, "default", "only-a");
        wait_for("the thief to pass", || thief.within(move || call(b_address, 8080)).is_some()).await;
    });
}

#[test]
fn services_lead_to_their_pods() {
    on_a_node(|directory, outside| async move {
        let node = Node::start(&directory, &[]).await;
        let (a, a_address) = node.pod("a").await;
        let (b, b_address) = node.pod("b").await;
        serve(&b, b_address, 8080);
        node.api.put(
            "/apis/discovery.k8s.io/v1/endpointslices",
            json!({ "addressType": "IPv4",
            "metadata": { "name": "web-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
            "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
            "endpoints": [{ "addresses": [b_address.to_string()], "nodeName": "n1" }] }),
        );
        node.api.put(
            "/api/v1/services",
            json!({ "metadata": { "name": "web", "namespace": "default" },
            "spec": { "type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{ "port": 80, "nodePort": 30080 }] } }),
        );
        let service = Ipv4Addr::new(10, 96, 0, 9);
        let from_pod = || a.within(move || call(service, 80));
        wait_for("the service", || from_pod().is_some()).await;
        assert_eq!(from_pod(), Some(a_address.to_string()), "a pod keeps its address on the way to a ClusterIP");
        assert!(call(service, 80).is_some(), "from the host");
        let own = Ipv4Addr::new(172, 31, 0, 11);
        assert!(outside.within(move || call(own, 30080)).is_some(), "a node port from outside");
        assert!(a.within(move || call(own, 30080)).is_some(), "a node port from a pod");
        assert!(b.within(move || call(service, 80)).is_some(), "a pod reaches itself by its service");
        let status =
            AgentClient::new(node.channel().await).status(StatusRequest {}).await.expect("served").into_inner();
        assert!(status.ready && status.issues.is_empty(), "{status:?}");
    });
}

#[test]
fn a_pod_that_nobody_knows_has_no_interface() {
    on_a_node(|directory, _outside| async move {
        let node = Node::start(&directory, &[]).await;
        let namespace = Namespace::new();
        let error = node.add("stranger", &namespace).await.error.expect("refused");
        assert_eq!(error.code, agent_api::code::TRY_LATER);
        assert!(error.details.contains("has not told of this pod"), "{}", error.details);
        let left = namespace.within(|| UdpSocket::bind("10.244.0.2:1").is_ok());
        assert!(!left, "nothing is left of it");
        let deadline = Instant::now() + 5 * SECOND;
        while node.table("POD").await.lines().filter(|line| line.contains("device")).count() != 1 {
            assert!(Instant::now() < deadline, "only the host should be left");
            tokio::time::sleep(SECOND / 50).await;
        }
    });
}

#[test]
fn cleanup_leaves_nothing() {
    on_a_node(|directory, _outside| async move {
        let node = Node::start(&directory, &["--attach", "clsact"]).await;
        let (_a, _) = node.pod("a").await;
        node.agent.abort();
        let args = agent::cleanup::Args {
            bpffs: directory.join("bpf"),
            cni_conf_dir: directory.join("cni"),
            cni_bin_dir: directory.join("bin"),
            state_dir: directory.join("state"),
            socket: directory.join("agent.sock"),
            kubeconfig: None,
            node_name: None,
        };
        for _twice in 0..2 {
            agent::cleanup::run(args.clone()).await.expect("everything goes");
        }
        let output = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let output = std::process::Command::new(words[0]).args(&words[1..]).output().expect("iproute2");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(!output("ip link").contains("weft"), "{}", output("ip link"));
        assert!(!output("ip route").contains("weft"), "{}", output("ip route"));
        assert_eq!(output("tc filter show dev nic0 ingress"), "");
        assert_eq!(output("tc filter show dev nic0 egress"), "");
        assert!(!output("tc qdisc show dev nic0").contains("clsact"), "the qdisc was ours");
        assert!(!directory.join("bpf/weft").exists(), "pins are left");
        assert!(!directory.join("state").exists() && !directory.join("agent.sock").exists());
        assert!(!directory.join("cni/05-weft.conflist").exists());
    });
}

#[test]
fn the_other_way_of_attaching_takes_over() {
    on_a_node(|directory, _outside| async move {
        let mut node = Node::start(&directory, &["--attach", "clsact"]).await;
        let (a, a_address) = node.pod("a").await;
        let (b, b_address) = node.pod("b").await;
        serve(&b, b_address, 8080);
        for extra in [&["--attach", "tcx"], &["--attach", "clsact"]] {
            node.extra = extra;
            node.restart().await;
            reaches(&a, b_address, 8080, a_address);
            let status = AgentClient::new(node.channel().await).status(StatusRequest {}).await.expect("served");
            let tcx = extra.contains(&"tcx");
            assert_eq!(status.into_inner().hooks.len(), if tcx { 8 } else { 0 }, "pins of the other way are gone");
            let output = std::process::Command::new("tc").args(["filter", "show", "dev", "nic0", "ingress"]).output();
            assert_eq!(output.expect("iproute2").stdout.is_empty(), tcx, "filters of the other way are gone");
        }
    });
}
