//! The two Deployments under load, their Services, and waiting until a change of them is through.
use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, Service},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use local_cluster::IpFamily;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::fixture;

/// Frontend first, as in every pair here.
const NAMES: [&str; 2] = ["frontend", "backend"];
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both tiers.
pub(super) struct Tiers {
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    services: Api<Service>,
}

impl Tiers {
    /// Services first: the frontend finds its backend by the variables of its Service.
    pub(super) async fn create(client: &Client, namespace: &str, families: IpFamily) -> anyhow::Result<Tiers> {
        let tiers = Tiers {
            deployments: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            services: Api::namespaced(client.clone(), namespace),
        };
        for (name, kind) in NAMES.into_iter().zip(["NodePort", "ClusterIP"]) {
            let service = fixture::in_families(service(name, kind), families);
            let typed = serde_json::from_value(service).context("the check's own Service")?;
            let made = tiers.services.create(&PostParams::default(), &typed).await;
            made.with_context(|| format!("creating Service {name}"))?;
        }
        for (name, replicas) in NAMES.into_iter().zip([3, 2]) {
            let typed = serde_json::from_value(deployment(name, replicas)).context("the check's own Deployment")?;
            let made = tiers.deployments.create(&PostParams::default(), &typed).await;
            made.with_context(|| format!("creating Deployment {name}"))?;
        }
        Ok(tiers)
    }

    /// Where the frontends answer on every node.
    pub(super) async fn node_port(&self) -> anyhow::Result<u16> {
        let service = self.services.get(NAMES[0]).await?;
        let port = service.spec.and_then(|spec| spec.ports?.first()?.node_port);
        Ok(u16::try_from(port.context("the frontend's Service has no node port")?)?)
    }

    /// Asks both for other sizes.
    pub(super) async fn scale(&self, replicas: [i32; 2]) -> anyhow::Result<()> {
        self.patch(replicas.map(|replicas| json!({"spec": {"replicas": replicas}}))).await
    }

    /// What `kubectl rollout restart` does, to both.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        let at = Timestamp::now().to_string();
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": at});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.patch([patch.clone(), patch]).await
    }

    async fn patch(&self, patches: [Value; 2]) -> anyhow::Result<()> {
        for (name, patch) in NAMES.into_iter().zip(patches) {
            let patched = self.deployments.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            patched.with_context(|| format!("changing Deployment {name}"))?;
        }
        Ok(())
    }

    /// Waits until both are as asked for and no other pod of theirs is left.
    pub(super) async fn settle(&self, replicas: [i32; 2]) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for (name, replicas) in NAMES.into_iter().zip(replicas) {
            while let Some(why) = self.unsettled(name, replicas).await? {
                if Instant::now() > deadline {
                    bail!(
                        "Deployment {name} of the check is not where it should be after {} s: {why}",
                        PATIENCE.as_secs()
                    );
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    async fn unsettled(&self, name: &str, replicas: i32) -> anyhow::Result<Option<String>> {
        let deployment = self.deployments.get(name).await?;
        let status = deployment.status.unwrap_or_default();
        let (seen, updated, available) =
            (status.observed_generation, status.updated_replicas, status.available_replicas);
        if seen != deployment.metadata.generation || [updated, available, status.replicas] != [Some(replicas); 3] {
            let (updated, available) = (updated.unwrap_or(0), available.unwrap_or(0));
            return Ok(Some(format!("{updated} updated and {available} available of {replicas}")));
        }
        let pods = self.pods.list(&labelled(name)).await?.items.len();
        let wanted = usize::try_from(replicas)?;
        Ok((pods != wanted).then(|| format!("{pods} pods, expected {wanted}")))
    }

    /// The pods of both.
    pub(super) async fn names(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for name in NAMES {
            names.extend(self.pods.list(&labelled(name)).await?.items.into_iter().filter_map(|pod| pod.metadata.name));
        }
        Ok(names)
    }

    /// Makes room for the checks that follow.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        for name in NAMES {
            self.deployments.delete(name, &DeleteParams::background()).await?;
            self.services.delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

fn labelled(name: &str) -> ListParams {
    ListParams::default().labels(&format!("tier={name}"))
}

fn service(name: &str, kind: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"type": kind, "selector": {"tier": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// As in examples/guestbook, with the strategy that a Deployment has if it says nothing.
fn deployment(name: &str, replicas: i32) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"tier": name}},
            "template": {
                "metadata": {"labels": {"tier": name}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "guestbook",
                        "image": "guestbook:1.0",
                        "imagePullPolicy": "IfNotPresent",
                        "args": [name],
                        "env": [field("POD_NAME", "metadata.name"), field("NODE_NAME", "spec.nodeName")],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}
