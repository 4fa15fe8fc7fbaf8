//! Processes as /proc shows them.
use std::{fs, thread, time::Duration};

use anyhow::Context as _;

/// A process of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The API server with its controllers and its scheduler.
    Server,
    /// The networking agent.
    Agent,
    /// The node side.
    Node,
}

/// All of them.
pub(crate) const ROLES: [Role; 3] = [Role::Server, Role::Agent, Role::Node];

impl Role {
    /// The subcommand.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Agent => "agent",
            Role::Node => "node",
        }
    }

    /// What shows that it serves.
    pub(crate) fn serves(self) -> &'static str {
        match self {
            Role::Server => "until /readyz is answered",
            Role::Agent => "until /readyz says that tables and hooks are in force",
            Role::Node => "until it listens for the API server",
        }
    }
}

/// The child of a process that runs this subcommand. Asked more than once: the kernel leaves children out of its list while
/// another one ends (proc(5)), such as what a killed process leaves to its parent.
pub(crate) fn child(parent: i32, role: Role) -> Option<i32> {
    let found = || children(parent).into_iter().find(|pid| subcommand(*pid).as_deref() == Some(role.name()));
    (0..100).find_map(|_| {
        let pid = found();
        if pid.is_none() {
            thread::sleep(Duration::from_millis(10));
        }
        pid
    })
}

/// Children of a process's first thread: supervisor and node-init have no other that starts any.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn subcommand(pid: i32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    line.split(|byte| *byte == 0).nth(1).map(|word| String::from_utf8_lossy(word).into_owned())
}

/// RSS and PSS, MiB.
pub(crate) fn memory(pid: i32) -> anyhow::Result<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("memory of {pid}"))?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    Ok((field("Rss:").context("no Rss")?, field("Pss:").context("no Pss")?))
}
