//! `weft`: the one binary. Reads the command line and hands over to the library that does the work.
//!
//! Order matters here. The container helper and node-init must run before any thread exists, and a command that enters a
//! node's namespaces must do so before the runtime starts its threads; so the runtime is made last, and only for the
//! commands that need one.

mod ask;
mod check;
mod columns;
mod command;
mod down;
mod image;
mod policy;
mod progress;
mod up;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;

use crate::command::{Cli, Command};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|word| word == "container-helper") {
        return exit_code(container_helper::main(args));
    }
    // Children are started by /proc/self/exe, after which the kernel would call them "exe".
    _ = std::fs::write("/proc/self/comm", "weft");
    let cli = Cli::parse();
    start_log();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => up::run(&args),
        Command::Down(args) => down::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Pki(args) => Ok(control_plane::pki::run(args)?),
        Command::Server(args) => daemon(async || Ok(control_plane::server::run(args).await?)),
        Command::Node(args) => daemon(async || Ok(node::run(args).await?)),
        Command::Agent(args) => daemon(async || Ok(agent::run(args).await?)),
        Command::Cleanup(args) => daemon(async || Ok(agent::cleanup::run(args).await?)),
        Command::Check(args) => acceptance(&args),
        Command::Status(args) => ask::status::run(&args),
        Command::Monitor(args) => ask::monitor::run(args),
        Command::Table(args) => ask::table::run(args),
        Command::Pod(args) => ask::pod::run(&args),
        Command::Route(args) => ask::route::run(&args),
        Command::Flow(args) => ask::flow::run(args),
        Command::Policy(args) => policy::run(&args),
        Command::NodeInit(args) => Ok(local_cluster::node_init::run(&args)?),
        Command::Supervise(args) => Ok(local_cluster::supervise::run(&args)?),
        Command::Publish(args) => Ok(local_cluster::publish::run(&args)?),
        Command::ContainerHelper => unreachable!("dispatched before the command line is parsed"),
    }
}

/// Runs a long-lived part until it ends.
fn daemon(part: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(part())
}

/// Runs the acceptance; a promise that does not hold is an error.
fn acceptance(args: &check::Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    anyhow::ensure!(runtime.block_on(check::run(args))?, "the check failed; the table above says where");
    Ok(())
}

/// What is logged if nothing else is said. kube's client calls each refused connection an error; who uses it says more.
const LOG: &str = "info,kube_client::client::builder=off";

/// `WEFT_LOG` in tracing's directives (`info`, `agent=debug`, …), to standard error.
fn start_log() {
    let filter = std::env::var("WEFT_LOG").ok().and_then(|text| text.parse().ok());
    let filter = filter.unwrap_or_else(|| tracing_subscriber::EnvFilter::new(LOG));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
