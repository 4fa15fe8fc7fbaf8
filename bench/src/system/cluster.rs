//! A cluster of one node for this run, and its end.
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;

use super::processes::{self, Role};
use crate::Args;

/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The node's only one.
const NODE: &str = "node-1";

/// What the supervisor writes down.
#[derive(Deserialize)]
struct State {
    supervisor: i32,
    nodes: BTreeMap<String, i32>,
}

/// A running cluster; dropped, it is removed.
pub(crate) struct Cluster {
    name: String,
    weft: PathBuf,
    /// How long `weft up` took.
    pub(crate) up: Duration,
}

impl Cluster {
    pub(crate) fn start(args: &Args) -> anyhow::Result<Cluster> {
        let weft = args.programs.join("weft");
        ensure!(weft.exists(), "{} is missing: run cargo xtask build", weft.display());
        let name = format!("bench-{}", std::process::id());
        remove_on_signals(weft.clone(), name.clone())?;
        let begun = Instant::now();
        // Made before it is started, so that half of a cluster is removed too.
        let mut cluster = Cluster { name, weft, up: Duration::ZERO };
        let output = Command::new(&cluster.weft)
            .args(["up", "--name", &cluster.name, "--nodes", "1"])
            .output()
            .with_context(|| cluster.weft.display().to_string())?;
        cluster.up = begun.elapsed();
        ensure!(output.status.success(), "weft up: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(cluster)
    }

    /// A client with every right.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let path = Path::new("/var/lib/weft/clusters").join(&self.name).join("admin.kubeconfig");
        let file = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    fn state(&self) -> anyhow::Result<State> {
        let path = Path::new("/run/weft").join(&self.name).join("state.json");
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    }

    fn parent(&self, role: Role) -> anyhow::Result<i32> {
        let state = self.state()?;
        match role {
            Role::Server => Ok(state.supervisor),
            Role::Agent | Role::Node => state.nodes.get(NODE).copied().context("the node is off"),
        }
    }

    /// A process.
    pub(crate) fn pid(&self, role: Role) -> anyhow::Result<i32> {
        processes::child(self.parent(role)?, role).with_context(|| format!("no process is the {}", role.name()))
    }

    /// Where a compiled table of the agent is seen from here.
    pub(crate) fn map(&self, name: &str) -> anyhow::Result<PathBuf> {
        let agent = self.pid(Role::Agent)?;
        Ok(PathBuf::from(format!("/proc/{agent}/root/sys/fs/bpf/weft/tables/{name}")))
    }

    /// Kills a process; ms from the start of its successor until that serves.
    pub(crate) async fn restart(&self, role: Role, client: &Client) -> anyhow::Result<f64> {
        let (parent, old) = (self.parent(role)?, self.pid(role)?);
        let before = processes::children(parent);
        kill(Pid::from_raw(old), Signal::SIGKILL).context("kill")?;
        let deadline = Instant::now() + PATIENCE;
        while processes::children(parent).iter().all(|pid| before.contains(pid)) {
            ensure!(Instant::now() < deadline, "nobody starts it again");
            thread::sleep(Duration::from_micros(50));
        }
        let begun = Instant::now();
        match role {
            Role::Server => server_serves(client, deadline).await?,
            Role::Agent => self.answers(9465, Some("/readyz"), deadline)?,
            Role::Node => self.answers(10_250, None, deadline)?,
        }
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// Waits, inside the node, until somebody listens on a port and, if a path is given, says 200 to it.
    fn answers(&self, port: u16, path: Option<&'static str>, deadline: Instant) -> anyhow::Result<()> {
        let init = self.parent(Role::Agent)?;
        let namespace = File::open(format!("/proc/{init}/ns/net")).context("the node's network")?;
        let address = if path.is_some() { [127, 0, 0, 1] } else { [172, 31, 0, 11] };
        let thread = thread::spawn(move || -> anyhow::Result<()> {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("entering the node's network")?;
            while !asked((address, port).into(), path).unwrap_or(false) {
                ensure!(Instant::now() < deadline, "nobody serves port {port} of the node");
                thread::sleep(Duration::from_micros(500));
            }
            Ok(())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn asked(address: SocketAddr, path: Option<&str>) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
    let Some(path) = path else { return Ok(true) };
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
}

async fn server_serves(client: &Client, deadline: Instant) -> anyhow::Result<()> {
    loop {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let asked = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
        match asked {
            Ok(Ok(_)) => return Ok(()),
            _ if Instant::now() > deadline => bail!("the server does not answer /readyz"),
            _ => tokio::time::sleep(Duration::from_micros(500)).await,
        }
    }
}

/// A signal ends the cluster before it ends this process.
fn remove_on_signals(weft: PathBuf, name: String) -> anyhow::Result<()> {
    let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    set.thread_block().context("blocking signals")?;
    thread::spawn(move || {
        if set.wait().is_ok() {
            remove(&weft, &name);
            std::process::exit(130);
        }
    });
    Ok(())
}

fn remove(weft: &Path, name: &str) {
    let done = Command::new(weft).args(["down", "--name", name]).output();
    if !done.is_ok_and(|output| output.status.success()) {
        eprintln!("the cluster is still there: run `weft down --name {name}`");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        remove(&self.weft, &self.name);
    }
}
