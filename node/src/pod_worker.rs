//! One pod from the moment it is bound here until nothing of it is left.
//!
//! sync (plan → steps → status, again and again) → terminating (grace) → terminated (network, volumes, the object). It is
//! level-triggered: every turn looks at the newest pod and at what really runs; nothing depends on having seen an event.

mod configure;
mod lifecycle;
mod report;
mod start;
mod terminate;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodStatus};
use tokio::sync::{Notify, watch};

use crate::backoff::Backoff;
use crate::context::Node;
use crate::plan::{self, Step, plan};
use crate::pods::Update;
use crate::probes::Probes;
use crate::runtime::{Container, Sandbox};
use crate::status::{self, Waiting};
use crate::volumes::{Tokens, Volumes};
use report::Reporter;

/// How often a pod is looked at when nothing happens: its volumes are brought up to date then.
const RESYNC: Duration = Duration::from_secs(60);

/// A pod and everything that is remembered of it.
struct Worker {
    node: Arc<Node>,
    pod: Arc<Pod>,
    uid: String,
    backoff: Backoff,
    pulls: Backoff,
    /// When an image was last asked for in vain, by container.
    pull_failed: BTreeMap<String, Timestamp>,
    waiting: BTreeMap<String, Waiting>,
    messages: BTreeMap<String, String>,
    probes: Probes,
    tokens: Tokens,
    volumes: Option<Volumes>,
    refreshed: Option<Instant>,
    status: PodStatus,
    reporter: Reporter,
    failures: u32,
}

/// How a step went.
enum Outcome {
    /// Something changed: look again.
    Done,
    /// Nothing to do before this time is over, or something happens.
    Later(Duration),
}

/// Runs the pod to its end.
pub(crate) async fn run(node: Arc<Node>, mut updates: watch::Receiver<Update>, wake: Arc<Notify>) {
    let first = updates.borrow_and_update().clone();
    let mut worker = Worker::new(node, first.pod, wake.clone());
    loop {
        let update = updates.borrow_and_update().clone();
        worker.pod = update.pod;
        if update.removed || worker.pod.metadata.deletion_timestamp.is_some() {
            return worker.terminate(&mut updates, &wake).await;
        }
        let wait = worker.sync().await;
        tokio::select! {
            changed = updates.changed() => if changed.is_err() { return },
            () = wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Worker {
    fn new(node: Arc<Node>, pod: Arc<Pod>, wake: Arc<Notify>) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let reporter = Reporter::start(node.client.clone(), &pod, status.clone());
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            backoff: Backoff::default(),
            pulls: Backoff::default(),
            pull_failed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            messages: BTreeMap::new(),
            probes: Probes::new(wake),
            tokens: Tokens::default(),
            volumes: None,
            refreshed: None,
            status,
            reporter,
            failures: 0,
            node,
            pod,
        }
    }

    fn containers(&self) -> Vec<Container> {
        self.node.runtime.containers(Some(&self.uid))
    }

    fn sandboxes(&self) -> Vec<Sandbox> {
        self.node.runtime.sandboxes(Some(&self.uid))
    }

    fn sandbox(&self) -> Option<Sandbox> {
        self.sandboxes().into_iter().max_by_key(|sandbox| (sandbox.attempt, sandbox.created_at))
    }

    /// The pod's addresses: the sandbox's, or the node's own with hostNetwork; the node's primary family first.
    fn ips(&self) -> Vec<IpAddr> {
        if self.host_network() {
            self.node.ips.iter().collect()
        } else {
            let sandbox = self.sandbox().filter(|sandbox| sandbox.ready);
            sandbox.map(|sandbox| self.node.ips.order(&sandbox.ips)).unwrap_or_default()
        }
    }

    fn host_network(&self) -> bool {
        self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
    }

    fn spec_of(&self, name: &str) -> Option<&Spec> {
        let spec = self.pod.spec.as_ref()?;
        spec.init_containers.iter().flatten().chain(&spec.containers).find(|one| one.name == name)
    }

    /// Takes steps until there is nothing to do now; returns how long until there may be.
    async fn sync(&mut self) -> Duration {
        if matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            self.finish().await;
            return RESYNC;
        }
        self.refresh_volumes().await;
        let wait = loop {
            self.publish(false);
            let steps = self.plan();
            let mut progress = false;
            let mut wait = RESYNC;
            for step in steps {
                match self.take(step).await {
                    Outcome::Done => progress = true,
                    Outcome::Later(later) => wait = wait.min(later),
                }
            }
            if !progress {
                break wait;
            }
        };
        self.publish(false);
        wait
    }

    fn plan(&self) -> Vec<Step> {
        let (containers, sandboxes) = (self.containers(), self.sandboxes());
        let spec_of =
            |id: &str| containers.iter().find(|one| one.id == id).and_then(|one| self.spec_of(&one.config.name));
        plan(&plan::Input {
            pod: &self.pod,
            containers: &containers,
            sandboxes: &sandboxes,
            backoff: &self.backoff,
            failed_probe: &|id| self.probes.failed(id),
            started: &|id| self.probes.probed(spec_of(id), id).started,
            now: Timestamp::now(),
        })
    }

    async fn take(&mut self, step: Step) -> Outcome {
        match step {
            Step::Sandbox { attempt } => self.make_sandbox(attempt).await,
            Step::Start { name, attempt, ended } => self.start(&name, attempt, ended).await,
            Step::Kill { id, name, probe } => self.kill(&id, &name, probe).await,
            Step::Wait { name, left, message } => {
                let new = Waiting { reason: "CrashLoopBackOff".to_owned(), message };
                if self.waiting.insert(name.clone(), new.clone()) != Some(new) {
                    let pod = plan::full_name(&self.pod);
                    self.node.events.warning(
                        &self.pod,
                        Some(&name),
                        "BackOff",
                        format!("Back-off restarting failed container {name} in pod {pod}"),
                    );
                }
                Outcome::Later(Duration::try_from(left).unwrap_or_default())
            }
            Step::Finish => {
                self.finish().await;
                Outcome::Later(RESYNC)
            }
        }
    }

    /// All containers have ended for good: the pod's network and volumes are not held for its logs.
    async fn finish(&mut self) {
        // A finished pod of which nothing is on record here keeps the status that the API server has.
        if !self.containers().is_empty() {
            self.publish(false);
        }
        self.stop_sidecars().await;
        for sandbox in self.sandboxes().into_iter().filter(|sandbox| sandbox.ready) {
            if let Err(error) = self.node.runtime.stop_sandbox(&sandbox.id).await {
                tracing::warn!(
                    error = error.text(),
                    pod = plan::full_name(&self.pod),
                    "a finished pod's sandbox could not be stopped"
                );
            }
        }
    }

    /// Brings the probes and the status up to date with what runs.
    fn publish(&mut self, terminating: bool) {
        let (containers, sandbox, ips) = (self.containers(), self.sandbox(), self.ips());
        let newest: Vec<Container> = containers
            .iter()
            .filter(|one| plan::latest(&containers, &one.config.name).is_some_and(|latest| latest.id == one.id))
            .cloned()
            .collect();
        self.probes.update(&self.node, &self.pod, &newest, ips.first().copied());
        self.read_messages(&containers);
        let spec_of =
            |id: &str| containers.iter().find(|one| one.id == id).and_then(|one| self.spec_of(&one.config.name));
        self.status = status::generate(&status::Input {
            pod: &self.pod,
            old: &self.status,
            containers: &containers,
            sandbox: sandbox.as_ref(),
            waiting: &self.waiting,
            probed: &|id| self.probes.probed(spec_of(id), id),
            messages: &self.messages,
            node_ips: self.node.ips,
            terminating,
            now: Timestamp::now(),
        });
        self.reporter.set(self.status.clone(), self.pod.status.as_ref());
    }

    /// Reads the termination messages of containers that have ended since the last look.
    fn read_messages(&mut self, containers: &[Container]) {
        for container in containers {
            let Some(exit) = container.exit.as_ref().filter(|_| !self.messages.contains_key(&container.id)) else {
                continue;
            };
            let file = container
                .config
                .termination_log
                .as_ref()
                .and_then(|path| std::fs::read_to_string(path).ok())
                .unwrap_or_default();
            let from_log = self
                .spec_of(&container.config.name)
                .is_some_and(|spec| spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"));
            let text = if file.is_empty() && from_log && exit.code != 0 {
                crate::logs::tail(&container.config.log_path, 80)
            } else {
                file
            };
            let text = if text.is_empty() { exit.message.clone() } else { text };
            self.messages.insert(container.id.clone(), text.chars().take(4096).collect());
        }
        self.messages.retain(|id, _| containers.iter().any(|one| one.id == *id));
    }
}
