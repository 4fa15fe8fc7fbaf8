//! `weft route list`: which prefix the datapath sends to which node.

use agent_api::v1::RouteListRequest;

use super::{Target, answer, ask, print};
use crate::columns::columns;

/// Flags of `weft route`.
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
        let reply = answer(agent.route_list(RouteListRequest {}).await)?;
        let rows =
            reply.routes.into_iter().map(|route| [route.prefix, route.node, route.tunnel, route.flags.join(",")]);
        print(columns(["PREFIX", "NODE", "TUNNEL", "FLAGS"], &rows.collect::<Vec<_>>()))
    })
}
