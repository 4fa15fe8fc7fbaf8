//! `weft cleanup`: every trace of Weft on this node goes. Pods that run lose their network, and it says how many.
//!
//! Programs and filters of others on the same devices stay, and so does a clsact qdisc that somebody else made or uses. An
//! agent that still runs would make everything again: it must have ended.
use std::{fs, io, path::PathBuf};

use abi::event::Hook;

use crate::{
    conflist::{self, ConflistError},
    devices,
    load::{self, LoadError},
    netlink::{Netlink, NetlinkError, is_pods},
    preflight::{self, PreflightError},
};

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

/// Removes configuration, hooks, devices, maps and the ledger, in that order.
///
/// # Errors
/// The first thing that cannot be removed.
pub async fn run(args: Args) -> Result<(), CleanupError> {
    preflight::capabilities()?;
    conflist::remove(&args.cni_conf_dir, &args.cni_bin_dir)?;
    let netlink = Netlink::open()?;
    let pods = netlink.links().await?.iter().filter(|link| is_pods(&link.name)).count();
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
        if is_pods(&link.name) {
            netlink.remove(&link.name).await?;
        }
    }
    devices::remove(&netlink).await?;
    for path in [root, args.state_dir] {
        remove_tree(path)?;
    }
    load::remove(&args.socket)?;
    Ok(())
}

fn remove_tree(path: PathBuf) -> Result<(), CleanupError> {
    match fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CleanupError::Directory { path, source }),
        _ => Ok(()),
    }
}
