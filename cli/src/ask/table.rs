//! `weft table dump`: the tables as they are in the kernel, sorted text that two dumps can be compared by.

use agent_api::v1::TableDumpRequest;

use super::{Target, answer, ask, print};

/// Flags of `weft table`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print tables
    Dump {
        /// Only these, such as SERVICES; all without
        tables: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Command::Dump { tables, target } = args.command;
    ask(&target, async |mut agent| {
        let mut replies = answer(agent.table_dump(TableDumpRequest { tables }).await)?;
        while let Some(reply) = answer(replies.message().await.map(tonic::Response::new))? {
            print(format_args!("# {} {} rows\n{}\n", reply.table, reply.rows, reply.text))?;
        }
        Ok(())
    })
}
