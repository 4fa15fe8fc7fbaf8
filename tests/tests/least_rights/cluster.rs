//! An API server, an agent and a proxy between them, in a network namespace of their own.
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use http::Request;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    namespaces::{self, Namespace},
    proxy::{self, Log, Seen},
};

const SERVER: &str = "https://172.31.0.11:6443";

pub(crate) struct Cluster {
    directory: PathBuf,
    runtime: Runtime,
    server: Option<Child>,
    agent: Option<Child>,
    admin: Option<Client>,
    log: Log,
    token: String,
}

/// Every document of `deploy/`.
pub(crate) fn manifests() -> Vec<Value> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let files = ["agent-rbac.yaml", "agent.yaml"].map(|name| std::fs::read_to_string(root.join(name)).expect("a file"));
    let parts = files.iter().flat_map(|text| text.split("\n---\n"));
    parts.map(|part| serde_yaml_ng::from_str(part).expect("YAML")).collect()
}

/// Runs a test with a server that answers.
pub(crate) fn on_a_node(test: impl FnOnce(&mut Cluster) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this test makes network namespaces and loads BPF programs, which needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_path_buf();
    namespaces::node(&directory.path().join("bpf"), move |_outside| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        let log = Log::default();
        let (server, agent, admin, token) = (None, None, None, String::new());
        let mut cluster = Cluster { directory: path, runtime, server, agent, admin, log, token };
        cluster.start_server();
        test(&mut cluster);
    });
}

fn weft() -> Command {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let default = root.join(format!("target/{}-unknown-linux-gnu/release", std::env::consts::ARCH));
    let path = std::env::var_os("WEFT_PROGRAMS").map_or(default, PathBuf::from).join("weft");
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    Command::new(path)
}

impl Cluster {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn spawn(&self, mut command: Command, log: &str) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path(log)).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("weft starts")
    }

    pub(crate) fn start_server(&mut self) {
        let data = self.path("server");
        let mut server = weft();
        server.arg("server").arg("--data-dir").arg(&data);
        server.args(["--listen", "172.31.0.11:6443", "--advertise-address", "172.31.0.11"]);
        self.server = Some(self.spawn(server, "server.log"));
        let kubeconfig = self.path("admin.kubeconfig");
        let ca = || data.read_dir().is_ok_and(|mut files| files.any(|file| file.is_ok()));
        self.wait_for("the server's files", |_| ca());
        if self.admin.is_none() {
            self.wait_for("the admin's credentials", |_| {
                let mut pki = weft();
                pki.args(["pki", "kubeconfig", "--server", SERVER, "--user", "kubernetes-admin"]);
                pki.args(["--group", "system:masters"]).arg("--data-dir").arg(&data).arg("--out").arg(&kubeconfig);
                pki.output().expect("weft starts").status.success()
            });
            let file = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
            self.admin = Some(self.client(file));
        }
        self.wait_for("the server", |cluster| cluster.try_request("GET", "/readyz", "", &Value::Null).is_ok());
    }

    fn client(&self, file: Kubeconfig) -> Client {
        self.runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a config");
            Client::try_from(config).expect("a client")
        })
    }

    /// The proxy, with a token of the service account.
    pub(crate) fn start_proxy(&mut self) {
        let path = "/api/v1/namespaces/kube-system/serviceaccounts/weft-agent/token";
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let token = self.request("POST", path, "application/json", &request)["status"]["token"].clone();
        self.token = token.as_str().expect("a token").to_owned();
        let text = std::fs::read_to_string(self.path("admin.kubeconfig")).expect("it is there");
        let mut file: Value = serde_yaml_ng::from_str(&text).expect("a kubeconfig");
        file["users"][0]["user"] = json!({ "token": token });
        let file = Kubeconfig::from_yaml(&file.to_string()).expect("JSON is YAML");
        let (client, log) = (self.client(file), self.log.clone());
        let address = self.runtime.block_on(proxy::start(client, log));
        let kubeconfig = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }] });
        std::fs::write(self.path("agent.kubeconfig"), kubeconfig.to_string()).expect("written");
    }

    pub(crate) fn start_agent(&mut self) {
        let mut agent = self.agent_command();
        agent.arg("--kubeconfig").arg(self.path("agent.kubeconfig"));
        self.agent = Some(self.spawn(agent, "agent.log"));
    }

    fn agent_command(&self) -> Command {
        let _ = std::fs::remove_file(self.path("cni/05-weft.conflist"));
        let mut agent = weft();
        agent.args(["agent", "--node-name", "n1", "--metrics-listen", "127.0.0.1:0"]);
        let paths = [
            ("--state-dir", "state"),
            ("--socket", "agent.sock"),
            ("--bpffs", "bpf"),
            ("--cni-conf-dir", "cni"),
            ("--cni-bin-dir", "bin"),
        ];
        for (flag, name) in paths {
            agent.arg(flag).arg(self.path(name));
        }
        agent
    }

    /// As in a pod: by the token and the CA that a kubelet mounts, without a kubeconfig.
    pub(crate) fn start_agent_in_cluster(&mut self) {
        let none: Option<&str> = None;
        // The mounts are this test's own.
        mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("an empty /run");
        let account = PathBuf::from("/run/secrets/kubernetes.io/serviceaccount");
        std::fs::create_dir_all(&account).expect("a directory");
        std::fs::write(account.join("token"), self.token.as_bytes()).expect("written");
        std::fs::write(account.join("namespace"), "kube-system").expect("written");
        let mut pki = weft();
        pki.args(["pki", "ca", "--data-dir"]).arg(self.path("server")).arg("--out").arg(account.join("ca.crt"));
        assert!(pki.output().expect("weft starts").status.success(), "the CA's certificate");
        let mut agent = self.agent_command();
        agent.env("KUBERNETES_SERVICE_HOST", "172.31.0.11").env("KUBERNETES_SERVICE_PORT", "6443");
        self.agent = Some(self.spawn(agent, "agent.log"));
    }

    pub(crate) fn wait_ready(&self) {
        self.wait_for("the CNI configuration", |cluster| cluster.path("cni/05-weft.conflist").exists());
    }

    pub(crate) fn kill_server(&mut self) {
        end(&mut self.server);
    }

    pub(crate) fn kill_agent(&mut self) {
        end(&mut self.agent);
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut(&Cluster) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition(self) {
            let log = |name: &str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
            let late = Instant::now() > deadline;
            assert!(!late, "{what} does not come\n{}\n{}", log("server.log"), log("agent.log"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a `weft` command prints about this node's agent.
    pub(crate) fn weft(&self, words: &[&str]) -> String {
        let output = weft().args(words).arg("--socket").arg(self.path("agent.sock")).output().expect("weft starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether a service's address is in the kernel's table.
    pub(crate) fn serves(&self, address: &str) -> bool {
        self.dump("SERVICES").lines().any(|line| line.split(' ').next() == Some(address))
    }

    pub(crate) fn dump(&self, table: &str) -> String {
        self.weft(&["table", "dump", table])
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.lock().expect("no panic").clone()
    }

    fn try_request(&self, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value, kube::Error> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body);
        let admin = self.admin.as_ref().expect("the server has started");
        let text = self.runtime.block_on(admin.request_text(request.expect("a request")))?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, kind: &str, body: &Value) -> Value {
        match self.try_request(method, path, kind, body) {
            Ok(value) => value,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.request("GET", path, "application/json", &Value::Null)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) {
        self.request("PATCH", path, "application/merge-patch+json", body);
    }

    pub(crate) fn json_patch(&self, path: &str, body: &Value) {
        self.request("PATCH", path, "application/json-patch+json", body);
    }

    pub(crate) fn delete(&self, path: &str) {
        self.request("DELETE", path, "application/json", &Value::Null);
    }

    /// Creates an object, as strictly as kubectl does.
    #[track_caller]
    pub(crate) fn create(&self, object: &Value) -> Value {
        let version = object["apiVersion"].as_str().expect("a version");
        let kind = object["kind"].as_str().expect("a kind").to_lowercase();
        let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
        let root = if version.contains('/') { "/apis" } else { "/api" };
        let namespace = object["metadata"]["namespace"].as_str();
        let place = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let path = format!("{root}/{version}{place}/{plural}?fieldValidation=Strict");
        self.request("POST", &path, "application/json", object)
    }

    pub(crate) fn pod(&self, name: &str) {
        self.create(&json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
            "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "none" }] } }));
    }

    /// A Service; its address.
    pub(crate) fn service(&self, name: &str, protocol: &str) -> String {
        let service = self.create(&json!({ "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "protocol": protocol }] } }));
        service["spec"]["clusterIP"].as_str().expect("an address").to_owned()
    }

    /// CNI ADD, as a runtime makes it.
    pub(crate) fn add(&self, name: &str, namespace: &Namespace) {
        self.call("ADD", name, namespace);
    }

    pub(crate) fn call(&self, command: &str, name: &str, namespace: &Namespace) {
        use std::io::Write as _;
        let plugin = PathBuf::from(weft().get_program()).with_file_name("weft-cni");
        let config = json!({ "cniVersion": "1.1.0", "name": "weft", "type": "weft-cni",
            "socket": self.path("agent.sock") });
        let mut plugin = Command::new(plugin);
        plugin.env("CNI_COMMAND", command).env("CNI_CONTAINERID", name).env("CNI_IFNAME", "eth0");
        plugin.env("CNI_NETNS", &namespace.path);
        plugin.env("CNI_ARGS", format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}"));
        let mut child = plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("weft-cni starts");
        child.stdin.take().expect("a pipe").write_all(config.to_string().as_bytes()).expect("written");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_agent();
        self.kill_server();
    }
}

/// SIGKILL.
fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
