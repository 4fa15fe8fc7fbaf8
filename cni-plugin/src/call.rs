//! The one call on the agent's socket, within the deadline. An agent that is absent or hung is "try again later" (11).
use agent_api::{
    CniClient, code,
    v1::{CniGcRequest, CniReply, CniRequest, CniStatusRequest, cni_gc_request},
};
use serde_json::Value;

use crate::{
    config::Config,
    environment::{Command, Environment},
    failure::Failure,
    result,
};

/// Asks the agent; the text is the command's result, empty where it has none.
pub(crate) async fn agent(environment: &Environment, config: &Config, input: &[u8]) -> Result<String, Failure> {
    let patience = config.patience();
    let later = |message: String| Failure::new(code::TRY_LATER, message);
    let exchange = async {
        let channel = agent_api::connect(&config.socket).await.map_err(|error| later(error.to_string()))?;
        let reply = send(CniClient::new(channel), environment, config, input).await;
        reply.map_err(|status| later(format!("the agent could not serve the call: {}", status.message())))
    };
    let reply = tokio::time::timeout(patience, exchange).await.unwrap_or_else(|_| {
        Err(later(format!("the agent at {} did not answer within {} s", config.socket, patience.as_secs())))
    })?;
    if let Some(error) = reply.error {
        return Err(error.into());
    }
    match environment.command {
        Command::Add => added(&reply, config),
        _ => Ok(String::new()),
    }
}

async fn send(
    mut client: CniClient<tonic::transport::Channel>,
    environment: &Environment,
    config: &Config,
    input: &[u8],
) -> Result<CniReply, tonic::Status> {
    let config_json = String::from_utf8_lossy(input).into_owned();
    let request = || CniRequest {
        container_id: environment.container_id.clone(),
        netns: environment.netns.clone(),
        ifname: environment.ifname.clone(),
        args: environment.args.clone(),
        config_json: config_json.clone(),
        prev_result_json: config.prev_result.as_ref().map(|raw| raw.get().to_owned()).unwrap_or_default(),
        timeout_ms: u32::try_from(config.patience().as_millis()).unwrap_or(u32::MAX),
    };
    let reply = match environment.command {
        Command::Add => client.add(request()).await?,
        Command::Del => client.del(request()).await?,
        Command::Check => client.check(request()).await?,
        Command::Gc => {
            let keep = |attachment: &crate::config::Attachment| cni_gc_request::Attachment {
                container_id: attachment.container_id.clone(),
                ifname: attachment.ifname.clone(),
            };
            let valid = config.valid.iter().flatten().map(keep).collect();
            client.gc(CniGcRequest { valid, config_json }).await?
        }
        Command::Status | Command::Version => client.status(CniStatusRequest { config_json }).await?,
    };
    Ok(reply.into_inner())
}

fn added(reply: &CniReply, config: &Config) -> Result<String, Failure> {
    let Some(made) = &reply.result else {
        return Err(Failure::new(code::TRY_LATER, "the agent answered an ADD without a result"));
    };
    let previous: Option<Value> = match &config.prev_result {
        Some(raw) => Some(
            serde_json::from_str(raw.get())
                .map_err(|error| Failure::new(code::DECODE, format!("prevResult: {error}")))?,
        ),
        None => None,
    };
    Ok(result::added(&config.cni_version, made, previous.as_ref()))
}
