//! The end of a pod: its containers with grace, then its network, volumes and records, and last its object.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};

use super::lifecycle::LEAST_GRACE;
use super::{Worker, report};
use crate::plan;
use crate::pods::Update;
use crate::runtime::{Container, State};

/// Between two tries to take a sandbox down.
const RETRY: Duration = Duration::from_secs(2);

/// How long the pod's containers may take. Of a pod that is gone from the API server already (a forced deletion), none.
fn grace(pod: &Pod, removed: bool) -> Duration {
    if removed {
        return LEAST_GRACE;
    }
    let of_deletion = pod.metadata.deletion_grace_period_seconds;
    let of_spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(of_deletion.or(of_spec).unwrap_or(30).unsigned_abs()).max(LEAST_GRACE)
}

impl Worker {
    /// Ends the pod. Returns when nothing of it is left, here or in the API server.
    pub(super) async fn terminate(mut self, updates: &mut watch::Receiver<Update>, wake: &Arc<Notify>) {
        self.waiting.clear();
        for one in self.containers().iter().filter(|one| one.state == State::Running) {
            self.node.events.normal(
                &self.pod,
                Some(&one.config.name),
                "Killing",
                format!("Stopping container {}", one.config.name),
            );
        }
        self.publish(true);
        self.stop_all(updates, wake).await;
        self.publish(true);
        self.stop_sandboxes().await;
        self.publish(true);
        let removed = updates.borrow().removed;
        self.remove_all().await;
        let Self { node, pod, reporter, .. } = self;
        // The last status must be there before the object goes.
        reporter.finish().await;
        if !removed {
            report::delete(node.client.clone(), &pod).await;
        }
        // The watch tells of the object's end; until then the pod is known, and not taken for a new one.
        while !updates.borrow_and_update().removed {
            if updates.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops all containers, sidecars after the others. A shorter grace that comes meanwhile (`kubectl delete --now`) takes
    /// effect.
    async fn stop_all(&mut self, updates: &mut watch::Receiver<Update>, wake: &Arc<Notify>) {
        let begun = Instant::now();
        let mut hooked: BTreeSet<String> = BTreeSet::new();
        loop {
            let whole = grace(&self.pod, updates.borrow().removed);
            let left = whole.saturating_sub(begun.elapsed()).max(LEAST_GRACE);
            let running = self.next_to_stop();
            if running.is_empty() {
                return;
            }
            let stopper = self.stopper();
            let stop = |one: &Container| {
                let spec = self.spec_of(&one.config.name).cloned();
                stopper.clone().stop(spec, one.id.clone(), left, !hooked.contains(&one.id))
            };
            let mut stops: FuturesUnordered<_> = running.iter().map(stop).collect();
            hooked.extend(running.iter().map(|one| one.id.clone()));
            loop {
                tokio::select! {
                    stopped = stops.next() => match stopped {
                        Some(Ok(())) => {}
                        Some(Err(error)) => tracing::warn!(error = error.text(), pod = plan::full_name(&self.pod), "a container could not be stopped"),
                        None => break,
                    },
                    () = wake.notified() => {}
                    changed = updates.changed() => {
                        let update = updates.borrow_and_update().clone();
                        self.pod = update.pod;
                        if changed.is_err() || grace(&self.pod, update.removed) < whole {
                            break;
                        }
                    }
                }
                self.publish(true);
            }
        }
    }

    /// All that run and are no sidecars; when there are none, the sidecar that the spec names last.
    fn next_to_stop(&self) -> Vec<Container> {
        let (sidecars, others): (Vec<_>, Vec<_>) = self
            .containers()
            .into_iter()
            .filter(|one| one.state == State::Running)
            .partition(|one| self.is_sidecar(one));
        if others.is_empty() { self.last_named(sidecars).into_iter().collect() } else { others }
    }

    fn is_sidecar(&self, container: &Container) -> bool {
        let init = self.pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        init.into_iter().any(|one| one.name == container.config.name && plan::is_sidecar(one))
    }

    fn last_named(&self, containers: Vec<Container>) -> Option<Container> {
        let init = self.pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        containers.into_iter().max_by_key(|found| init.iter().position(|one| one.name == found.config.name))
    }

    /// The others have ended for good: sidecars follow, the last one first, within the pod's grace.
    pub(super) async fn stop_sidecars(&mut self) {
        let end = Instant::now() + grace(&self.pod, false);
        loop {
            let running = self.next_to_stop();
            let Some(one) = running.into_iter().find(|one| self.is_sidecar(one)) else { return };
            let left = end.saturating_duration_since(Instant::now()).max(LEAST_GRACE);
            let spec = self.spec_of(&one.config.name).cloned();
            if let Err(error) = self.stopper().stop(spec, one.id.clone(), left, true).await {
                // The sandbox's end takes it along.
                tracing::warn!(error = error.text(), container = one.id, "a sidecar could not be stopped");
                return;
            }
            self.publish(false);
        }
    }

    /// The network goes down however often the plugin must be asked; the address is not given away before.
    async fn stop_sandboxes(&self) {
        for sandbox in self.sandboxes() {
            while let Err(error) = self.node.runtime.stop_sandbox(&sandbox.id).await {
                self.node.events.warning(
                    &self.pod,
                    None,
                    "FailedKillPod",
                    format!("error killing pod: {}", error.text()),
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn remove_all(&self) {
        for sandbox in self.sandboxes() {
            if let Err(error) = self.node.runtime.remove_sandbox(&sandbox.id).await {
                tracing::warn!(
                    error = error.text(),
                    sandbox = sandbox.id,
                    "a sandbox could not be removed, the next cleaning tries again"
                );
            }
        }
        if let Err(error) = crate::volumes::tear_down(&self.node.pod_dir(&self.uid)) {
            tracing::warn!(%error, pod = plan::full_name(&self.pod), "a pod's directory could not be removed, the next cleaning tries again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(deletion: Option<i64>, spec: Option<i64>, removed: bool, expected: u64) {
        let pod = serde_json::json!({"metadata": {"deletionGracePeriodSeconds": deletion}, "spec": {"terminationGracePeriodSeconds": spec, "containers": []}});
        assert_eq!(grace(&serde_json::from_value(pod).expect("a pod"), removed), Duration::from_secs(expected));
    }

    #[test]
    fn the_grace_of_a_deletion() {
        check(Some(5), Some(60), false, 5);
        check(None, Some(60), false, 60);
        check(None, Some(60), true, 2);
        check(None, None, false, 30);
        check(Some(0), Some(60), false, 2);
    }
}
