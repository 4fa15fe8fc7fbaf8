//! `weft-cni`: turns one CNI call into one call on the agent's socket, and its answer into CNI's JSON.
//!
//! Specification: https://www.cni.dev/docs/spec/ (1.1.0). The program keeps no state and decides nothing: the agent
//! gives addresses, makes devices and answers an ADD only when the pod's policy is in force. Input comes by environment
//! and standard input; the result or the error goes to standard output, and a failure exits with 1.
mod call;
mod config;
mod environment;
mod failure;
mod result;

use std::{
    io::{self, Read as _},
    process::ExitCode,
};

use environment::{Command, Environment};
use failure::Failure;

/// Versions that we take, oldest first.
pub(crate) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The largest configuration that is read, in bytes.
const LARGEST: u64 = 1 << 20;

fn main() -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_none() {
        eprintln!(
            "weft-cni {} speaks CNI {}; a container runtime calls it.",
            env!("CARGO_PKG_VERSION"),
            VERSIONS.join(", ")
        );
        return ExitCode::from(2);
    }
    // An error is told in the caller's version once that is known.
    let mut version = VERSIONS[VERSIONS.len() - 1].to_owned();
    match run(&mut version) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}", failure.to_json(&version));
            ExitCode::FAILURE
        }
    }
}

/// The text of the result; empty for commands that have none.
fn run(version: &mut String) -> Result<String, Failure> {
    let environment = Environment::read(|name| std::env::var(name).ok())?;
    let mut input = Vec::new();
    io::stdin().take(LARGEST).read_to_end(&mut input).map_err(|error| Failure::io("reading standard input", &error))?;
    if environment.command == Command::Version {
        return Ok(result::versions(&config::version_of(&input)));
    }
    let config = config::Config::parse(&input)?;
    config.cni_version.clone_into(version);
    config.check(environment.command)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("starting", &error))?;
    runtime.block_on(call::agent(&environment, &config, &input))
}
