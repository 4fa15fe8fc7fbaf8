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

/// How to print.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Format {
    /// Text for people, or JSON
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

impl Format {
    pub(crate) fn is_json(self) -> bool {
        self.output == Output::Json
    }

    /// A whole answer: as it is in JSON, or `text`.
    pub(crate) fn of(self, reply: &impl serde::Serialize, text: impl FnOnce() -> String) -> anyhow::Result<String> {
        Ok(if self.is_json() { serde_json::to_string_pretty(reply)? + "\n" } else { text() })
    }
}

/// `namespace/name` of a pod, as agents call it.
pub(crate) fn pod_name(text: &str) -> Result<String, String> {
    let whole = |(namespace, name): &(&str, &str)| !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    match text.split_once('/').filter(whole) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write it as namespace/name, for example default/web".to_owned()),
    }
}

/// A cell that has nothing to say.
pub(crate) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
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
    let (name, address) = (endpoint.name.as_str(), endpoint.address.as_str());
    let port = if endpoint.port == 0 { String::new() } else { format!(":{}", endpoint.port) };
    match name {
        // Only there the port would read as a part of the address.
        "" if address.contains(':') && !port.is_empty() => format!("[{address}]{port}"),
        "" => format!("{address}{port}"),
        name => format!("{name} ({address}){port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, port: u32, expected: &str) {
        check_of("10.0.0.1", name, port, expected);
    }

    #[track_caller]
    fn check_of(address: &str, name: &str, port: u32, expected: &str) {
        let one = Endpoint { address: address.to_owned(), port, name: name.to_owned() };
        assert_eq!(endpoint(Some(&one)), expected);
    }

    #[test]
    fn endpoints() {
        check("", 0, "10.0.0.1");
        check("", 80, "10.0.0.1:80");
        check("a/b", 80, "a/b (10.0.0.1):80");
        check_of("fd00::1", "", 0, "fd00::1");
        check_of("fd00::1", "", 80, "[fd00::1]:80");
        check_of("fd00::1", "a/b", 80, "a/b (fd00::1):80");
        assert_eq!(endpoint(None), "?");
    }
}
