//! `weft-cni`: the CNI plugin that container runtimes execute (https://www.cni.dev/docs/spec/, 0.3.1 to 1.1.0).
//!
//! It checks what it is given, asks the agent over its socket, and prints the answer in the version that was asked for.
//! It decides nothing and keeps nothing; all that can go wrong is told in CNI's own error form on standard output.
use std::{
    ffi::OsString,
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use agent_api::{code, v1::CniReply};

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

/// The program: one call, as the environment and standard input tell it.
pub fn main() -> ExitCode {
    let vars = |name: &str| std::env::var_os(name);
    let (output, done) = printed(run(&vars, || text(std::io::stdin().lock()), answer));
    let mut stdout = std::io::stdout().lock();
    // There is nobody left to tell if standard output is closed.
    let _ = stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush());
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same call with an agent that answers so, whatever it is asked: what would be printed, and whether it is a success.
pub fn rehearse(vars: &dyn Fn(&str) -> Option<OsString>, input: &[u8], reply: CniReply) -> (String, bool) {
    printed(run(vars, || text(input), |config, environment| ask::print(reply, config, environment)))
}

fn printed(result: Result<String, (Failure, String)>) -> (String, bool) {
    match result {
        Ok(output) => (output, true),
        Err((failure, version)) => (failure.json(&version), false),
    }
}

/// What is printed; on a failure with the version that the caller speaks, as far as it is known.
fn run(
    vars: environment::Vars,
    input: impl FnOnce() -> Result<String, Failure>,
    answer: impl FnOnce(&Config, &Environment) -> Result<String, Failure>,
) -> Result<String, (Failure, String)> {
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

fn text(input: impl Read) -> Result<String, Failure> {
    let mut text = Vec::new();
    let read = input.take(MAX_INPUT + 1).read_to_end(&mut text);
    read.map_err(|error| Failure::new(code::IO, "cannot read standard input", error.to_string()))?;
    let wrong = |details: &str| Failure::new(code::DECODE, "standard input is no network configuration", details);
    if text.len() as u64 > MAX_INPUT {
        return Err(wrong("it is larger than 1 MiB"));
    }
    String::from_utf8(text).map_err(|_| wrong("it is not UTF-8"))
}

fn answer(config: &Config, environment: &Environment) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(code::IO, "cannot start", error.to_string()))?;
    let socket = config.socket.clone().unwrap_or_else(|| PathBuf::from(agent_api::SOCKET));
    runtime.block_on(ask::ask(&socket, config, environment))
}
