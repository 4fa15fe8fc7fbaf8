//! `weft agent` as the version before, as to its flow tables: what tests upgrade from and go back to.
use std::process::ExitCode;

use clap::Parser;

/// `agent`, and its flags.
#[derive(Parser)]
enum Command {
    Agent(agent::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let Command::Agent(args) = Command::parse();
    match agent::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
