//! Credentials of a cluster's parts, made by `weft pki …` children: the CA and its formats are the control plane's.

use std::{
    ffi::OsString,
    io,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};

use crate::{commands, paths::Paths, spec::Spec};

/// What failed on the credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The child.
    #[error("starting weft {0}")]
    Start(String, #[source] io::Error),
    /// Its verdict.
    #[error("weft {command}: {message}")]
    Refused {
        /// The command's words.
        command: String,
        /// What it printed last.
        message: String,
    },
}

/// Makes what is missing; what is there is kept, so that kubeconfigs outlive a restart of the machine.
pub fn make(spec: &Spec, paths: &Paths) -> Result<(), Error> {
    let admin = paths.admin_kubeconfig();
    let host = (Ipv4Addr::LOCALHOST, spec.api_port).into();
    run(&admin, &commands::pki_kubeconfig(paths, host, "kubernetes-admin", &["system:masters"], &admin))?;
    for (number, node) in (1_u8..).zip(spec.node_names()) {
        node_credentials(spec, paths, &node, number)?;
    }
    Ok(())
}

fn node_credentials(spec: &Spec, paths: &Paths, node: &str, number: u8) -> Result<(), Error> {
    let files = paths.node(node);
    let server = commands::server_address(spec);
    let (user, groups) = (format!("system:node:{node}"), ["system:nodes"]);
    let out = files.join("node.kubeconfig");
    run(&out, &commands::pki_kubeconfig(paths, server, &user, &groups, &out))?;
    let (user, groups) = ("system:serviceaccount:kube-system:weft-agent", AGENT_GROUPS);
    let out = files.join("agent.kubeconfig");
    run(&out, &commands::pki_kubeconfig(paths, server, user, &groups, &out))?;
    run(&files.join("serving.crt"), &commands::pki_serving(spec, paths, node, number))?;
    let out = files.join("ca.crt");
    run(&out, &commands::pki_ca(paths, &out))
}

/// The groups that every service account is in.
const AGENT_GROUPS: [&str; 2] = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];

fn run(product: &Path, line: &[OsString]) -> Result<(), Error> {
    if product.exists() {
        return Ok(());
    }
    let words = || line.iter().take(2).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = Command::new("/proc/self/exe")
        .args(line)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start(words(), source))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.lines().last().unwrap_or("failed without a word").to_owned();
    Err(Error::Refused { command: words(), message })
}
