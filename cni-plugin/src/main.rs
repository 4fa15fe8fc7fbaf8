//! `weft-cni`: the CNI plugin that container runtimes execute (https://www.cni.dev/docs/spec/, 0.3.1 to 1.1.0).
//!
//! It checks what it is given, asks the agent over its socket, and prints the answer in the version that was asked for.
//! It decides nothing and keeps nothing; all that can go wrong is told in CNI's own error form on standard output.
use std::{
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use agent_api::code;

mod ask;
mod config;
mod environment;
mod failure;
mod previous;
mod result;

use config::Config;
use environment::{Command, Environment};
use failure::Failure;

/// Standard input larger than this is no network configuration.
const MAX_INPUT: u64 = 1 << 20;

fn main() -> ExitCode {
    let vars = |name: &str| std::env::var_os(name);
    let (output, code) = match run(&vars) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err((failure, version)) => (failure.json(&version), ExitCode::FAILURE),
    };
    let mut stdout = std::io::stdout().lock();
    // There is nobody left to tell if standard output is closed.
    let _ = stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush());
    code
}

/// What is printed; on a failure with the version that the caller speaks, as far as it is known.
fn run(vars: environment::Vars) -> Result<String, (Failure, String)> {
    let newest = || config::NEWEST.to_owned();
    let command = Command::read(vars).map_err(|failure| (failure, newest()))?;
    let input = input().map_err(|failure| (failure, newest()))?;
    if command == Command::Version {
        return Ok(result::versions(&config::spoken(&input)));
    }
    let config = Config::parse(&input).map_err(|failure| (failure, config::spoken(&input)))?;
    let version = config.version.clone();
    config.suits(command).map_err(|failure| (failure, version.clone()))?;
    let environment = Environment::read(command, vars).map_err(|failure| (failure, version.clone()))?;
    if command == Command::Add {
        previous::leaves_room(&config.previous, &environment.ifname).map_err(|failure| (failure, version.clone()))?;
    }
    answer(&config, &environment).map_err(|failure| (failure, version))
}

fn input() -> Result<String, Failure> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut input);
    read.map_err(|error| Failure::new(code::IO, "cannot read standard input", error.to_string()))?;
    let wrong = |details: &str| Failure::new(code::DECODE, "standard input is no network configuration", details);
    if input.len() as u64 > MAX_INPUT {
        return Err(wrong("it is larger than 1 MiB"));
    }
    String::from_utf8(input).map_err(|_| wrong("it is not UTF-8"))
}

fn answer(config: &Config, environment: &Environment) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(code::IO, "cannot start", error.to_string()))?;
    let socket = config.socket.clone().unwrap_or_else(|| PathBuf::from(agent_api::SOCKET));
    runtime.block_on(ask::ask(&socket, config, environment))
}
