//! Commands that ask the agent of a node over its socket.
//!
//! On a real node the socket is there. For a node of a local cluster, `--cluster` and `--node` first move this process
//! into the node's namespaces; that must happen while the process has one thread, so each command starts its runtime here.

pub(crate) mod flow;
pub(crate) mod monitor;
pub(crate) mod pod;
pub(crate) mod route;
pub(crate) mod status;
pub(crate) mod table;

use std::{io::Write as _, path::PathBuf};

use agent_api::{AgentClient, v1::Endpoint};
use anyhow::anyhow;
use tonic::transport::Channel;

/// Which agent.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The agent's socket
    #[arg(long, default_value = agent_api::SOCKET)]
    socket: PathBuf,
    /// A local cluster, one of whose nodes to enter
    #[arg(long, requires = "node")]
    cluster: Option<String>,
    /// The node of that cluster
    #[arg(long, requires = "cluster")]
    node: Option<String>,
}

/// Enters the node, connects, and runs `work`.
pub(crate) fn ask(
    target: &Target,
    work: impl AsyncFnOnce(AgentClient<Channel>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if let (Some(cluster), Some(node)) = (&target.cluster, &target.node) {
        local_cluster::enter::node(cluster, node)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = agent_api::connect(&target.socket).await?;
        work(AgentClient::new(channel)).await
    })
}

/// Prints. A reader that has gone (`| head`) ends the command without a word, as it ends other programs.
pub(crate) fn print(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// An answer, or the agent's own words why not.
pub(crate) fn answer<T>(reply: Result<tonic::Response<T>, tonic::Status>) -> anyhow::Result<T> {
    reply.map(tonic::Response::into_inner).map_err(|status| anyhow!("the agent: {}", status.message()))
}

/// `name (address):port`, with as much as is known.
pub(crate) fn endpoint(endpoint: Option<&Endpoint>) -> String {
    let Some(endpoint) = endpoint else { return "?".to_owned() };
    let port = if endpoint.port == 0 { String::new() } else { format!(":{}", endpoint.port) };
    match endpoint.name.as_str() {
        "" => format!("{}{port}", endpoint.address),
        name => format!("{name} ({}){port}", endpoint.address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, port: u32, expected: &str) {
        let one = Endpoint { address: "10.0.0.1".to_owned(), port, name: name.to_owned() };
        assert_eq!(endpoint(Some(&one)), expected);
    }

    #[test]
    fn endpoints() {
        check("", 0, "10.0.0.1");
        check("", 80, "10.0.0.1:80");
        check("a/b", 80, "a/b (10.0.0.1):80");
        assert_eq!(endpoint(None), "?");
    }
}
