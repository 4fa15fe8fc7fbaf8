//! `weft monitor`: drops and flows of a node as they happen, one line each.

use agent_api::v1::{Event, MonitorRequest};

use super::{Target, answer, ask, endpoint, print};

/// Flags of `weft monitor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these: drop, flow
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only events of this pod, as namespace/name
    #[arg(long)]
    pod: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    ask(&args.target, async |mut agent| {
        let request = MonitorRequest { kinds: args.kinds, pod: args.pod.unwrap_or_default() };
        let mut events = answer(agent.monitor(request).await)?;
        // Whoever waits for the first event should know that it has begun.
        eprintln!("watching; ctrl-c ends it");
        while let Some(event) = answer(events.message().await.map(tonic::Response::new))? {
            if event.lost > 0 {
                print(format_args!("… {} events lost\n", event.lost))?;
            }
            print(format_args!("{}\n", line(&event)))?;
        }
        Ok(())
    })
}

fn line(event: &Event) -> String {
    let time =
        jiff::Timestamp::from_millisecond(event.time_ms).map_or_else(|_| "?".to_owned(), |time| format!("{time:.3}"));
    let mut line = format!("{time} {} {}", event.node, event.kind);
    if !event.reason.is_empty() {
        line += &format!(" {}", event.reason);
    }
    let (source, destination) = (endpoint(event.source.as_ref()), endpoint(event.destination.as_ref()));
    line += &format!(" {} {source} -> {destination}", event.proto);
    if event.backend.is_some() {
        line += &format!(" = {}", endpoint(event.backend.as_ref()));
    }
    if !event.policies.is_empty() {
        line += &format!(" policy {}", event.policies.join(", "));
    }
    line += &format!(" at {} on {}", event.hook, event.device);
    if !event.reason_text.is_empty() {
        line += &format!(": {}", event.reason_text);
    }
    line
}

#[cfg(test)]
mod tests {
    use agent_api::v1::Endpoint;

    use super::*;

    #[test]
    fn a_drop_names_pod_peer_port_and_policy() {
        let end = |name: &str, port| Some(Endpoint { address: "10.244.0.5".to_owned(), port, name: name.to_owned() });
        let event = Event {
            kind: "drop".to_owned(),
            node: "node-1".to_owned(),
            hook: "to_pod".to_owned(),
            device: "weft1".to_owned(),
            reason: "policy_denied".to_owned(),
            proto: "TCP".to_owned(),
            source: end("a/other", 4000),
            destination: end("a/backend", 8080),
            policies: vec!["a/backend".to_owned()],
            ..Event::default()
        };
        let expected = "1970-01-01T00:00:00.000Z node-1 drop policy_denied TCP a/other (10.244.0.5):4000 -> \
                        a/backend (10.244.0.5):8080 policy a/backend at to_pod on weft1";
        assert_eq!(line(&event), expected);
    }
}
