//! `kubectl attach`: what a container writes from now on, until it ends.
//!
//! It is read from the container's log, which has all of it, line by line and both outputs as one. A container's standard
//! input is /dev/null: there is nothing to attach to it.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::context::Node;
use crate::logs::{self, Options};
use crate::runtime::exec::Process;
use crate::runtime::{Container, State};

/// Why a client's input is refused.
pub(super) const NO_INPUT: &str = "attaching to a container's standard input is not supported by this node, only to its output: \
    use `kubectl exec -i` to run a command with input, or `kubectl attach` without -i\n";

/// The container's output as a process that ends with it.
pub(super) fn process(node: &Arc<Node>, container: &Container) -> Process {
    let (to, mut from) = mpsc::channel(8);
    let (node, container) = (node.clone(), container.clone());
    std::thread::spawn(move || {
        let running = || {
            let own = node.runtime.containers(Some(&container.pod.uid));
            own.iter().any(|one| one.id == container.id && one.state == State::Running)
        };
        let options = Options { follow: true, tail: Some(0), ..Options::default() };
        if let Err(error) = logs::stream(&container.config.log_path, &options, running, &to) {
            tracing::warn!(%error, log = %container.config.log_path.display(), "the log cannot be followed");
        }
    });
    let (near, mut far) = tokio::io::duplex(32 << 10);
    tokio::spawn(async move {
        while let Some(data) = from.recv().await {
            if far.write_all(&data).await.is_err() {
                return; // The client is gone.
            }
        }
    });
    Process { stdin: None, stdout: Some(Box::new(near)), stderr: None, terminal: None, exit: Box::pin(async { Ok(0) }) }
}
