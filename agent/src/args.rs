//! What `weft agent` is told on its command line.
use std::{net::SocketAddr, path::PathBuf};

use ipnetwork::IpNetwork;

use crate::load::pins::TableRows;

/// Flags of `weft agent`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of this node's Node object
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// How to reach the API server; without it, as a pod's service account
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Where the ledger of addresses lies
    #[arg(long, default_value = "/var/lib/weft/agent")]
    pub state_dir: PathBuf,
    /// Unix socket for the CNI plugin and the `weft` commands
    #[arg(long, default_value = agent_api::SOCKET)]
    pub socket: PathBuf,
    /// Where a BPF file system is mounted
    #[arg(long, default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// Where the container runtime looks for network configurations
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where the container runtime looks for CNI plugins
    #[arg(long, default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// The `weft-cni` program that is put there; without it the plugin is expected to be there
    #[arg(long)]
    pub cni_plugin: Option<PathBuf>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served
    #[arg(long, default_value = "0.0.0.0:9465")]
    pub metrics_listen: SocketAddr,
    /// Name of the network device that carries the node's address, or `auto`
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Address range of all pods; two, one per family, separated by a comma
    #[arg(long, default_value = "10.244.0.0/16", value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNetwork>,
    /// Address range of Services; two, one per family, separated by a comma
    #[arg(long, default_value = "10.96.0.0/16", value_delimiter = ',')]
    pub service_cidr: Vec<IpNetwork>,
    /// Ports that Services of type NodePort may have
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: (u16, u16),
    /// How programs are attached: tcx from Linux 6.6, else clsact
    #[arg(long, default_value = "auto")]
    pub attach: Attach,
    /// Log what the slow path of the datapath decides (target `aya_log`, level debug); costly
    #[arg(long)]
    pub datapath_log: bool,
    /// Another number of rows for a table, as FLOWS=524288; may be given for several. Flows and connections are kept
    #[arg(long, value_name = "TABLE=ROWS")]
    pub table_rows: Vec<TableRows>,
    /// Keep the flows for an earlier version too, whose flow tables have this layout: before going back to it
    #[arg(long, value_name = "LAYOUT")]
    pub hand_over: Option<u32>,
    /// Write flow tables as a version with this layout would: for tests of what a change of layout takes
    #[arg(long, hide = true, default_value_t = abi::flow::LAYOUT)]
    pub flow_layout: u32,
    /// Have new flows told of even while no `weft monitor` asks for them
    #[arg(long)]
    pub flow_events: bool,
}

impl Args {
    /// Whether the ranges make sense: one of each family at most.
    ///
    /// # Errors
    /// The flag that does not, and what to give it.
    pub fn families(&self) -> Result<(), String> {
        for (flag, ranges) in [("--cluster-cidr", &self.cluster_cidr), ("--service-cidr", &self.service_cidr)] {
            let count = |v4: bool| ranges.iter().filter(|range| range.is_ipv4() == v4).count();
            if count(true) > 1 || count(false) > 1 {
                let list: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                return Err(format!(
                    "{flag} {} has two ranges of one family: give one IPv4 and one IPv6 range at most",
                    list.join(",")
                ));
            }
        }
        Ok(())
    }

    /// The layout that flows are kept in for an earlier version.
    ///
    /// # Errors
    /// It is none of an earlier version.
    pub fn hand_over(&self) -> Result<Option<u32>, String> {
        match self.hand_over {
            Some(to) if to == 0 || to >= self.flow_layout => Err(format!(
                "--hand-over {to}: this version's own layout of flows is {}, and one before it is wanted; a version with \
                 the same layout takes over without",
                self.flow_layout
            )),
            other => Ok(other),
        }
    }
}

/// How programs are attached to devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Attach {
    /// tcx where the kernel has it.
    Auto,
    /// A link, pinned (Linux 6.6).
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parse = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    let range = text.split_once('-').and_then(|(first, last)| Some((parse(first)?, parse(last)?)));
    range.filter(|(first, last)| first <= last).ok_or_else(|| format!("{text} is not a range like 30000-32767"))
}
