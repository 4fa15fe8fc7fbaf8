//! The cluster that the faults strike: its objects by the API, its processes and namespaces by the machine.
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use agent::ipam::{self, Ledger};
use local_cluster::{cgroup, netns::Netns, paths};
use serde_json::{Value, json};
use tests::Cluster;

use super::{NODES, api::Api};

/// Who must stay as they are: no policy, no change.
pub(crate) const STEADY: &str = "steady";
/// Who is changed.
pub(crate) const FIELD: &str = "field";
/// How long everything may take to be as it should after a fault.
const PATIENCE: Duration = Duration::from_secs(90);
/// The agent's port for `/readyz` and `/metrics`.
const METRICS: u16 = 9465;

pub(crate) struct Bed {
    cluster: Cluster,
    running: local_cluster::Cluster,
    pub(crate) api: Api,
}

/// A pod as the API tells it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) address: IpAddr,
    pub(crate) labels: Value,
}

/// An interface as a node's ledger has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry {
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) device: String,
    pub(crate) netns: String,
}

impl Bed {
    pub(crate) fn up(flags: &[&str]) -> Bed {
        let cluster = Cluster::up("faults", &["probe-1.0"], &[&["--nodes", "2"], flags].concat());
        let running = local_cluster::Cluster::running(cluster.name()).unwrap();
        let api = Api::new(&cluster.kubeconfig());
        for namespace in [STEADY, FIELD] {
            api.create("/api/v1/namespaces", &json!({ "metadata": { "name": namespace } }));
        }
        Bed { cluster, running, api }
    }

    pub(crate) fn name(&self) -> &str {
        self.cluster.name()
    }

    /// `weft up`, which takes over what a dead supervisor left.
    pub(crate) fn adopt(&self) {
        let up = tests::built::weft().args(["up", "--name", self.cluster.name()]).output().unwrap();
        tests::built::succeeded("weft up", &up);
    }

    /// Cuts a node's power for this long.
    pub(crate) fn cut(&self, node: &str, time: Duration) {
        self.running.power_off(node).unwrap();
        thread::sleep(time);
        self.running.power_on(node).unwrap();
        until("the node to begin", || self.running.node_pid(node).map_err(|error| error.to_string()));
    }

    pub(crate) fn down(&self) {
        self.cluster.down();
    }

    pub(crate) fn state(&self) -> local_cluster::state::State {
        self.running.state()
    }

    /// The process `weft <word>` of a node, as the host numbers it.
    pub(crate) fn part(&self, node: &str, word: &str) -> Option<i32> {
        let group = paths::cgroup(self.cluster.name()).join(node).join("system");
        let runs = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(word.as_bytes())
        };
        cgroup::processes(&group).unwrap().into_iter().find(runs)
    }

    pub(crate) fn netns(&self, node: &str) -> Netns {
        self.running.node_netns(node).unwrap()
    }

    /// The network between the nodes, which the publisher holds.
    pub(crate) fn fabric(&self) -> Netns {
        let state = self.state();
        let path = format!("/proc/{}/fd/{}", state.outside.unwrap(), state.held.unwrap().fabric);
        Netns::of_descriptor(OwnedFd::from(File::open(path).unwrap()))
    }

    /// A file of a node, in its own view of the machine.
    pub(crate) fn inside(&self, node: &str, path: &str) -> std::path::PathBuf {
        let pid = self.running.node_pid(node).unwrap();
        format!("/proc/{pid}/root{path}").into()
    }

    /// A pod's network, for as long as somebody looks: held longer, it would outlive the pod.
    pub(crate) fn pod_netns(&self, pod: &Pod) -> Option<Netns> {
        let entry = self.ledger(&pod.node).into_iter().find(|entry| entry.uid == pod.uid)?;
        let file = File::open(self.inside(&pod.node, &entry.netns)).ok()?;
        Some(Netns::of_descriptor(file.into()))
    }

    /// What a command prints in a node's network.
    pub(crate) fn run(&self, node: &str, line: &str) -> String {
        in_netns(&self.netns(node), line)
    }

    /// Our own command line, asking a node's agent.
    pub(crate) fn weft(&self, node: &str, line: &str) -> Result<String, String> {
        let words = line.split(' ').chain(["--cluster", self.cluster.name(), "--node", node]);
        let output = tests::built::weft().args(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The ledger as it is on disk.
    pub(crate) fn ledger(&self, node: &str) -> Vec<Entry> {
        let directory = paths::Paths::new(self.cluster.name()).node(node).join("agent");
        let names: Vec<_> = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).collect();
        let file = names.iter().find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("addresses-") && name.ends_with(".json")
        });
        let entries = file.map(|path| Ledger::look(path).unwrap()).unwrap_or_default();
        let entry = |entry: ipam::Entry| Entry {
            pod: format!("{}/{}", entry.namespace, entry.name),
            uid: entry.uid,
            addresses: entry.addresses.iter().map(ToString::to_string).collect(),
            device: entry.device,
            netns: entry.netns,
        };
        entries.into_iter().map(entry).collect()
    }

    /// What a node's agent answers; none unless it is well.
    pub(crate) fn asked(&self, node: &str, path: &str) -> Option<String> {
        let request = format!("GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n");
        let get = move || -> std::io::Result<String> {
            let to = SocketAddr::from(([127, 0, 0, 1], METRICS));
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(request.as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = self.netns(node).run(get).unwrap().ok()?;
        text.lines().next()?.contains(" 200 ").then(|| text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()))?
    }

    /// Pods that run and are ready, or why it is not yet as it should be.
    pub(crate) fn pods(&self) -> Result<Vec<Pod>, String> {
        let mut pods = Vec::new();
        for object in self.api.items("/api/v1/pods") {
            let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            if !object["metadata"]["deletionTimestamp"].is_null() || !ready {
                return Err(format!(
                    "{namespace}/{name}: {} {}",
                    object["metadata"]["deletionTimestamp"], object["status"]
                ));
            }
            let address = text("/status/podIP").parse().map_err(|_| format!("{namespace}/{name} has no address"))?;
            let (node, uid, labels) =
                (text("/spec/nodeName"), text("/metadata/uid"), object["metadata"]["labels"].clone());
            pods.push(Pod { namespace, name, uid, node, address, labels });
        }
        Ok(pods)
    }

    /// Waits until every part serves and every pod is there, or gone, as the API has it.
    pub(crate) fn settled(&self) -> Vec<Pod> {
        until("the cluster to be as its objects say", || {
            for node in NODES {
                self.asked(node, "/readyz").ok_or_else(|| format!("the agent of {node} is not ready"))?;
            }
            for node in self.api.items("/api/v1/nodes") {
                let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
                if !conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True") {
                    return Err(format!("{} is not ready: {conditions:?}", node["metadata"]["name"]));
                }
            }
            let pods = self.pods()?;
            // What the API tells of a pod may be older than a power cut: its node knows.
            let ledgers: Vec<Entry> = NODES.into_iter().flat_map(|node| self.ledger(node)).collect();
            let known = |pod: &&Pod| {
                let address = pod.address.to_string();
                ledgers.iter().any(|entry| entry.uid == pod.uid && entry.addresses.contains(&address))
            };
            match pods.iter().find(|pod| !known(pod)) {
                Some(pod) => Err(format!("{} has no address {} on {}", pod.name, pod.address, pod.node)),
                None => Ok(pods),
            }
        })
    }

    pub(crate) fn create_pod(&self, namespace: &str, name: &str, node: &str, app: &str) {
        let probe = json!({ "httpGet": { "path": "/healthz", "port": 8082 }, "periodSeconds": 1 });
        let object = json!({
            "metadata": { "name": name, "labels": { "app": app } },
            "spec": {
                "nodeName": node,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "containers": [{ "name": "probe", "image": "probe:1.0", "args": ["serve"], "readinessProbe": probe }],
                // Whatever the nodes are taken for: pods stay.
                "tolerations": [{ "operator": "Exists" }],
            },
        });
        self.api.create(&format!("/api/v1/namespaces/{namespace}/pods"), &object);
    }

    /// A Service of the pods of this label, TCP and UDP.
    pub(crate) fn create_service(&self, namespace: &str, name: &str, app: &str) {
        let port = |proto: &str, port: u16| json!({ "name": proto.to_lowercase(), "protocol": proto, "port": port });
        let object = json!({
            "metadata": { "name": name },
            "spec": { "selector": { "app": app }, "ports": [port("TCP", 8083), port("UDP", 8083)] },
        });
        self.api.create(&format!("/api/v1/namespaces/{namespace}/services"), &object);
    }

    /// Its address.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> IpAddr {
        let object = self.api.get(&format!("/api/v1/namespaces/{namespace}/services/{name}"));
        object["spec"]["clusterIP"].as_str().unwrap().parse().unwrap()
    }
}

pub(crate) fn in_netns(netns: &Netns, line: &str) -> String {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    let output = netns.run(|| command.output()).unwrap().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until something holds; panics with the last reason why it does not.
#[track_caller]
pub(crate) fn until<T>(what: &str, holds: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, holds).unwrap_or_else(|why| panic!("{what}: not after {} s: {why}", PATIENCE.as_secs()))
}

pub(crate) fn within<T>(patience: Duration, mut holds: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        match holds() {
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => thread::sleep(Duration::from_millis(50)),
            good => return good,
        }
    }
}
