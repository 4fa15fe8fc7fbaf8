//! A node without containers: the real server and the real agent in this thread's namespaces, and objects for them.
use std::{
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::{core::v1 as core, networking::v1::NetworkPolicy};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinSet};

use super::plugin::{Plugin, Pod};
use crate::{
    Args,
    space::{self, ip},
};

/// Everything lies in the tmpfs of [`space::apart`] and goes with it.
const FILES: &str = "/run/node";
const SERVER: &str = "https://172.31.0.11:6443";
/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests at once.
const AT_ONCE: usize = 16;
/// Pods of one other node.
const PER_NODE: usize = 100;

/// The node; its processes end with it.
pub(crate) struct Node {
    runtime: Runtime,
    client: Client,
    processes: Vec<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(FILES).join(name)
}

impl Node {
    pub(crate) fn start(args: &Args) -> anyhow::Result<Node> {
        let weft = args.programs.join("weft");
        ensure!(weft.exists(), "{} is missing: run cargo xtask build", weft.display());
        fs::create_dir_all(FILES)?;
        devices()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let server = server(&weft)?;
        let client = {
            let _inside = runtime.enter();
            credentials(&weft)?
        };
        let mut node = Node { runtime, client, processes: vec![server] };
        node.runtime.block_on(async {
            serves(&node.client).await?;
            objects(&node.client).await
        })?;
        let agent = agent(&weft)?;
        node.processes.push(agent);
        wait("the agent", || Ok(file("cni/05-weft.conflist").exists()))?;
        Ok(node)
    }

    pub(crate) fn plugin(&self, args: &Args) -> Plugin {
        let config = json!({ "cniVersion": "1.0.0", "name": "weft", "type": "weft-cni", "socket": file("agent.sock") });
        Plugin::new(args.programs.join("weft-cni"), &config)
    }

    pub(crate) fn agent(&self) -> anyhow::Result<i32> {
        Ok(self.processes.last().context("an agent")?.id().cast_signed())
    }

    /// The agent alone; what it has pinned stays.
    pub(crate) fn stop_agent(&mut self) -> anyhow::Result<()> {
        let mut agent = self.processes.pop().context("an agent")?;
        agent.kill()?;
        agent.wait()?;
        Ok(())
    }

    /// Pods of this node, with objects and namespaces.
    pub(crate) fn pods(&self, numbers: Range<usize>) -> anyhow::Result<Vec<Pod>> {
        let mut pods = numbers.map(|number| Pod::new("pod", number)).collect::<anyhow::Result<Vec<Pod>>>()?;
        let names = pods.iter().map(|pod| (pod.name.clone(), "n1".to_owned(), None)).collect();
        let mut uids = self.runtime.block_on(create(&self.client, names))?;
        uids.sort();
        for pod in &mut pods {
            let at = uids.binary_search_by(|(name, _)| name.cmp(&pod.name)).ok().context("every Pod was made")?;
            pod.uid.clone_from(&uids[at].1);
        }
        Ok(pods)
    }

    /// Pods of other nodes, with addresses; policies of this node's pods select them.
    pub(crate) fn remote(&self, count: usize) -> anyhow::Result<()> {
        let nodes = count.div_ceil(PER_NODE);
        let of = |number: usize| {
            let (node, pod) = (number / PER_NODE, number % PER_NODE);
            let address = format!("10.244.{}.{}", 100 + node, pod + 2);
            (format!("remote-{number}"), format!("other-{node}"), Some(address))
        };
        self.runtime.block_on(async {
            for node in 0..nodes {
                let address = format!("172.31.{}.{}", 1 + node / 200, 20 + node % 200);
                other(&self.client, &format!("other-{node}"), &format!("10.244.{}.0/24", 100 + node), &address).await?;
            }
            create(&self.client, (0..count).map(of).collect()).await
        })?;
        wait("every pod in the table of peers", || Ok(super::weight::peers()? >= count))
    }
}

/// Name, node, and for one that runs its address.
type Wanted = (String, String, Option<String>);

/// Makes Pods; their names and uids.
async fn create(client: &Client, wanted: Vec<Wanted>) -> anyhow::Result<Vec<(String, String)>> {
    let mut tasks = JoinSet::new();
    let lanes = (0..AT_ONCE).map(|lane| wanted.iter().skip(lane).step_by(AT_ONCE).cloned().collect::<Vec<Wanted>>());
    for lane in lanes {
        let pods: Api<core::Pod> = Api::namespaced(client.clone(), "default");
        tasks.spawn(async move {
            let mut made = Vec::new();
            for (name, node, address) in lane {
                let spec = json!({ "nodeName": node, "automountServiceAccountToken": false,
                    "containers": [{ "name": "c", "image": "none" }] });
                let pod = json!({ "metadata": { "name": name, "labels": { "app": "bench" } }, "spec": spec });
                let pod = pods.create(&PostParams::default(), &typed(pod)?).await?;
                made.push((name.clone(), pod.metadata.uid.context("a uid")?));
                if let Some(address) = address {
                    let status = json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] });
                    let patch = Patch::Merge(json!({ "status": status }));
                    pods.patch_status(&name, &PatchParams::default(), &patch).await?;
                }
            }
            anyhow::Ok(made)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

fn typed<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(value)?)
}

async fn other(client: &Client, name: &str, range: &str, address: &str) -> anyhow::Result<()> {
    let nodes: Api<core::Node> = Api::all(client.clone());
    let node = json!({ "metadata": { "name": name }, "spec": { "podCIDR": range, "podCIDRs": [range] } });
    nodes.create(&PostParams::default(), &typed(node)?).await?;
    let status = json!({ "addresses": [{ "type": "InternalIP", "address": address }],
        "conditions": [{ "type": "Ready", "status": "True" }] });
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await?;
    Ok(())
}

/// The Node, and a policy that isolates every pod both ways.
async fn objects(client: &Client) -> anyhow::Result<()> {
    other(client, "n1", "10.244.0.0/21", "172.31.0.11").await?;
    let accounts: Api<core::ServiceAccount> = Api::namespaced(client.clone(), "default");
    let begun = Instant::now();
    while accounts.get_opt("default").await?.is_none() {
        ensure!(begun.elapsed() < PATIENCE, "nobody makes the service account of the namespace");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let peers = json!([{ "podSelector": { "matchLabels": { "app": "bench" } } }]);
    let spec = json!({ "podSelector": { "matchLabels": { "app": "bench" } }, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "from": peers, "ports": [{ "port": 8080, "protocol": "TCP" }] }],
        "egress": [{ "to": peers, "ports": [{ "port": 8080, "protocol": "TCP" }] }] });
    let policy = json!({ "metadata": { "name": "bench" }, "spec": spec });
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), "default");
    policies.create(&PostParams::default(), &typed(policy)?).await?;
    Ok(())
}

/// A NIC with the node's address.
fn devices() -> anyhow::Result<()> {
    for setting in ["ip_forward=1", "conf/all/rp_filter=0", "conf/default/rp_filter=0"] {
        let (path, value) = setting.split_once('=').expect("a setting");
        fs::write(format!("/proc/sys/net/ipv4/{path}"), value).with_context(|| setting.to_owned())?;
    }
    space::make("outside")?;
    ip("link add nic0 type veth peer name wire0 netns outside")?;
    ip("addr add 172.31.0.11/16 dev nic0")?;
    ip("link set nic0 up")?;
    ip("-n outside addr add 172.31.0.2/16 dev wire0")?;
    ip("-n outside link set wire0 up")?;
    ip("route add default via 172.31.0.2")
}

fn spawn(mut command: Command, log: &str) -> anyhow::Result<Child> {
    let log = File::create(file(log))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().context("weft")
}

fn server(weft: &Path) -> anyhow::Result<Child> {
    let mut server = Command::new(weft);
    server.arg("server").arg("--data-dir").arg(file("server"));
    server.args(["--listen", "172.31.0.11:6443", "--advertise-address", "172.31.0.11"]);
    spawn(server, "server.log")
}

fn agent(weft: &Path) -> anyhow::Result<Child> {
    let mut agent = Command::new(weft);
    agent.args(["agent", "--node-name", "n1", "--metrics-listen", "127.0.0.1:0", "--bpffs", "/run/bpf"]);
    let paths = [
        ("--kubeconfig", "admin.kubeconfig"),
        ("--state-dir", "state"),
        ("--socket", "agent.sock"),
        ("--cni-conf-dir", "cni"),
        ("--cni-bin-dir", "bin"),
    ];
    agent.args(paths.into_iter().flat_map(|(flag, name)| [PathBuf::from(flag), file(name)]));
    spawn(agent, "agent.log")
}

/// A client with every right.
fn credentials(weft: &Path) -> anyhow::Result<Client> {
    let path = file("admin.kubeconfig");
    wait("the cluster's keys", || {
        let mut pki = Command::new(weft);
        pki.args(["pki", "kubeconfig", "--server", SERVER, "--user", "kubernetes-admin", "--group", "system:masters"]);
        pki.arg("--data-dir").arg(file("server")).arg("--out").arg(&path);
        Ok(file("server").exists() && pki.output()?.status.success())
    })?;
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
    let options = KubeConfigOptions::default();
    let config = tokio::runtime::Handle::current().block_on(Config::from_custom_kubeconfig(kubeconfig, &options))?;
    Ok(Client::try_from(config)?)
}

async fn serves(client: &Client) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        match client.request_text(request).await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => {
                bail!("the server does not answer /readyz ({error}); its log:\n{}", log("server.log"))
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn log(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap_or_default()
}

/// Waits until something holds.
pub(crate) fn wait(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !done()? {
        ensure!(begun.elapsed() < PATIENCE, "{what} does not come; the agent's log:\n{}", log("agent.log"));
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
