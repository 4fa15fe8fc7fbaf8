//! `weft flow list`: the flows that the datapath remembers.

use agent_api::v1::{Flow, FlowListRequest};

use super::{Format, Target, answer, ask, endpoint, pod_name, print};
use crate::columns::columns;

/// Flags of `weft flow`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them
    List {
        /// Only flows of this pod, as namespace/name
        #[arg(long, value_parser = pod_name)]
        pod: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 1000)]
        limit: u32,
        #[command(flatten)]
        format: Format,
        #[command(flatten)]
        target: Target,
    },
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Command::List { pod, limit, format, target } = args.command;
    ask(&target, async |mut agent| {
        let request = FlowListRequest { pod: pod.unwrap_or_default(), limit };
        let mut stream = answer(agent.flow_list(request).await)?;
        let mut flows = Vec::new();
        while let Some(flow) = answer(stream.message().await.map(tonic::Response::new))? {
            flows.push(flow);
        }
        let header = ["PROTO", "SOURCE", "DESTINATION", "TRANSLATED", "STATE", "PACKETS", "BYTES", "IDLE"];
        let text = || columns(header, &flows.iter().map(row).collect::<Vec<_>>());
        print(format.of(&serde_json::json!({ "flows": flows }), text)?)
    })
}

fn row(flow: &Flow) -> [String; 8] {
    [
        flow.proto.clone(),
        endpoint(flow.source.as_ref()),
        endpoint(flow.destination.as_ref()),
        flow.translated.as_ref().map_or_else(|| "-".to_owned(), |end| endpoint(Some(end))),
        flow.state.clone(),
        flow.packets.to_string(),
        flow.bytes.to_string(),
        format!("{:.1}s", std::time::Duration::from_millis(flow.idle_ms).as_secs_f64()),
    ]
}
