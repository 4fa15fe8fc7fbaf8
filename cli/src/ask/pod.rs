//! `weft pod list`: this node's pods, as the datapath knows them.

use agent_api::v1::{PodListRequest, pod_list_reply::Pod};

use super::{Target, answer, ask, print};
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
        target: Target,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::List { target } = &args.command;
    ask(target, async |mut agent| {
        let reply = answer(agent.pod_list(PodListRequest {}).await)?;
        let header = ["ID", "POD", "ADDRESS", "DEVICE", "READY", "ISOLATED", "SET", "POLICIES"];
        print(columns(header, &reply.pods.iter().map(row).collect::<Vec<_>>()))
    })
}

fn row(pod: &Pod) -> [String; 8] {
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
        if pod.ready { "yes" } else { "no" }.to_owned(),
        isolated.to_owned(),
        pod.policy_set.to_string(),
        pod.policies.join(","),
    ]
}
