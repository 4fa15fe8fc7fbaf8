//! Plugins as a container runtime executes them: variables, the configuration on standard input, the result from standard
//! output.
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Barrier,
    thread,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::space;

/// A pod as its runtime knows it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    /// `metadata.uid`.
    pub(crate) uid: String,
    netns: PathBuf,
}

impl Pod {
    /// Number so-and-so, with an empty network namespace.
    pub(crate) fn new(of: &str, number: usize) -> anyhow::Result<Pod> {
        let name = format!("{of}-{number}");
        Ok(Pod { netns: space::bare(&name)?, uid: String::new(), name })
    }
}

/// A plugin and its configuration.
pub(crate) struct Plugin {
    program: PathBuf,
    config: String,
    /// Where it finds the plugins that it delegates to.
    path: PathBuf,
    /// The node's network namespace, if it is not this thread's.
    node: Option<&'static str>,
}

/// The reference plugin, on a node of its own: neither shall meet the other's devices.
pub(crate) fn ptp(directory: &Path) -> anyhow::Result<Plugin> {
    for name in ["ptp", "host-local"] {
        let program = directory.join(name);
        ensure!(program.exists(), "{} is missing: run cargo xtask setup", program.display());
    }
    let ipam = json!({ "type": "host-local", "dataDir": "/run/host-local", "routes": [{ "dst": "0.0.0.0/0" }],
        "ranges": [[{ "subnet": "10.88.0.0/16" }]] });
    let config = json!({ "cniVersion": "1.0.0", "name": "ptp", "type": "ptp", "mtu": 1450, "ipam": ipam });
    space::make("ptp-node")?;
    Ok(Plugin { node: Some("ptp-node"), ..Plugin::new(directory.join("ptp"), &config) })
}

impl Plugin {
    pub(crate) fn new(program: PathBuf, config: &Value) -> Plugin {
        let path = program.parent().unwrap_or(Path::new("/")).to_path_buf();
        Plugin { program, config: config.to_string(), path, node: None }
    }

    /// One call; ms from its exec to its exit.
    pub(crate) fn call(&self, command: &str, pod: &Pod) -> anyhow::Result<f64> {
        thread::scope(|scope| {
            let call = || {
                self.enter()?;
                self.execute(command, pod)
            };
            scope.spawn(call).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Brings this thread into the node's network.
    fn enter(&self) -> anyhow::Result<()> {
        self.node.map_or(Ok(()), space::enter_network)
    }

    fn execute(&self, command: &str, pod: &Pod) -> anyhow::Result<f64> {
        let Pod { name, uid, netns } = pod;
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID={uid}");
        let mut plugin = Command::new(&self.program);
        plugin.env_clear().env("CNI_COMMAND", command).env("CNI_CONTAINERID", name).env("CNI_IFNAME", "eth0");
        plugin.env("CNI_NETNS", netns).env("CNI_ARGS", args).env("CNI_PATH", &self.path);
        plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = plugin.spawn().with_context(|| self.program.display().to_string())?;
        child.stdin.take().context("a pipe")?.write_all(self.config.as_bytes()).context("the configuration")?;
        let output = child.wait_with_output()?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let said = || [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
        ensure!(output.status.success(), "{} {command} of {name}: {}", self.program.display(), said());
        Ok(took)
    }

    /// A call for each pod at once; ms until the last has ended.
    pub(crate) fn calls(&self, command: &str, pods: &[Pod]) -> anyhow::Result<f64> {
        let gate = Barrier::new(pods.len() + 1);
        thread::scope(|scope| {
            let gate = &gate;
            let call = move |pod| {
                let entered = self.enter();
                gate.wait();
                entered?;
                self.execute(command, pod)
            };
            let running: Vec<_> = pods.iter().map(|pod| scope.spawn(move || call(pod))).collect();
            gate.wait();
            let begun = Instant::now();
            for call in running {
                call.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        })
    }
}
