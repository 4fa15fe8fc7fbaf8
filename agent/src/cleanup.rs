//! `weft cleanup`: every trace of Weft on this node goes. Pods that run lose their network, and it says how many.
//!
//! Programs and filters of others on the same devices stay, and so does a clsact qdisc that somebody else made or uses. An
//! agent that still runs would make everything again: it must have ended. The Node's condition is in the API: it goes too
//! where there is a way there, else it is said how to remove it.
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use abi::event::Hook;

use crate::{
    condition,
    conflist::{self, ConflistError},
    devices,
    load::{self, LoadError},
    netlink::{Netlink, NetlinkError},
    pods::is_device,
    preflight::{self, PreflightError},
};

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flags of `weft cleanup`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the BPF file system is mounted
    #[arg(long, default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// Where the container runtime looks for network configurations
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where the container runtime looks for CNI plugins
    #[arg(long, default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Where the ledger of addresses lies
    #[arg(long, default_value = "/var/lib/weft/agent")]
    pub state_dir: PathBuf,
    /// The agent's socket
    #[arg(long, default_value = agent_api::SOCKET)]
    pub socket: PathBuf,
    /// How to reach the API server, where the node's condition is; without it, as a pod's service account if this is a pod
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node's Node object; by default the host's name
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,
}

/// Something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The account.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// A device or route.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A pin.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The CNI configuration.
    #[error(transparent)]
    Conflist(#[from] ConflistError),
    /// The Node's condition.
    #[error("everything on this node is gone, but the Node's condition stays: {why}; remove it with\n{command}")]
    Condition {
        /// Why.
        why: String,
        /// What removes it.
        command: String,
    },
    /// A directory.
    #[error("cannot remove {path}")]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Removes configuration, hooks, devices, maps, the ledger and the Node's condition, in that order.
///
/// # Errors
/// The first thing that cannot be removed.
pub async fn run(args: Args) -> Result<(), CleanupError> {
    preflight::capabilities()?;
    conflist::remove(&args.cni_conf_dir, &args.cni_bin_dir)?;
    let netlink = Netlink::open()?;
    let pods = netlink.links().await?.iter().filter(|link| is_device(&link.name)).count();
    if pods > 0 {
        let words = if pods == 1 { "pod loses its" } else { "pods lose their" };
        tracing::warn!("{pods} {words} network: delete or restart them under another network plugin");
    }
    let root = args.bpffs.join("weft");
    for pin in load::names(&root.join("links")) {
        load::remove(&root.join("links").join(pin))?;
    }
    for link in netlink.links().await? {
        Hook::ALL.iter().for_each(|hook| load::attach::detach_clsact(*hook, &link.name));
        // Only a qdisc that we made, and that nobody else has come to use.
        if root.join("clsact").join(&link.name).exists() && netlink.filters(&link).await?.is_empty() {
            netlink.remove_clsact(&link).await?;
        }
        if is_device(&link.name) {
            netlink.remove(&link.name).await?;
        }
    }
    devices::remove(&netlink).await?;
    for path in [&root, &args.state_dir] {
        remove_tree(path)?;
    }
    load::remove(&args.socket)?;
    forget_condition(&args).await
}

/// The last trace is in the API. Whoever gave a kubeconfig wants it gone; without any way to the API it is told of.
async fn forget_condition(args: &Args) -> Result<(), CleanupError> {
    let host = || nix::unistd::gethostname().ok()?.into_string().ok().map(|name| name.to_lowercase());
    let node = args.node_name.clone().or_else(host).unwrap_or_default();
    let removed = async {
        let client = crate::run::client(args.kubeconfig.as_deref()).await.map_err(|error| crate::chain(&error))?;
        condition::remove(client, &node).await.map_err(|error| crate::chain(&error))
    };
    let answer = tokio::time::timeout(PATIENCE, removed).await;
    let why = match answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()))) {
        Ok(true) => {
            tracing::info!(node, "the Node's condition {} is removed", condition::EXHAUSTED);
            return Ok(());
        }
        Ok(false) => return Ok(()),
        Err(why) => why,
    };
    let command = condition::command(&node);
    if args.kubeconfig.is_some() {
        return Err(CleanupError::Condition { why, command });
    }
    tracing::warn!("the condition {} of Node {node} stays: {why}; remove it with\n{command}", condition::EXHAUSTED);
    Ok(())
}

fn remove_tree(path: &Path) -> Result<(), CleanupError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CleanupError::Directory { path: path.into(), source })
        }
        _ => Ok(()),
    }
}
