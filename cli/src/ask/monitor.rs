//! `weft monitor`: drops, new flows, and flows without a safe place, of a node as they happen, one line each.
//!
//! Whoever reads it may go at any time (`| head -1`): then it ends without a word, also when nothing happens any more.

use std::{io::stdout, os::fd::AsFd as _};

use agent_api::v1::{Event, MonitorRequest, StatusRequest};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Format, Target, answer, ask, endpoint, pod_name, print};

/// Flags of `weft monitor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these; new flows are told of while somebody asks for them by `--kind flow`
    #[arg(long = "kind", value_name = "KIND", value_parser = ["drop", "flow", "half-open"])]
    kinds: Vec<String>,
    /// Only events of this pod, as namespace/name
    #[arg(long, value_parser = pod_name)]
    pod: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    ask(&args.target, async |mut agent| {
        let asked = args.kinds.iter().any(|kind| kind == "flow");
        let flows = asked || answer(agent.status(StatusRequest {}).await)?.flow_events;
        let request = MonitorRequest { kinds: args.kinds, pod: args.pod.unwrap_or_default() };
        let mut events = answer(agent.monitor(request).await)?;
        // Whoever waits for the first event should know that it has begun.
        let what = if flows { "drops and new flows" } else { "drops (new flows too with --kind drop --kind flow)" };
        eprintln!("watching {what}; ctrl-c ends it");
        std::thread::spawn(end_with_the_reader);
        while let Some(event) = answer(events.message().await.map(tonic::Response::new))? {
            if args.format.is_json() {
                print(serde_json::to_string(&event)? + "\n")?;
                continue;
            }
            if event.lost > 0 {
                print(format_args!("… {} events lost\n", event.lost))?;
            }
            print(format_args!("{}\n", line(&event)))?;
        }
        Ok(())
    })
}

/// Waits until nobody can read what is printed, and ends the program as a write would.
fn end_with_the_reader() {
    let out = stdout();
    // No event is asked for: a pipe's or a terminal's end is told all the same, and a file has none.
    let mut polled = [PollFd::new(out.as_fd(), PollFlags::empty())];
    while let Ok(_) | Err(nix::errno::Errno::EINTR) = poll(&mut polled, PollTimeout::NONE) {
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        if polled[0].revents().is_some_and(|events| events.intersects(gone)) {
            std::process::exit(0);
        }
    }
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
