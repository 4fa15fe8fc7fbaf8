//! What `weft agent` is told on its command line.
use std::{net::SocketAddr, path::PathBuf};

use abi::{
    flow::{FORMER, LAYOUT},
    map,
    timeout::{Timeout, Timeouts},
};
use ipnetwork::IpNetwork;

use crate::{
    load::pins::{Sizes, TableRows},
    routing::Routing,
};

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
    /// MTU of pods: `auto` for what the underlay leaves, or a number of bytes
    #[arg(long, default_value = "auto")]
    pub mtu: crate::mtu::Setting,
    /// Address range of all pods; two, one per family, separated by a comma
    #[arg(long, default_value = "10.244.0.0/16", value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNetwork>,
    /// Address range of Services; two, one per family, separated by a comma
    #[arg(long, default_value = "10.96.0.0/16", value_delimiter = ',')]
    pub service_cidr: Vec<IpNetwork>,
    /// Ports that Services of type NodePort may have
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: (u16, u16),
    /// Ranges outside the cluster to which pods keep their addresses, separated by commas; `private` for all that are not public.
    /// The cluster's own ranges are never masqueraded
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = unmasqueraded)]
    pub non_masquerade_cidr: Vec<Unmasqueraded>,
    /// How long flows live after their last packet, e.g. tcp-established=7200; may be given for several names
    #[arg(long, value_name = "NAME=SECONDS", value_parser = timeout)]
    pub conntrack_timeout: Vec<(Timeout, u32)>,
    /// Entries of the table of established flows that the flows of one pod may have (a translated flow has two); 0: any
    /// number. Without it half of the table
    #[arg(long, value_name = "N")]
    pub flows_per_pod: Option<u32>,
    /// How packets go to the pods of other nodes: with a VXLAN header, as they are (one segment, or routers that know the
    /// pods' ranges), or as they are where the nodes share a segment
    #[arg(long, default_value = "vxlan")]
    pub routing: Routing,
    /// Take what other nodes send without a VXLAN header also from those that this node does not send to so: the first
    /// step of a change of --routing, on every node
    #[arg(long)]
    pub accept_native: bool,
    /// How programs are attached: tcx from Linux 6.6, else clsact
    #[arg(long, default_value = "auto")]
    pub attach: Attach,
    /// Who writes the outer header of packets to other nodes; nodes may differ
    #[arg(long, default_value = "program")]
    pub overlay_encapsulation: Encapsulation,
    /// Log what the slow path of the datapath decides (target `aya_log`, level debug); costly
    #[arg(long)]
    pub datapath_log: bool,
    /// Another number of rows for a table, as FLOWS=524288; may be given for several. Flows and connections are kept
    #[arg(long, value_name = "TABLE=ROWS")]
    pub table_rows: Vec<TableRows>,
    /// Keep the flows for an earlier version too, whose flow tables have this layout: before going back to it
    #[arg(long, value_name = "LAYOUT")]
    pub hand_over: Option<u32>,
    /// Between two sweeps for addresses, devices, pins and rows that nobody owns any more; 0: only a start looks for them
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub leak_sweep_seconds: u64,
    /// Have new flows told of even while no `weft monitor` asks for them
    #[arg(long)]
    pub flow_events: bool,
}

impl Args {
    /// Whether the ranges make sense: one of each family at most, and pods of the family that Services have first.
    ///
    /// # Errors
    /// The flag that does not, and what to give it.
    pub fn families(&self) -> Result<(), String> {
        for (flag, ranges) in [("--cluster-cidr", &self.cluster_cidr), ("--service-cidr", &self.service_cidr)] {
            let count = |v4: bool| ranges.iter().filter(|range| range.is_ipv4() == v4).count();
            if count(true) > 1 || count(false) > 1 {
                return Err(format!(
                    "{flag} {} has two ranges of one family: give one IPv4 and one IPv6 range at most",
                    list(ranges)
                ));
            }
        }
        let Some(first) = self.service_cidr.first() else { return self.masquerade() };
        if !self.cluster_cidr.iter().any(|range| range.is_ipv4() == first.is_ipv4()) {
            let family = if first.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(format!(
                "--service-cidr {} begins with {family}, but --cluster-cidr {} has no such range, so no pod could be behind a \
                 Service: give both the ranges that the API server and the Nodes have",
                list(&self.service_cidr),
                list(&self.cluster_cidr)
            ));
        }
        self.masquerade()
    }

    fn masquerade(&self) -> Result<(), String> {
        for range in self.not_masqueraded() {
            let within = |of: &&IpNetwork| of.contains(range.network()) && of.prefix() <= range.prefix();
            if let Some(of) = self.cluster_cidr.iter().chain(&self.service_cidr).find(within) {
                return Err(format!(
                    "--non-masquerade-cidr {range} lies in {of}, a range of the cluster, which is never masqueraded: leave it out"
                ));
            }
        }
        Ok(())
    }

    /// The ranges to which pods keep their addresses.
    pub fn not_masqueraded(&self) -> Vec<IpNetwork> {
        self.non_masquerade_cidr.iter().flat_map(|ranges| ranges.0.iter().copied()).collect()
    }

    /// Entries of the table of established flows that the flows of one pod may have: half of the table, however large that is
    /// made, unless a number was given.
    pub fn flows_per_pod(&self) -> u32 {
        self.flows_per_pod.unwrap_or_else(|| Sizes::new(&self.table_rows).of(&map::FLOWS) / 2)
    }

    /// The layout that flows are kept in for an earlier version.
    ///
    /// # Errors
    /// It is none of an earlier version.
    pub fn hand_over(&self) -> Result<Option<u32>, String> {
        match self.hand_over {
            Some(to) if to == 0 || to != FORMER => Err(format!(
                "--hand-over {to}: this version's own layout of flows is {LAYOUT}, and flows can be kept for a version with \
                 {before}; one with the same layout takes over without",
                before = if FORMER == 0 { "no other".to_owned() } else { format!("layout {FORMER}") }
            )),
            other => Ok(other),
        }
    }

    /// The timeouts of flows.
    ///
    /// # Errors
    /// The name that is given twice.
    pub fn timeouts(&self) -> Result<Timeouts, String> {
        let mut timeouts = Timeouts::DEFAULT;
        for (index, (timeout, seconds)) in self.conntrack_timeout.iter().enumerate() {
            if self.conntrack_timeout[..index].iter().any(|(earlier, _)| earlier == timeout) {
                return Err(format!("--conntrack-timeout {} is given twice: give it once", timeout.name()));
            }
            timeouts.0[*timeout as usize] = *seconds;
        }
        Ok(timeouts)
    }
}

fn list(ranges: &[IpNetwork]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// One range to which pods keep their addresses, or those that a word stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmasqueraded(pub Vec<IpNetwork>);

/// What `private` stands for: RFC 1918, RFC 6598 (shared with providers), RFC 4193.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

fn unmasqueraded(text: &str) -> Result<Unmasqueraded, String> {
    if text == "private" {
        return Ok(Unmasqueraded(PRIVATE.iter().filter_map(|range| range.parse().ok()).collect()));
    }
    let range: IpNetwork =
        text.parse().map_err(|_| format!("{text} is neither a range like 10.0.0.0/8 nor `private`"))?;
    if range.ip() != range.network() {
        return Err(format!("{text} has bits beyond its prefix: write {}/{}", range.network(), range.prefix()));
    }
    Ok(Unmasqueraded(vec![range]))
}

/// A timeout of flows may be as long as a year.
const LONGEST: u32 = 365 * 86_400;

fn timeout(text: &str) -> Result<(Timeout, u32), String> {
    let (name, seconds) = text.split_once('=').ok_or_else(|| format!("{text} is not NAME=SECONDS"))?;
    let timeout = Timeout::ALL.into_iter().find(|timeout| timeout.name() == name).ok_or_else(|| {
        format!("there is no timeout {name}: the names are {}", Timeout::ALL.map(Timeout::name).join(", "))
    })?;
    let seconds = seconds.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds));
    let seconds = seconds.ok_or_else(|| format!("{name} must be a number of seconds from 1 to {LONGEST}"))?;
    Ok((timeout, seconds))
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

/// Who writes the overlay's outer header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Encapsulation {
    /// The programs, which then send straight to the NIC; the VXLAN device gets what they cannot do.
    Program,
    /// The VXLAN device.
    Device,
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parse = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    let range = text.split_once('-').and_then(|(first, last)| Some((parse(first)?, parse(last)?)));
    range.filter(|(first, last)| first <= last).ok_or_else(|| format!("{text} is not a range like 30000-32767"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[track_caller]
    fn check(flags: &[&str], expected: Result<[u32; 3], &str>) {
        let line = ["agent", "--node-name", "n"].iter().chain(flags);
        let got = Line::try_parse_from(line).map_err(|error| error.to_string()).and_then(|line| {
            let of = line.args.timeouts()?;
            Ok([of.seconds(Timeout::TcpEstablished), of.seconds(Timeout::Udp), line.args.flows_per_pod()])
        });
        match (got, expected) {
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{got}"),
            (got, expected) => assert_eq!(got, expected.map_err(str::to_owned)),
        }
    }

    #[track_caller]
    fn keeps_source(flags: &[&str], expected: Result<&str, &str>) {
        let line = ["agent", "--node-name", "n"].iter().chain(flags);
        let got = Line::try_parse_from(line).map_err(|error| error.to_string()).and_then(|line| {
            line.args.families()?;
            Ok(line.args.not_masqueraded().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        });
        match (got, expected) {
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{got}"),
            (got, expected) => assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned)),
        }
    }

    #[test]
    fn ranges_that_are_not_masqueraded() {
        let flag = "--non-masquerade-cidr";
        keeps_source(&[], Ok(""));
        keeps_source(&[flag, "10.0.0.0/8,fd00::/8"], Ok("10.0.0.0/8 fd00::/8"));
        keeps_source(&[flag, "private"], Ok("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7"));
        keeps_source(&[flag, "lan"], Err("lan is neither a range like 10.0.0.0/8 nor `private`"));
        keeps_source(&[flag, "10.1.2.3/8"], Err("10.1.2.3/8 has bits beyond its prefix: write 10.0.0.0/8"));
        keeps_source(&[flag, "10.244.7.0/24"], Err("10.244.7.0/24 lies in 10.244.0.0/16, a range of the cluster"));
    }

    #[test]
    fn ranges_of_pods_and_services() {
        let (pods, services) = ("--cluster-cidr", "--service-cidr");
        keeps_source(&[pods, "10.1.0.0/16,fd00::/56"], Ok(""));
        keeps_source(&[pods, "fd00::/56", services, "fd01::/112,10.96.0.0/16"], Ok(""));
        keeps_source(
            &[pods, "fd00::/56"],
            Err("--service-cidr 10.96.0.0/16 begins with IPv4, but --cluster-cidr fd00::/56"),
        );
        keeps_source(&[services, "fd01::/112"], Err("begins with IPv6, but --cluster-cidr 10.244.0.0/16 has no such"));
        keeps_source(&[pods, "10.0.0.0/16,10.1.0.0/16"], Err("has two ranges of one family"));
    }

    #[test]
    fn timeouts_and_share_of_flows() {
        let t = "--conntrack-timeout";
        check(&[], Ok([15_000, 60, 131_072]));
        check(&[t, "tcp-established=7200", t, "udp=5", "--flows-per-pod", "100"], Ok([7_200, 5, 100]));
        check(&["--flows-per-pod", "0"], Ok([15_000, 60, 0]));
        check(&["--table-rows", "FLOWS=1000"], Ok([15_000, 60, 500]));
        check(&["--table-rows", "FLOWS=1000", "--flows-per-pod", "900"], Ok([15_000, 60, 900]));
        check(&[t, "tcp"], Err("tcp is not NAME=SECONDS"));
        check(
            &[t, "tpc-opening=5"],
            Err("there is no timeout tpc-opening: the names are tcp-opening, tcp-established"),
        );
        check(&[t, "udp=0"], Err("udp must be a number of seconds from 1 to 31536000"));
        check(&[t, "udp=1h"], Err("udp must be a number of seconds from 1 to 31536000"));
        check(&[t, "udp=1", t, "udp=2"], Err("--conntrack-timeout udp is given twice"));
    }
}
