//! One call to the agent, within a deadline: an agent that is absent or hangs is "try again later" (code 11).
use std::{path::Path, time::Duration};

use agent_api::{
    CniClient, code,
    v1::{CniGcRequest, CniReply, CniRequest, CniStatusRequest},
};
use tonic::{Response, Status};

use crate::{
    config::Config,
    environment::{Command, Environment},
    failure::Failure,
    result,
};

/// For the whole call. The agent is told less, so that its own words arrive.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much less.
const RESERVE: Duration = Duration::from_secs(2);
/// To reach the socket.
const CONNECT: Duration = Duration::from_secs(5);

/// Asks the agent; what is printed.
pub(crate) async fn ask(socket: &Path, config: &Config, environment: &Environment) -> Result<String, Failure> {
    let later = |details: String| Failure::new(code::TRY_LATER, "the agent does not answer", details);
    let channel = match tokio::time::timeout(CONNECT, agent_api::connect(socket)).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(later(error.to_string())),
        Err(_) => return Err(later(format!("nobody accepts at {} within {CONNECT:?}", socket.display()))),
    };
    let client = CniClient::new(channel);
    match tokio::time::timeout(DEADLINE, call(client, config, environment)).await {
        Ok(Ok(reply)) => print(reply.into_inner(), config, environment),
        Ok(Err(status)) => Err(later(format!("{}: {}", status.code(), status.message()))),
        Err(_) => Err(later(format!("no answer within {DEADLINE:?}"))),
    }
}

async fn call(
    mut client: CniClient<tonic::transport::Channel>,
    config: &Config,
    environment: &Environment,
) -> Result<Response<CniReply>, Status> {
    let request = || CniRequest {
        container_id: environment.container_id.clone(),
        netns: environment.netns.clone(),
        ifname: environment.ifname.clone(),
        args: environment.args.clone().into_iter().collect(),
        config_json: config.text.clone(),
        prev_result_json: if config.previous.is_null() { String::new() } else { config.previous.to_string() },
        timeout_ms: u32::try_from((DEADLINE - RESERVE).as_millis()).unwrap_or(u32::MAX),
    };
    match environment.command {
        Command::Add => client.add(request()).await,
        Command::Del => client.del(request()).await,
        Command::Check => client.check(request()).await,
        Command::Gc => client.gc(CniGcRequest { valid: config.valid.clone(), config_json: config.text.clone() }).await,
        Command::Status | Command::Version => {
            client.status(CniStatusRequest { config_json: config.text.clone() }).await
        }
    }
}

fn print(reply: CniReply, config: &Config, environment: &Environment) -> Result<String, Failure> {
    if let Some(error) = reply.error {
        return Err(Failure::new(error.code, error.msg, error.details));
    }
    match (environment.command, reply.result) {
        (Command::Add, Some(result)) => Ok(result::added(&result, config)),
        (Command::Add, None) => {
            Err(Failure::new(code::TRY_LATER, "the agent does not answer", "its answer to ADD has no result"))
        }
        _ => Ok(String::new()),
    }
}
