//! Nodes for tests: each a thread with a network and mounts of its own, the real agent as a process, and an API server of a
//! few lines. Two of them share a wire.
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tests::built::program;

use crate::{
    api::Api,
    namespaces::{Namespace, sh},
};

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/pods";
const PATIENCE: Duration = Duration::from_secs(30);

type Work = Box<dyn FnOnce() + Send>;

/// A node. Its agent ends with it, and so does everything else of it.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) api: Api,
    agent: Option<Child>,
    server: SocketAddr,
    work: mpsc::Sender<Work>,
    thread: i32,
    _end: mpsc::Sender<()>,
}

impl Node {
    /// A node with a network of its own and no wire yet.
    pub(crate) fn new(number: u8) -> Node {
        let directory = tempfile::tempdir().expect("a directory");
        let bpf = directory.path().join("bpf");
        let (work, orders) = mpsc::channel::<Work>();
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            own_world(&bpf);
            let (api, server) = serve(ended);
            tell.send((nix::unistd::gettid().as_raw(), api, server)).expect("listening");
            orders.iter().for_each(|work| work());
        });
        let (thread, api, server) = told.recv().expect("it lives");
        Node { number, directory, api, agent: None, server, work, thread, _end: end }
    }

    /// Two nodes on one wire, which know of each other.
    pub(crate) fn two() -> [Node; 2] {
        let nodes = [Node::new(1), Node::new(2)];
        let peer = nodes[1].thread;
        nodes[0].within(move || sh(&format!("ip link add nic0 type veth peer name nic0 netns {peer}")));
        nodes.iter().for_each(Node::address_nic);
        for node in &nodes {
            node.know(1);
            node.know(2);
        }
        nodes
    }

    /// One node, and the machine at the other end of its wire, 172.31.0.2.
    pub(crate) fn one() -> (Node, Namespace) {
        let (node, outside) = (Node::new(1), Namespace::new());
        let path = outside.path.display().to_string();
        let thread = path.split('/').nth(4).expect("a thread").to_owned();
        node.within(move || sh(&format!("ip link add nic0 type veth peer name wire0 netns {thread}")));
        node.address_nic();
        outside.run("ip addr add 172.31.0.2/24 dev wire0");
        outside.run("ip link set wire0 up");
        node.within(|| sh("ip route add default via 172.31.0.2"));
        node.know(1);
        (node, outside)
    }

    fn address_nic(&self) {
        let number = self.number;
        self.within(move || {
            sh(&format!("ip addr add 172.31.0.1{number}/24 dev nic0"));
            sh("ip link set nic0 up");
        });
    }

    fn know(&self, number: u8) {
        let name = format!("n{number}");
        let status = json!({ "addresses": [{ "type": "InternalIP", "address": format!("172.31.0.1{number}") }] });
        let spec = json!({ "podCIDR": format!("10.244.{number}.0/24") });
        self.api.put(NODES, json!({ "metadata": { "name": name }, "spec": spec, "status": status }));
        self.api.put("/api/v1/namespaces", json!({ "metadata": { "name": "default", "labels": {} } }));
    }

    /// Does something as this node, in its network and mounts.
    pub(crate) fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let work = Box::new(move || {
            // The caller's failure is its own.
            let _ = tell.send(work());
        });
        self.work.send(work).expect("the node lives");
        told.recv().expect("no panic in the node")
    }

    /// What a program says when this node runs it.
    pub(crate) fn run(&self, line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let output: Output = self.within(move || Command::new(&words[0]).args(&words[1..]).output().expect("it runs"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts the agent with these flags more, and waits until it has written the CNI configuration.
    pub(crate) fn start_agent(&mut self, flags: &[&str]) {
        self.start_program("weft", flags);
    }

    /// The same with an agent whose flow tables have the former layout.
    pub(crate) fn start_former_agent(&mut self) {
        self.start_program("weft-former", &[]);
    }

    fn start_program(&mut self, name: &str, flags: &[&str]) {
        let conflist = self.path("cni/05-weft.conflist");
        let _ = std::fs::remove_file(&conflist);
        let kubeconfig = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{}", self.server) } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }] });
        std::fs::write(self.path("kubeconfig"), kubeconfig.to_string()).expect("written");
        let mut weft = Command::new(program(name));
        weft.args(["agent", "--node-name", &format!("n{}", self.number), "--metrics-listen", "127.0.0.1:0"])
            .args(flags);
        weft.arg("--kubeconfig").arg(self.path("kubeconfig")).args(self.places());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        weft.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.agent = Some(self.within(move || weft.spawn().expect("weft starts")));
        self.wait_for("the CNI configuration", || conflist.exists());
    }

    /// Flags that say where this node has its things.
    pub(crate) fn places(&self) -> Vec<String> {
        let places = [
            ("--state-dir", "state"),
            ("--socket", "agent.sock"),
            ("--bpffs", "bpf"),
            ("--cni-conf-dir", "cni"),
            ("--cni-bin-dir", "bin"),
        ];
        let flag = |(flag, name): (&str, &str)| [flag.to_owned(), self.path(name).display().to_string()];
        places.into_iter().flat_map(flag).collect()
    }

    /// Ends the agent by a signal.
    pub(crate) fn end_agent(&mut self, signal: Signal) {
        if let Some(mut agent) = self.agent.take() {
            kill(Pid::from_raw(agent.id().cast_signed()), signal).expect("it runs");
            agent.wait().expect("it ended");
        }
    }

    /// A pod of this node with its interface; what CNI is told besides.
    pub(crate) fn pod(&self, name: &str, config: &Value) -> (Namespace, Ipv4Addr) {
        let namespace = Namespace::new();
        self.api.put(PODS, pod(name, self.number, ""));
        let mut net =
            json!({ "cniVersion": "1.1.0", "name": "weft", "type": "weft-cni", "socket": self.path("agent.sock") });
        for (key, value) in config.as_object().into_iter().flatten() {
            net[key] = value.clone();
        }
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID=u-{name}");
        let mut plugin = Command::new(program("weft-cni"));
        plugin.env_clear().env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", format!("c-{name}"));
        plugin.env("CNI_NETNS", &namespace.path).env("CNI_IFNAME", "eth0").env("CNI_PATH", "/opt/cni/bin");
        plugin.env("CNI_ARGS", args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let said = self.within(move || {
            use std::io::Write as _;
            let mut child = plugin.spawn().expect("weft-cni starts");
            child.stdin.take().expect("a pipe").write_all(net.to_string().as_bytes()).expect("written");
            child.wait_with_output().expect("it ends").stdout
        });
        let said: Value = serde_json::from_slice(&said).expect("JSON");
        let address = said["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("no address: {said}"));
        let address = address.trim_end_matches("/32").parse().expect("an address");
        (namespace, address)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What is pinned under `<bpffs>/weft/<part>`.
    pub(crate) fn pins(&self, part: &str) -> Vec<String> {
        let path = self.path("bpf/weft").join(part);
        self.within(move || {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            names.sort();
            names
        })
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "{what} does not come; the agent's log:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end_agent(Signal::SIGKILL);
    }
}

/// A Pod object.
pub(crate) fn pod(name: &str, node: u8, address: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "default", "uid": format!("u-{name}"), "labels": { "app": name } },
        "spec": { "nodeName": format!("n{node}"), "containers": [] },
        "status": { "phase": "Running", "podIP": address } })
}

/// Every node is told of the pod.
pub(crate) fn tell_of_pod(nodes: &[Node], name: &str, node: u8, address: Ipv4Addr) {
    nodes.iter().for_each(|each| each.api.put(PODS, pod(name, node, &address.to_string())));
}

fn own_world(bpf: &Path) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root, and namespaces");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    std::fs::create_dir_all(bpf).expect("a directory");
    mount(Some("bpf"), bpf, Some("bpf"), MsFlags::empty(), none).expect("a BPF file system");
    sh("ip link set lo up");
    for setting in ["ip_forward=1", "conf/all/rp_filter=0", "conf/default/rp_filter=0"] {
        let (path, value) = setting.split_once('=').expect("a setting");
        std::fs::write(format!("/proc/sys/net/ipv4/{path}"), value).expect("a setting of this namespace");
    }
}

/// The API server on a thread of its own, in this network namespace; it ends with the sender.
fn serve(ended: mpsc::Receiver<()>) -> (Api, SocketAddr) {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        tell.send(runtime.block_on(Api::start())).expect("listening");
        let _ = ended.recv();
    });
    told.recv().expect("it listens")
}
