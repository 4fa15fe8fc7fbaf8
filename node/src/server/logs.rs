//! `/containerLogs`: a container's log, as it is and as it grows.
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::{Body, text};
use crate::context::Node;
use crate::logs::{self, Options};
use crate::plan;
use crate::pods::Pods;
use crate::runtime::{Container, State};

/// The query of a log request, and whether it asks for the run before.
fn options(query: &str) -> Result<(Options, bool), String> {
    let (mut options, mut previous) = (Options::default(), false);
    let flag = |value: &str| value.is_empty() || value.eq_ignore_ascii_case("true") || value == "1";
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = || {
            value
                .parse::<usize>()
                .map_err(|_| format!("{key}: Invalid value: \"{value}\": must be greater than or equal to 0"))
        };
        match key {
            "follow" => options.follow = flag(value),
            "timestamps" => options.timestamps = flag(value),
            "previous" => previous = flag(value),
            "tailLines" => options.tail = Some(number()?),
            "limitBytes" => options.limit = Some(number()?),
            "sinceSeconds" => {
                let ago = SignedDuration::from_secs(i64::try_from(number()?).unwrap_or(i64::MAX / 4));
                options.since = Some(Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN));
            }
            "sinceTime" => {
                let time = value.replace("%3A", ":").replace("%3a", ":").replace("%2B", "+");
                options.since = Some(time.parse().map_err(|_| format!("sinceTime: Invalid value: \"{value}\""))?);
            }
            _ => {}
        }
    }
    Ok((options, previous))
}

/// The run whose log is asked for, or the status and the kubelet's words for why there is none.
fn choose(
    node: &Node,
    pods: &Pods,
    names: (&str, &str, &str),
    previous: bool,
) -> Result<Container, (StatusCode, String)> {
    let (namespace, name, container) = names;
    let Some(pod) = pods.find(namespace, name) else {
        return Err((
            StatusCode::NOT_FOUND,
            format!("pod \"{name}\" not found in namespace \"{namespace}\" on this node\n"),
        ));
    };
    let spec = pod.spec.as_ref();
    let known = spec.is_some_and(|spec| {
        spec.init_containers.iter().flatten().chain(&spec.containers).any(|one| one.name == container)
    });
    if !known {
        return Err((StatusCode::NOT_FOUND, format!("container {container} not found in pod {name}\n")));
    }
    let own = node.runtime.containers(pod.metadata.uid.as_deref());
    if previous {
        let before =
            plan::previous(&own, container).or_else(|| plan::latest(&own, container).filter(|one| one.exit.is_some()));
        return before.cloned().ok_or_else(|| {
            (
                StatusCode::BAD_REQUEST,
                format!("previous terminated container \"{container}\" in pod \"{name}\" not found"),
            )
        });
    }
    let newest = plan::latest(&own, container).filter(|one| one.started_at.is_some());
    newest.cloned().ok_or_else(|| {
        let status = pod.status.clone().unwrap_or_default();
        let all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
        let waiting = all.filter(|one| one.name == container).find_map(|one| one.state?.waiting?.reason);
        let reason = match waiting.as_deref() {
            Some("ErrImagePull") => "image can't be pulled",
            Some("ImagePullBackOff") => "trying and failing to pull image",
            Some(reason) => reason,
            None => "ContainerCreating",
        };
        (StatusCode::BAD_REQUEST, format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}"))
    })
}

/// Answers a log request.
pub(super) fn answer(node: &Arc<Node>, pods: &Pods, names: (&str, &str, &str), query: &str) -> Response<Body> {
    let (options, previous) = match options(query) {
        Ok(asked) => asked,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let container = match choose(node, pods, names, previous) {
        Ok(container) => container,
        Err((status, message)) => return text(status, message),
    };
    let (to, from) = mpsc::channel(16);
    let (node, id, uid) = (node.clone(), container.id.clone(), container.pod.uid.clone());
    std::thread::spawn(move || {
        let running =
            || node.runtime.containers(Some(&uid)).iter().any(|one| one.id == id && one.state == State::Running);
        if let Err(error) = logs::stream(&container.config.log_path, &options, running, &to) {
            // The answer has begun: its body is all that can still be written.
            let _ = to.blocking_send(Bytes::from(format!(
                "failed to read log {}: {error}\n",
                container.config.log_path.display()
            )));
        }
    });
    let frames = futures::stream::unfold(from, |mut from| async move {
        from.recv().await.map(|bytes| (Ok(Frame::data(bytes)), from))
    });
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = BodyExt::boxed(StreamBody::new(frames));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Result<(Options, bool), &str>) {
        assert_eq!(options(query), expected.map_err(str::to_owned));
    }

    #[test]
    fn queries() {
        check("", Ok((Options::default(), false)));
        check(
            "follow=true&tailLines=5&timestamps=true",
            Ok((Options { follow: true, tail: Some(5), timestamps: true, ..Options::default() }, false)),
        );
        check("previous=true&limitBytes=10&other=1", Ok((Options { limit: Some(10), ..Options::default() }, true)));
        check(
            "sinceTime=2026-11-21T00%3A00%3A00Z",
            Ok((Options { since: "2026-11-21T00:00:00Z".parse().ok(), ..Options::default() }, false)),
        );
        check("tailLines=-1", Err("tailLines: Invalid value: \"-1\": must be greater than or equal to 0"));
    }
}
