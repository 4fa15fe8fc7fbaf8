//! `weft route list`: which prefix the datapath sends to which node.

use agent_api::v1::{RouteListRequest, route_list_reply::Route};

use super::{Format, Target, answer, ask, or_dash, print};
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
        format: Format,
        #[command(flatten)]
        target: Target,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::List { format, target } = &args.command;
    ask(target, async |mut agent| {
        let reply = answer(agent.route_list(RouteListRequest {}).await)?;
        let rows = || reply.routes.iter().map(row).collect::<Vec<_>>();
        print(format.of(&reply, || columns(["PREFIX", "NODE", "WAY", "VIA", "TUNNEL", "FLAGS"], &rows()))?)
    })
}

fn row(route: &Route) -> [String; 6] {
    let node = or_dash(route.node.clone());
    let (way, via) = (or_dash(route.way.clone()), or_dash(route.via.clone()));
    [route.prefix.clone(), node, way, via, or_dash(route.tunnel.clone()), route.flags.join(",")]
}
