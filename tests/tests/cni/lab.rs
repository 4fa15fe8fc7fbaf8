//! A node for tests: network and mounts of its own, the real agent as a process, and an API server of a few lines.
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use agent::ipam::Ledger;
use serde_json::{Value, json};
use tests::built::program;

use crate::{
    api::Api,
    namespaces::{self, Namespace},
};

pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const PODS: &str = "/api/v1/pods";

/// A node. Its agent ends with it.
pub(crate) struct Lab {
    pub(crate) directory: PathBuf,
    pub(crate) api: Api,
    pub(crate) agent: Option<Child>,
    /// The machine at the far end of the node's NIC, 172.31.0.2.
    pub(crate) outside: Namespace,
    server: SocketAddr,
    _end: mpsc::Sender<()>,
}

/// Runs a test on a node of its own, whose agent is ready.
pub(crate) fn on_a_node(range: &'static str, test: impl FnOnce(&mut Lab) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this test makes network namespaces and loads BPF programs, which needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_path_buf();
    namespaces::node(&directory.path().join("bpf"), move |outside| {
        let (api, server, end) = serve();
        api.put("/api/v1/namespaces", json!({ "metadata": { "name": "default", "labels": {} } }));
        let mut lab = Lab { directory: path, api, agent: None, outside, server, _end: end };
        lab.node(range);
        lab.start_agent();
        test(&mut lab);
    });
}

/// The API server on a thread of its own, in this network namespace; it ends with the sender.
fn serve() -> (Api, SocketAddr, mpsc::Sender<()>) {
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        tell.send(runtime.block_on(Api::start())).expect("listening");
        let _ = ended.recv();
    });
    let (api, server) = told.recv().expect("it listens");
    (api, server, end)
}

impl Lab {
    /// The Node object, with this range of pod addresses.
    pub(crate) fn node(&self, range: &str) {
        let spec = if range.is_empty() { json!({}) } else { json!({ "podCIDR": range }) };
        let status = json!({ "addresses": [{ "type": "InternalIP", "address": "172.31.0.11" }] });
        self.api.put(NODES, json!({ "metadata": { "name": "n1" }, "spec": spec, "status": status }));
    }

    /// A Pod object on this node.
    pub(crate) fn pod(&self, name: &str) {
        self.annotated(name, &json!({}));
    }

    /// A Pod object with annotations.
    pub(crate) fn annotated(&self, name: &str, annotations: &Value) {
        let metadata = json!({ "name": name, "namespace": "default", "uid": format!("u-{name}"),
            "annotations": annotations });
        self.api.put(
            PODS,
            json!({ "metadata": metadata, "spec": { "nodeName": "n1", "containers": [] },
            "status": { "phase": "Pending" } }),
        );
    }

    /// Starts the agent and waits until it has written the CNI configuration.
    pub(crate) fn start_agent(&mut self) {
        let _ = std::fs::remove_file(self.path("cni/05-weft.conflist"));
        let kubeconfig = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{}", self.server) } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }] });
        std::fs::write(self.path("kubeconfig"), kubeconfig.to_string()).expect("written");
        let mut weft = Command::new(program("weft"));
        weft.args(["agent", "--node-name", "n1", "--metrics-listen", "127.0.0.1:0"]);
        let paths = [
            ("--kubeconfig", "kubeconfig"),
            ("--state-dir", "state"),
            ("--socket", "agent.sock"),
            ("--bpffs", "bpf"),
            ("--cni-conf-dir", "cni"),
            ("--cni-bin-dir", "bin"),
        ];
        for (flag, name) in paths {
            weft.arg(flag).arg(self.path(name));
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        self.agent = Some(weft.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("weft starts"));
        let conflist = self.path("cni/05-weft.conflist");
        self.wait_for("the CNI configuration", |_| conflist.exists());
    }

    /// Resident memory of the agent, as the kernel prints it.
    pub(crate) fn agent_memory(&self) -> String {
        let pid = self.agent.as_ref().expect("it runs").id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().trim().to_owned()
    }

    /// SIGKILL.
    pub(crate) fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().expect("it runs");
            agent.wait().expect("it ended");
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut(&Lab) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition(self) {
            let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{what} does not come; the agent's log:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything of pods on this node: devices, pinned hooks, entries of the ledger.
    pub(crate) fn traces(&self) -> Vec<String> {
        let output = Command::new("ip").args(["-o", "link"]).output().expect("iproute2");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.split([' ', ':', '@']).nth(2));
        let mut traces: Vec<String> = names.filter(|name| is_pods(name)).map(str::to_owned).collect();
        let pins = std::fs::read_dir(self.path("bpf/weft/links")).expect("a directory").flatten();
        let pins = pins.filter_map(|pin| pin.file_name().into_string().ok());
        traces.extend(pins.filter(|pin| pin.split_once('@').is_some_and(|(_, device)| is_pods(device))));
        let mut files = std::fs::read_dir(self.path("state")).into_iter().flatten().flatten().map(|file| file.path());
        let ledger = files.find(|path| path.extension().is_some_and(|end| end == "json"));
        let entries = ledger.map(|path| Ledger::look(&path).expect("a ledger")).unwrap_or_default();
        traces.extend(entries.iter().map(|entry| format!("address {:?} of {:?}", entry.addresses, entry.name)));
        traces
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill_agent();
    }
}

/// A pod's device, as `weft0a1b2c3d`.
fn is_pods(device: &str) -> bool {
    device.strip_prefix("weft").is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A call of the plugin, as a container runtime makes it.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) variables: Vec<(&'static str, String)>,
    pub(crate) config: String,
}

/// What the plugin said: its exit code and what it printed.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) text: String,
}

impl Lab {
    /// A call about pod `name` in a namespace.
    pub(crate) fn call(&self, command: &str, name: &str, namespace: &Namespace) -> Call {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID=u-{name}");
        let variables = vec![
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", format!("c-{name}")),
            ("CNI_NETNS", namespace.path.display().to_string()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
            ("CNI_ARGS", args),
        ];
        Call { variables, config: self.config("1.1.0", &json!({})) }
    }

    /// The network configuration, with more fields.
    pub(crate) fn config(&self, version: &str, fields: &Value) -> String {
        let mut config = json!({ "cniVersion": version, "name": "weft", "type": "weft-cni",
            "socket": self.path("agent.sock") });
        for (name, value) in fields.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        config.to_string()
    }
}

impl Call {
    pub(crate) fn set(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
        self
    }

    pub(crate) fn with(mut self, config: String) -> Call {
        self.config = config;
        self
    }

    /// Executes the plugin.
    pub(crate) fn run(&self) -> Said {
        self.run_by(&program("weft-cni"))
    }

    /// Executes another plugin.
    pub(crate) fn run_by(&self, plugin: &Path) -> Said {
        use std::io::Write as _;
        let mut plugin = Command::new(plugin);
        plugin.env_clear().envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = plugin.spawn().expect("weft-cni starts");
        // It may end without reading: then its words say why.
        let _ = child.stdin.take().expect("a pipe").write_all(self.config.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "all that is to be said is said on standard output");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        Said { status: output.status.code().expect("no signal"), text }
    }

    /// Must succeed: what it printed.
    #[track_caller]
    pub(crate) fn succeeds(&self) -> Value {
        let said = self.run();
        assert_eq!(said.status, 0, "{:?}: {}", self.variables, said.text);
        serde_json::from_str(&said.text).unwrap_or_default()
    }

    /// Must fail in CNI's own form with this code, and name what is wrong.
    #[track_caller]
    pub(crate) fn fails(&self, code: u32, names: &str) {
        let said = self.run();
        let error: Value = serde_json::from_str(&said.text).expect("an error in CNI's form");
        assert!(said.status != 0 && error["code"] == code, "{code} ({names}) is wanted: {}", said.text);
        let text = format!("{} {}", error["msg"], error["details"]);
        assert!(text.contains(names), "{names} is not named: {text}");
        let known = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
        assert!(error["cniVersion"].as_str().is_some_and(|version| known.contains(&version)), "{}", said.text);
    }
}
