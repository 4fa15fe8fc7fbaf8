//! One call to the agent, within a deadline. An agent that is absent, refuses or hangs is "try again later" (code 11); to
//! STATUS it means that no ADD would succeed now (code 50). Pods that have their interface need no agent.
use std::{path::Path, time::Duration};

use agent_api::{
    CniClient, code,
    v1::{CniGcRequest, CniReply, CniRequest, CniStatusRequest},
};
use tonic::Status;

use crate::{
    config::Config,
    environment::{Command, Environment},
    failure::Failure,
    result,
};

/// The agent is told less than the caller waits, so that its own words arrive.
const RESERVE: Duration = Duration::from_secs(2);

/// Asks the agent; what is printed.
pub(crate) async fn ask(socket: &Path, config: &Config, environment: &Environment) -> Result<String, Failure> {
    let absent = |details: String| {
        let code = if environment.command == Command::Status { code::NOT_AVAILABLE } else { code::TRY_LATER };
        Failure::new(code, "the agent does not answer", details)
    };
    let exchange = async {
        let channel = agent_api::connect(socket).await.map_err(|error| chain(&error))?;
        let reply = call(CniClient::new(channel), config, environment).await;
        reply.map_err(|status| format!("{}: {}", status.code(), status.message()))
    };
    match tokio::time::timeout(config.timeout, exchange).await {
        Ok(Ok(reply)) => print(reply, config, environment),
        Ok(Err(details)) => Err(absent(details)),
        Err(_) => {
            let (at, limit) = (socket.display(), config.timeout);
            Err(absent(format!("no answer at {at} within {limit:?} (timeoutSeconds of the configuration)")))
        }
    }
}

/// An error and what is behind it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        next = error.source();
    }
    text
}

async fn call(
    mut client: CniClient<tonic::transport::Channel>,
    config: &Config,
    environment: &Environment,
) -> Result<CniReply, Status> {
    let told = config.timeout - RESERVE.min(config.timeout / 4);
    let request = || CniRequest {
        container_id: environment.container_id.clone(),
        netns: environment.netns.clone(),
        ifname: environment.ifname.clone(),
        args: environment.args.clone().into_iter().collect(),
        config_json: config.text.clone(),
        prev_result_json: if config.previous.is_null() { String::new() } else { config.previous.to_string() },
        timeout_ms: u32::try_from(told.as_millis()).unwrap_or(u32::MAX),
    };
    let reply = match environment.command {
        Command::Add => client.add(request()).await,
        Command::Del => client.del(request()).await,
        Command::Check => client.check(request()).await,
        Command::Gc => {
            let valid = config.valid.clone().unwrap_or_default();
            client.gc(CniGcRequest { valid, config_json: config.text.clone() }).await
        }
        Command::Status | Command::Version => {
            client.status(CniStatusRequest { config_json: config.text.clone() }).await
        }
    };
    reply.map(tonic::Response::into_inner)
}

/// What is printed if the agent answers so.
pub(crate) fn print(reply: CniReply, config: &Config, environment: &Environment) -> Result<String, Failure> {
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
