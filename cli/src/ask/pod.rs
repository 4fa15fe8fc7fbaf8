//! `weft pod list`: this node's pods, as the datapath knows them.

use agent_api::v1::{
    PodListRequest,
    pod_list_reply::{HostPort, Pod},
};

use super::{Format, Target, answer, ask, or_dash, print};
use crate::columns::columns;

/// Flags of `weft pod`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them
    List {
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        target: Target,
    },
}

const HEADER: [&str; 13] = [
    "ID",
    "POD",
    "ADDRESSES",
    "DEVICE",
    "MAC",
    "GENERATION",
    "READY",
    "ISOLATED",
    "SET",
    "POLICIES",
    "LIMITS",
    "HOST PORTS",
    "FOREIGN",
];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::List { format, target } = &args.command;
    ask(target, async |mut agent| {
        let reply = answer(agent.pod_list(PodListRequest {}).await)?;
        print(format.of(&reply, || columns(HEADER, &reply.pods.iter().map(row).collect::<Vec<_>>()))?)
    })
}

fn row(pod: &Pod) -> [String; 13] {
    let isolated = match (pod.isolated_ingress, pod.isolated_egress) {
        (true, true) => "both",
        (true, false) => "ingress",
        (false, true) => "egress",
        (false, false) => "-",
    };
    [
        pod.id.to_string(),
        format!("{}/{}", pod.namespace, pod.name),
        pod.addresses.join(","),
        pod.device.clone(),
        pod.mac.clone(),
        pod.generation.to_string(),
        if pod.ready { "yes" } else { "no" }.to_owned(),
        isolated.to_owned(),
        format!("{:08x}", pod.policy_set),
        or_dash(pod.policies.join(",")),
        or_dash(limits(pod)),
        or_dash(pod.host_ports.iter().map(host_port).collect::<Vec<_>>().join(",")),
        or_dash(pod.foreign.join(", ")),
    ]
}

/// As in the annotations that ask for them: bits per second.
fn limits(pod: &Pod) -> String {
    let limits = [("in", pod.ingress_limit), ("out", pod.egress_limit)];
    let words =
        limits.iter().filter(|(_, bits)| *bits > 0).map(|(way, bits)| format!("{way} {}bit/s", quantity(*bits)));
    words.collect::<Vec<_>>().join(", ")
}

/// With the largest decimal suffix that loses nothing.
fn quantity(number: u64) -> String {
    let suffixes = [(1_000_000_000, " G"), (1_000_000, " M"), (1_000, " k")];
    let whole = suffixes.iter().find(|(unit, _)| number.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{number} "), |(unit, suffix)| format!("{}{suffix}", number / unit))
}

/// `8080->80/tcp`, with the node's address if it is for one only.
fn host_port(port: &HostPort) -> String {
    let at = match port.host_ip.as_str() {
        "" => String::new(),
        ip if ip.contains(':') => format!("[{ip}]:"),
        ip => format!("{ip}:"),
    };
    format!("{at}{}->{}/{}", port.port, port.container_port, port.proto)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_shows_all_that_it_has() {
        let port = |host_ip: &str| HostPort {
            host_ip: host_ip.to_owned(),
            port: 8080,
            container_port: 80,
            proto: "tcp".to_owned(),
        };
        let pod = Pod {
            id: 5,
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            addresses: vec!["10.244.0.5".to_owned(), "fd00::5".to_owned()],
            isolated_egress: true,
            policy_set: 10,
            host_ports: vec![port(""), port("::")],
            ingress_limit: 10_000_000,
            egress_limit: 1_500,
            foreign: vec!["queue fq".to_owned()],
            ..Pod::default()
        };
        let row = row(&pod);
        assert_eq!((row[1].as_str(), row[2].as_str()), ("a/b", "10.244.0.5,fd00::5"));
        assert_eq!(row[6..10], ["no", "egress", "0000000a", "-"]);
        assert_eq!(row[10..], ["in 10 Mbit/s, out 1500 bit/s", "8080->80/tcp,[::]:8080->80/tcp", "queue fq"]);
    }
}
